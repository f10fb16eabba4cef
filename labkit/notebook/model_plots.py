"""Figures that compare models, drawn from rows of the board alone, and figures of what is inside a model."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labkit.corpora.types import Dialogue
from labkit.errors import LabError
from labkit.notebook.look import (
    METRICS,
    PALETTE,
    Row,
    check_choice,
    error_bars,
    figure,
    line_look,
    named,
    plain,
    stand_in_mark,
    titled,
)
from labkit.notebook.view import BUBBLE, highlighted
from labkit.prompts.format import current_domain
from labkit.prompts.text import delexicalise, one_line
from labkit.results.row import tuned_or_not
from labkit.shown import Shown

Rows = Iterable[Row]
Values = np.ndarray | Sequence[Sequence[float | None]]  # [R, C]; None: nothing to show in that cell
AXES = {  # what a row is placed by -> the axis' title
    "parameters": "parameters of the base model",
    "flops": "training compute in FLOP: 6 × parameters × tokens (Kaplan et al. 2020)",
    "memory": "planned peak memory (MB)",
}
TITLES = METRICS | {"combined": "Combined", "perplexity": "perplexity of the true replies"}
STATES = ("untuned", "tuned")
MOST_WEIGHTS = 500_000  # attention weights in one figure: about 3 MB in a notebook


def against(rows: Rows, x: str = "parameters", metrics: Sequence[str] = tuple(METRICS), title: str = "") -> go.Figure:
    """Scores against one of AXES, a panel for each metric, with 95 % intervals; untuned and tuned are two lines.

    Rows that failed, or lack the figure (an untuned model took no training), are left out.

    Raises:
        LabError: there is no such axis or metric.
    """
    check_choice("axis", x, AXES)
    for metric in metrics:
        check_choice("metric", metric, TITLES)
    found = sorted((row for row in rows if row.get(x)), key=lambda row: row[x])
    question = title or f"Does more help? Scores against {AXES[x].split(' (')[0]}"
    panels = [TITLES[metric] for metric in metrics]
    if len(panels) == 1:
        shown = make_subplots(1, 1)
        y_title = panels[0]
    else:
        shown = make_subplots(1, len(metrics), subplot_titles=panels)
        y_title = "score (0 to 100)"
    shown.update_layout(template="lab", title=plain(titled(question, found)), height=420, margin_t=80, margin_b=90)
    for column, metric in enumerate(metrics, 1):
        for order, name in enumerate(STATES):
            rows_of_line = [row for row in found if tuned_or_not(row) == name and row.get(metric) is not None]
            shown.add_scatter(
                x=[row[x] for row in rows_of_line],
                y=[row[metric] for row in rows_of_line],
                text=[plain(named(row)) for row in rows_of_line],
                error_y=error_bars(rows_of_line, metric),
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                line_color=PALETTE[order],
                row=1,
                col=column,
                **line_look(order),
            )
    shown.add_annotation(
        text=AXES[x],
        xref="paper",
        yref="paper",
        x=0.5,
        y=-0.14,
        yanchor="top",
        showarrow=False,
    )
    shown.update_xaxes(type="log", dtick="D2", exponentformat="power" if x == "flops" else "SI")
    shown.update_yaxes(rangemode="nonnegative")
    return shown.update_yaxes(title_text=y_title, col=1)


def label(row: Row) -> str:
    """The model of a row without its owner, and whether it was tuned."""
    return f"{row['model'].split('/')[-1]}, {tuned_or_not(row)}"


def heat(
    values: Values,
    columns: Sequence[str],
    rows: Sequence[str],
    title: str,
    *,
    names: tuple[str, str, str] = ("", "", ""),
    top: float | None = None,
    texts: Sequence[Sequence[str]] | None = None,
) -> go.Figure:
    """A heat map of values [R, C] from 0 to `top` (by default the largest), with `texts` in its cells.

    `names` are of columns, rows and values. One hue, light to dark, reads in grey as well. Columns and rows are
    numbered, so that a name may come twice.
    """
    x, y, value = names
    shown = figure(title, x, y, height=200 + (40 if texts else 14) * len(rows))
    known = [cell for line in values for cell in line if cell is not None]
    hover = f"{plain(y)} %{{y}}<br>{plain(x)} %{{x}}<br>{plain(value)} %{{z:.2f}}<extra></extra>"
    shown.add_heatmap(
        z=values,
        zmin=0,
        zmax=top or max(known, default=1),
        colorscale="Blues",
        colorbar={"title": plain(value)},
        hovertemplate=hover,
    )
    if texts:
        written = [[plain(text) for text in line] for line in texts]
        shown.update_traces(text=written, texttemplate="%{text}")
    shown.update_xaxes(showgrid=False, **_ticks(columns))
    shown.update_yaxes(showgrid=False, autorange="reversed", **_ticks(rows))
    return shown


def _ticks(names: Sequence[str]) -> dict[str, object]:
    """Every name at its number; smaller where there are many, so that none is left out."""
    ticks: dict[str, object] = {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": [plain(name) for name in names],
    }
    if len(names) > 20:
        ticks["tickfont"] = {"size": 10}
    return ticks


def by_domain(rows: Rows, rate: str = "success") -> go.Figure:
    """Inform or Success in every domain, a line for each model: figures in a heat map; empty where no goal was.

    Raises:
        LabError: `rate` is neither "inform" nor "success".
    """
    check_choice("rate", rate, ("inform", "success"))
    found = [row for row in rows if (row.get("per_domain") or {}).get(rate)]
    domains = sorted({domain for row in found for domain in row["per_domain"][rate]})
    values = []
    texts = []
    for row in found:
        rates = row["per_domain"][rate]
        line = [rates.get(domain) for domain in domains]
        values.append(line)
        texts.append([_rate(value) for value in line])
    name = TITLES[rate]
    return heat(
        values,
        domains,
        [label(row) + stand_in_mark(row, found) for row in found],
        titled(f"{name} by domain (%)", found),
        names=("domain of the goal", "", f"{name} (%)"),
        top=100,
        texts=texts,
    )


def _rate(value: float | None) -> str:
    """A rate as its cell says it; nothing where no goal was in the domain."""
    return "" if value is None else f"{value:.0f}"


def attention(
    weights: Sequence[np.ndarray], tokens: Sequence[str], *, layer: int = 0, head: int = 0, title: str = "Attention"
) -> go.Figure:
    """Attention of every layer and head in one figure: a slider chooses the layer, a menu the head. No kernel needed.

    Args:
        weights: for each layer what `inside.attention` returns, [heads, T, T]: row t says where token t looks.
        tokens: texts of the tokens, [T], of `inside.tokens`.
        layer, head: what is shown first.

    Of a model with very many heads, layers are left out evenly; the slider names those that are there.

    Raises:
        LabError: no layer, or no such layer or head.
    """
    if not len(weights):
        raise LabError("no attention to show", "no layer", "give the weights of at least one layer")
    heads = len(weights[0])
    if layer not in range(len(weights)) or head not in range(heads):
        found = f"{len(weights)} layers of {heads} heads, counted from 0"
        raise LabError(f"no layer {layer} with a head {head}", found, "choose one of these")
    kept = _kept_layers(len(weights), np.asarray(weights[0]).size, layer)
    rounded = [np.asarray(weights[number], dtype=float).round(3) for number in kept]  # each [heads, T, T]

    shown = heat([], tokens, tokens, title, names=("looked at", "looking", "weight"))
    shown.data = ()
    for number, maps in zip(kept, rounded, strict=True):
        shown.add_heatmap(
            z=maps[head],
            zmin=0,
            zmax=1,
            visible=number == layer,
            name=f"layer {number}",
            colorscale="Blues",
            colorbar={"title": "weight"},
            hovertemplate="%{y} looks at %{x}: %{z:.2f}",
        )
    shown.update_layout(
        sliders=[_layer_slider(kept, layer)],
        updatemenus=[_head_menu(rounded, head)],
        title={"y": 0.99, "yanchor": "top"},
        margin_t=90,
        height=shown.layout.height + 180,
    )
    return shown.update_xaxes(tickangle=-90)


def _layer_slider(layers: Sequence[int], first: int) -> dict[str, object]:
    """A slider that changes which layer's trace is visible."""
    steps = []
    for layer in layers:
        visible = [other == layer for other in layers]
        steps.append({"label": str(layer), "method": "restyle", "args": [{"visible": visible}]})
    return {
        "steps": steps,
        "active": layers.index(first),
        "currentvalue": {"prefix": "layer "},
        "pad": {"t": 90},
    }


