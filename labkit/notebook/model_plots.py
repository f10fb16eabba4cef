"""Plotly figures that compare models, drawn from rows of the board alone, and figures of what is inside a model."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from labkit.corpora.types import Dialogue
from labkit.notebook.plots import MARKERS, METRICS, PALETTE, PATTERNS, figure
from labkit.notebook.view import BUBBLE, Shown, highlighted
from labkit.prompts import exchanges

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import plotly.graph_objects as go

Rows = Iterable[Mapping[str, Any]]
AXES = {  # what a row is placed by -> the axis' title
    "parameters": "parameters of the base model",
    "flops": "training compute in FLOP: 6 × parameters × tokens (Kaplan et al. 2020)",
    "memory": "planned peak memory (MB)",
}
TITLES = METRICS | {"combined": "Combined", "perplexity": "perplexity of the true replies"}
SCALE = "Blues"  # one hue, light to dark, which is read in grey as well; cells have their number, too
STATES = ("untuned", "tuned")
LOOK = {"color": "state", "symbol": "state", "category_orders": {"state": STATES}}
LOOK |= {"color_discrete_sequence": PALETTE, "symbol_sequence": MARKERS}


def against(rows: Rows, x: str = "parameters", metrics: Sequence[str] = tuple(METRICS), title: str = "") -> "go.Figure":
    """Scores against one of AXES, a panel for each metric, with 95 % intervals; untuned and tuned are two lines.

    Rows that failed, or lack the figure (an untuned model took no training), are left out.
    """
    import plotly.express as px

    found = [row | {"x": row[x]} for row in rows if row.get(x)]
    table, errors = _table(found, metrics)
    facets = {"facet_col": "metric", "facet_col_spacing": 0.06} if len(metrics) > 1 else {}
    lines = {"markers": True, "log_x": True, "line_dash": "state", **LOOK}
    shown = px.line(table, "x", "y", hover_name="model", **lines, **facets, **errors).update_traces(marker_size=10)
    shown.for_each_annotation(lambda note: note.update(text=note.text.split("=")[-1]))
    shown.add_annotation(text=AXES[x], xref="paper", yref="paper", x=0.5, y=-0.2, showarrow=False)
    shown.update_xaxes(title="", exponentformat="power" if x == "flops" else "SI")
    title = title or f"Does more help? Scores against {AXES[x].split(' (')[0]}"
    y = "score (0 to 100)" if len(metrics) > 1 else TITLES[metrics[0]]
    return _styled(shown, title, found).update_yaxes(matches=None, showticklabels=True).update_yaxes(title=y, col=1)


def _table(rows: Rows, metrics: Sequence[str]) -> "tuple[pd.DataFrame, dict[str, str]]":
    """Points of rows placed at their "x", and plotly express' words for their intervals, where there are any."""
    import pandas as pd

    points = []
    for row, metric in ((row, metric) for metric in metrics for row in rows if row.get(metric) is not None):
        value, (low, high) = row[metric], (row.get("intervals") or {}).get(metric, (math.nan, math.nan))
        points.append(
            (row["model"].split("/")[-1], state(row), TITLES[metric], row["x"], value, high - value, value - low)
        )
    table = pd.DataFrame(points, columns=["model", "state", "metric", "x", "y", "above", "below"]).sort_values("x")
    return table, {"error_y": "above", "error_y_minus": "below"} if table.above.notna().any() else {}


def state(row: Mapping[str, Any]) -> str:
    """Whether the model of a row was tuned."""
    return STATES[bool(row.get("adapter"))]


def _styled(shown: "go.Figure", title: str, rows: Rows = (), height: int = 420) -> "go.Figure":
    """The lab's look on a figure of plotly express; a title that names stand-ins."""
    title += " (stand-ins)" if any(row.get("stand_in") for row in rows) else ""
    look = figure(title, height=height).layout.to_plotly_json()
    shown.update_layout({name: look[name] for name in look if "axis" not in name}, legend_title="")
    grid = {name: look["xaxis"][name] for name in ("gridcolor", "zerolinecolor")}
    return shown.update_xaxes(**grid).update_yaxes(**grid)


def quality_diversity(rows: Rows, quality: str = "bleu", diversity: str = "entropy") -> "go.Figure":
    """One point a model, named: a score with its interval, against a figure of `richness`; up and right is better."""
    import plotly.express as px

    found = [row | {"x": row["richness"][diversity]} for row in rows if row.get("richness")]
    table, errors = _table(found, [quality])
    unit = " (bits)" if "entropy" in diversity else ""
    axes = {"x": f"{diversity.replace('_', ' ')} of the replies' words{unit}", "y": TITLES[quality]}
    shown = px.scatter(table, "x", "y", text="model", labels=axes, **errors, **LOOK)
    for trace in shown.data:  # neighbours' names one above, one below, and none beyond the edge
        side = ["right" if value < table.x.mean() else "left" for value in trace.x]
        trace.textposition = [f"{('top', 'bottom')[order % 2]} {where}" for order, where in enumerate(side)]
    shown.update_traces(marker_size=12, cliponaxis=False)
    return _styled(shown, "Quality against diversity", found)


