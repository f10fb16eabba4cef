"""Figures that compare models, drawn from rows of the board alone, and figures of what is inside a model."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from labkit.corpora.types import Dialogue
from labkit.notebook.plots import METRICS, PALETTE, _bars, _line, figure, named
from labkit.notebook.view import BUBBLE, highlighted
from labkit.prompts.format import exchanges
from labkit.shown import Shown

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go

Rows = Iterable[Mapping[str, Any]]
AXES = {  # what a row is placed by -> the axis' title
    "parameters": "parameters of the base model",
    "flops": "training compute in FLOP: 6 × parameters × tokens (Kaplan et al. 2020)",
    "memory": "planned peak memory (MB)",
}
TITLES = METRICS | {"combined": "Combined", "perplexity": "perplexity of the true replies"}
STATES = ("untuned", "tuned")


def against(rows: Rows, x: str = "parameters", metrics: Sequence[str] = tuple(METRICS), title: str = "") -> "go.Figure":
    """Scores against one of AXES, a panel for each metric, with 95 % intervals; untuned and tuned are two lines.

    Rows that failed, or lack the figure (an untuned model took no training), are left out.
    """
    from plotly.subplots import make_subplots

    found = sorted((row for row in rows if row.get(x)), key=lambda row: row[x])
    shown = figure(_titled(title or f"Does more help? Scores against {AXES[x].split(' (')[0]}", found), height=420)
    panels = [TITLES[metric] for metric in metrics] if len(metrics) > 1 else None  # else the axis says it
    make_subplots(1, len(metrics), subplot_titles=panels, figure=shown.update_layout(margin_t=80))
    for column, metric in enumerate(metrics, 1):
        for order, name in enumerate(STATES):
            some = [row for row in found if state(row) == name and row.get(metric) is not None]
            points = {"x": [row[x] for row in some], "y": [row[metric] for row in some]}
            look = _line(order) | {"line_color": PALETTE[order], "legendgroup": name, "showlegend": column == 1}
            look |= {"text": [named(row) for row in some], "error_y": _bars(some, metric)}
            shown.add_scatter(**points, **look, name=name, row=1, col=column)
    shown.add_annotation(text=AXES[x], xref="paper", yref="paper", x=0.5, y=-0.2, showarrow=False)
    grid = {"gridcolor": "#dddddd", "zerolinecolor": "#888888"}
    shown.update_xaxes(type="log", title="", exponentformat="power" if x == "flops" else "SI", **grid)
    y = TITLES[metrics[0]] if len(metrics) == 1 else "score (0 to 100)"
    return shown.update_yaxes(title="", rangemode="nonnegative", **grid).update_yaxes(title=y, col=1)


def state(row: Mapping[str, Any]) -> str:
    """Whether the model of a row was tuned."""
    return STATES[bool(row.get("adapter"))]


def label(row: Mapping[str, Any]) -> str:
    """The model of a row without its owner, and whether it was tuned."""
    return f"{row['model'].split('/')[-1]}, {state(row)}"


def _titled(title: str, rows: Rows) -> str:
    return title + " (stand-ins)" * any(row.get("stand_in") for row in rows)


def heat(
    values: "np.ndarray | Sequence[Sequence[float]]",
    columns: Sequence[str],
    rows: Sequence[str],
    title: str,
    *,
    names: tuple[str, str, str] = ("", "", ""),
    top: float | None = None,
    texts: Sequence[Sequence[str]] | None = None,
) -> "go.Figure":
    """A heat map of values [R, C] from 0 to `top` (by default the largest), with `texts` in its cells.

    `names` are of columns, rows and values. One hue, light to dark, reads in grey as well. Columns and rows are
    numbered, so that a name may come twice.
    """
    x, y, value = names
    shown = figure(title, x, y, height=200 + (40 if texts else 14) * len(rows))
    hover = f"{y} %{{y}}<br>{x} %{{x}}<br>{value} %{{z:.2f}}<extra></extra>"
    look = {
        "colorscale": "Blues",
        "zmin": 0,
        "zmax": top or max(map(max, values)),
        "colorbar": {"title": value},
        "hovertemplate": hover,
    }
    written = [list(map(escape, line)) for line in texts or ()]
    shown.add_heatmap(z=values, **look, **({"text": written, "texttemplate": "%{text}"} if written else {}))
    ticks = [{"tickvals": list(range(len(some))), "ticktext": list(map(escape, some))} for some in (columns, rows)]
    return shown.update_xaxes(**ticks[0], showgrid=False).update_yaxes(**ticks[1], autorange="reversed", showgrid=False)


def by_domain(rows: Rows, rate: str = "success") -> "go.Figure":
    """Inform or Success in every domain, a line for each model: figures in a heat map; empty where no goal was."""
    found = [row for row in rows if (row.get("per_domain") or {}).get(rate)]
    rates = [row["per_domain"][rate] for row in found]
    domains = sorted({domain for some in rates for domain in some})
    values = [[some.get(domain) for domain in domains] for some in rates]
    texts = [["" if value is None else f"{value:.0f}" for value in line] for line in values]
    names, title = ("domain of the goal", "", f"{TITLES[rate]} (%)"), _titled(f"{TITLES[rate]} by domain (%)", found)
    return heat(values, domains, list(map(label, found)), title, names=names, top=100, texts=texts)


def surprise(dialogue: Dialogue, perplexities: Sequence[float]) -> Shown:
    """A dialogue with the perplexity of every turn: in figures, and the darker the more surprised."""
    texts = [segment.text for exchange in exchanges(dialogue) for segment in exchange]
    said = [text.removesuffix("\nbot>") if i % 2 == 0 else f"bot> {text.strip()}" for i, text in enumerate(texts)]
    lines = [f"{value:8.1f}  {text}" for value, text in zip(perplexities, said, strict=True)]
    shades = [0.05 + 0.45 * value / max(perplexities) for value in perplexities]
    rows = "".join(
        f'<div role="listitem" style="{BUBBLE}background:rgba(213,94,0,{shade:.2f})">{highlighted(line.strip())}</div>'
        for shade, line in zip(shades, lines, strict=True)
    )
    head = f"{dialogue.dialogue_id}: perplexity of every turn"
    return Shown(f'<p><b>{escape(head)}</b></p><div role="list">{rows}</div>', "\n".join([head, *lines]))