def _head_menu(weights: Sequence[np.ndarray], first: int) -> dict[str, object]:
    """A menu that changes what all layers' traces hold, so that it and the slider leave each other alone."""
    entries = []
    for head in range(len(weights[0])):
        maps = [layer[head].tolist() for layer in weights]  # each [T, T]
        entries.append({"label": f"head {head}", "method": "restyle", "args": [{"z": maps}]})
    return {
        "buttons": entries,
        "active": first,
        "x": 0,
        "xanchor": "left",
        "y": 1.01,
        "yanchor": "bottom",
    }


def _kept_layers(n_layers: int, weights_in_a_layer: int, wanted: int) -> list[int]:
    """Numbers of the layers that a browser can hold, `wanted` among them."""
    weights = n_layers * weights_in_a_layer
    step = math.ceil(weights / MOST_WEIGHTS)
    first = wanted % step
    return list(range(first, n_layers, step))


def surprise(dialogue: Dialogue, perplexities: Sequence[float]) -> Shown:
    """A dialogue with the perplexity of every turn: in figures, and the darker the more surprised.

    Raises:
        LabError: not one perplexity for each turn.
    """
    said = _as_read(dialogue)
    if len(said) != len(perplexities):
        found = f"{len(perplexities)} perplexities for {len(said)} turns"
        raise LabError(f"dialogue {dialogue.dialogue_id} needs one figure a turn", found, "use turn_perplexities")
    worst = max(perplexities, default=1.0)
    head = f"{dialogue.dialogue_id}: perplexity of every turn"
    lines = [head]
    rows = []
    for value, text in zip(perplexities, said, strict=True):
        lines.append(f"{value:8.1f}  {text}")
        shade = 0.05 + 0.45 * value / worst
        style = f"{BUBBLE}background:rgba(213,94,0,{shade:.2f})"
        rows.append(f'<div role="listitem" style="{style}">{value:.1f}  {highlighted(text)}</div>')
    title = f"<p><b>{highlighted(head)}</b></p>"
    turns = "".join(rows)
    return Shown(f'{title}<div role="list">{turns}</div>', "\n".join(lines))


def _as_read(dialogue: Dialogue) -> list[str]:
    """Each turn as the model reads it, replies with placeholders; a last user turn without a reply is not read."""
    said = []
    for user, bot in zip(dialogue.turns[::2], dialogue.turns[1::2], strict=False):
        reply = delexicalise(bot, current_domain(bot.state, user))
        said.append(f"user> {one_line(user.utterance)}")
        said.append(f"bot> {reply}")
    return said