def by_domain(rows: Rows, rate: str = "success") -> "go.Figure":
    """Inform or Success in every domain, a line for each model: figures in a heat map; empty where no goal was."""
    import pandas as pd

    found = [row for row in rows if (row.get("per_domain") or {}).get(rate)]
    table = pd.DataFrame([row["per_domain"][rate] for row in found]).sort_index(axis=1)
    shown = _heat(table, "domain of the goal", "", f"{TITLES[rate]} (%)", zmin=0, zmax=100, text_auto=".0f")
    names = [f"{row['model'].split('/')[-1]}, {state(row)}" for row in found]  # which may come twice
    shown.update_yaxes(tickvals=list(range(len(names))), ticktext=names)
    return _styled(shown, f"{TITLES[rate]} by domain", found, 180 + 40 * len(found))


def _heat(table: Any, x: str, y: str, colour: str, **options: Any) -> "go.Figure":
    import plotly.express as px

    options = {"color_continuous_scale": SCALE, "aspect": "auto", **options}
    return px.imshow(table, labels={"x": x, "y": y, "color": colour}, **options)


def fits(plans: Mapping[str, Mapping[str, float]], memory: float, title: str = "What fits?") -> "go.Figure":
    """Bars {model: {what is done: MB}} on a logarithmic axis against the `memory` (MB) of this device, a line."""
    import plotly.express as px

    bars = [{"model": m, "step": step, "MB": size} for m, steps in plans.items() for step, size in steps.items()]
    look = {"pattern_shape": "step", "pattern_shape_sequence": PATTERNS, "color_discrete_sequence": PALETTE}
    shown = px.bar(bars, "model", "MB", color="step", barmode="group", log_y=True, **look)
    shown.update_yaxes(title="peak memory (MB)").update_layout(bargap=0.3)
    line = {"line": {"color": PALETTE[3], "dash": "dash"}, "name": f"this device: {memory:,.0f} MB"}
    return _styled(shown.add_scatter(x=list(plans), y=[memory] * len(plans), mode="lines", **line), title, height=460)


# --- inside a model ---------------------------------------------------------------------------------------------------


def attention(weights: "np.ndarray", tokens: Sequence[str], title: str = "Attention") -> "go.Figure":
    """One head's weights [T, T]: a row a token that looks, a column a token that is looked at."""
    shown = _heat(weights, "looked at", "looking", "weight", zmin=0)
    ticks = {"tickvals": list(range(len(tokens))), "ticktext": [escape(token) for token in tokens], "tickfont_size": 10}
    shown.update_xaxes(**ticks, tickangle=-90).update_yaxes(**ticks)
    shown.update_traces(hovertemplate="%{y} looks at %{x}: %{z:.2f}<extra></extra>")
    return _styled(shown, title, height=200 + 14 * len(tokens))


def lens(probabilities: "np.ndarray", texts: Sequence[Sequence[str]], title: str = "Logit lens") -> "go.Figure":
    """Probabilities [layers + 1, k] of the likeliest next tokens by layer, and their texts; the last row is said."""
    last = len(probabilities) - 1
    names = ["embedding", *(f"layer {layer}" for layer in range(1, last)), f"layer {last}, said"]
    cells = [zip(*row, strict=True) for row in zip(texts, probabilities, strict=True)]
    table = [[f"{escape(text)}<br>{p:.0%}" for text, p in row] for row in cells]
    shown = _heat(probabilities, "rank", "", "probability", zmin=0, zmax=1)
    shown.update_yaxes(tickvals=list(range(last + 1)), ticktext=names)
    shown.update_traces(text=table, texttemplate="%{text}").update_xaxes(tickvals=[])
    return _styled(shown, title, height=150 + 46 * len(names))


def changes(rows: Rows, of: str = "relative", title: str = "") -> "go.Figure":
    """What `inside.adapter_changes` found: heat map of layers and modules with the figures in it."""
    import pandas as pd

    table = pd.DataFrame(rows).pivot(index="layer", columns="module", values=of)
    words = {"relative": "|scaling · BA| / |W|", "norm": "|scaling · BA|"}[of]
    shown = _heat(table, "matrix", "layer", words, zmin=0, text_auto=".2f").update_yaxes(dtick=1)
    return _styled(shown, title or f"Where the adapter changed the weights: {words}", height=220 + 36 * len(table))


def surprise(dialogue: Dialogue, perplexities: Sequence[float]) -> Shown:
    """A dialogue with the perplexity of every turn: in figures, and the darker the more surprised."""
    turns = [segment.text.strip() for exchange in exchanges(dialogue) for segment in exchange]
    top = max(perplexities)
    rows, lines = [], [f"{dialogue.dialogue_id}: perplexity of every turn"]
    for index, (text, value) in enumerate(zip(turns, perplexities, strict=True)):
        said = text.removesuffix("\nbot>") if index % 2 == 0 else f"bot> {text}"
        look = f"background:rgba(213,94,0,{0.05 + 0.45 * min(1.0, value / top):.2f})"
        rows.append(f'<div role="listitem" style="{BUBBLE}{look}"><b>{value:.1f}</b> {highlighted(said)}</div>')
        lines.append(f"{value:8.1f}  {said}")
    return Shown(f'<p><b>{escape(lines[0])}</b></p><div role="list">{"".join(rows)}</div>', "\n".join(lines))
