"""Plotly figures of the notebooks. Functions take data, never models, and every series differs in more than colour."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go

# Okabe & Ito (2008): colours that colour-blind readers can tell apart, and a grey that is measured to be so, too
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#555555")
PATTERNS = ("", "/", ".", "x", "-", "+", "|")
DASHES = ("solid", "dash", "dot", "dashdot")
MARKERS = ("circle", "square", "diamond", "x", "triangle-up", "star", "cross")
METRICS = {"bleu": "BLEU", "inform": "Inform", "success": "Success"}


def figure(title: str, x: str = "", y: str = "", height: int = 380) -> "go.Figure":
    """An empty figure in the lab's look; it brings its own white paper, so that it reads in dark themes too."""
    import plotly.graph_objects as go

    grid = {"gridcolor": "#dddddd", "zerolinecolor": "#888888"}
    shown = go.Figure().update_layout(title=title, height=height, colorway=PALETTE)
    shown.update_layout(paper_bgcolor="white", plot_bgcolor="white", font={"color": "#222222", "size": 13})
    shown.update_layout(legend={"orientation": "h", "y": -0.25}, margin={"l": 60, "r": 20, "t": 50, "b": 50})
    return shown.update_xaxes(title=x, **grid).update_yaxes(title=y, **grid)


def _line(order: int) -> dict[str, Any]:
    return {"mode": "lines+markers", "line_dash": DASHES[order], "marker": {"symbol": MARKERS[order], "size": 9}}


def next_tokens(tokens: Sequence[str], probabilities: "np.ndarray", kept: "np.ndarray", title: str) -> "go.Figure":
    """The likeliest next tokens, one bar each: kept ones plain, cut ones striped and outlined.

    Args:
        tokens: texts of the tokens that are drawn, [N].
        probabilities: before any filter, [N].
        kept: whether the filters let the token through, [N] bool.
    """
    shown = figure(title, x="probability before the filters", height=120 + 24 * len(tokens))
    for flag, name, colour, pattern in ((True, "kept", PALETTE[0], ""), (False, "cut", PALETTE[3], "/")):
        rows = [index for index in range(len(tokens)) if bool(kept[index]) == flag]
        shares = [float(probabilities[index]) for index in rows]
        look = {"marker_color": colour, "marker_pattern_shape": pattern, "textposition": "outside", "cliponaxis": False}
        text = [f"{share:.1%} {name}" for share in shares]
        shown.add_bar(y=rows, x=shares, text=text, name=f"{name} ({len(rows)})", orientation="h", **look)
    names = [repr(token) for token in tokens]
    # the same text may stand for two tokens, so rows are numbers and the texts are their labels
    return shown.update_yaxes(tickvals=list(range(len(tokens))), ticktext=names, autorange="reversed")


def loss_curve(history: Iterable[Mapping[str, Any]], title: str = "Loss") -> "go.Figure":
    """Training and dev loss by step, from a history of {"step", "loss"} and {"step", "eval_loss"} entries."""
    shown = figure(title, x="optimiser step", y="loss (nats per reply token)")
    entries = list(history)
    for order, (key, name) in enumerate((("loss", "train"), ("eval_loss", "dev"))):
        points = [(entry["step"], entry[key]) for entry in entries if entry.get(key) is not None]
        if points:
            steps, losses = zip(*points, strict=True)
            shown.add_scatter(x=steps, y=losses, name=name, **_line(order))
    return shown


def training(history: Iterable[Mapping[str, Any]], title: str = "Training") -> "go.Figure":
    """Losses (left axis) and dev scores (right axis) by step, from `finetune`'s history; a sample reply on hovering.

    All five lines are there from the beginning, so that `live` can make them grow.
    """
    shown, entries = figure(title, x="optimiser step", y="loss (nats per reply token)"), list(history)
    lines = {"loss": "train loss", "eval_loss": "dev loss"} | {f"eval_{key}": name for key, name in METRICS.items()}
    for order, (key, name) in enumerate(lines.items()):
        rows = [row for row in entries if row.get(key) is not None]
        where = {"yaxis": "y2"} if order > 1 else {}
        look = _line(order % len(DASHES)) | {"marker": {"symbol": MARKERS[order], "size": 9}}
        told = [escape(row.get("eval_sample", "")) for row in rows]
        points = {"x": [row["step"] for row in rows], "y": [row[key] for row in rows], "text": told}
        shown.add_scatter(**points, name=name, **look, **where)
    right = {"title": "score (0 to 100)", "overlaying": "y", "side": "right", "range": [0, 105], "showgrid": False}
    return shown.update_layout(yaxis2=right, margin_r=60)


def live(title: str = "Training") -> Callable[[Iterable[Mapping[str, Any]]], None]:
    """Show a `training` figure, and return a function that makes it follow a history: `finetune(…, watch=live())`."""
    from IPython.display import display

    def drawn(history: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        now = training(history, title)  # the first for JupyterLab, VS Code and code hosts, the other for Colab
        html = now.to_html(full_html=False, include_plotlyjs="cdn")
        return {"application/vnd.plotly.v1+json": json.loads(now.to_json()), "text/html": html}

    shown = display(drawn([]), raw=True, display_id=True)

    def follow(history: Iterable[Mapping[str, Any]]) -> None:
        if shown:  # there is nothing to show it in outside a notebook
            shown.update(drawn(history), raw=True)

    return follow


def weights(values: "np.ndarray", codebook: Sequence[float] = (), title: str = "Weights") -> "go.Figure":
    """A histogram of scaled weights with the codebook entries that 4 bits can keep as vertical lines."""
    import numpy as np

    counts, edges = np.histogram(np.asarray(values, dtype=float), bins=100)
    shown = figure(title, x="weight / largest absolute weight of its block", y="weights")
    shown.add_bar(x=(edges[:-1] + edges[1:]) / 2, y=counts, name="weights")
    for entry in codebook:
        shown.add_vline(x=float(entry), line={"color": PALETTE[3], "dash": "dot", "width": 1})
    if len(codebook):  # the lines have no legend entry of their own
        line = {"color": PALETTE[3], "dash": "dot"}
        shown.add_scatter(x=[None], y=[None], mode="lines", line=line, name=f"codebook ({len(codebook)} entries)")
    return shown.update_layout(bargap=0, showlegend=True)


def memory(
    parts: Mapping[str, Mapping[str, float]], title: str = "Memory (MB)", limits: Mapping[str, float] | None = None
) -> "go.Figure":
    """Stacked bars: {setting: {part: megabytes}}, e.g. of `plan_memory`; `limits` {card: megabytes} are lines."""
    shown = figure(title, y="MB")
    names = dict.fromkeys(name for part in parts.values() for name in part)
    for order, name in enumerate(names):
        sizes = [part.get(name, 0.0) for part in parts.values()]
        shown.add_bar(x=list(parts), y=sizes, name=name, marker_pattern_shape=PATTERNS[order % len(PATTERNS)])
    for card, size in (limits or {}).items():
        shown.add_hline(y=size, line={"color": PALETTE[3], "dash": "dot"}, annotation_text=card)
    return shown.update_layout(barmode="stack")


def scores(rows: Mapping[str, Mapping[str, Any]], title: str = "Scores") -> "go.Figure":
    """BLEU, Inform and Success side by side: {name: row with "bleu", "inform", "success" and perhaps "intervals"}."""
    shown = figure(title, y="score (0 to 100)", height=420)
    for (metric, name), pattern in zip(METRICS.items(), PATTERNS, strict=False):
        values, error = [row.get(metric) for row in rows.values()], _bars(rows.values(), metric)
        shown.add_bar(x=list(rows), y=values, name=name, marker_pattern_shape=pattern, error_y=error)
    return shown.update_layout(barmode="group").update_yaxes(range=[0, 105])


def _bars(rows: Iterable[Mapping[str, Any]], metric: str) -> dict[str, Any] | None:
    """Plotly's error bars from "intervals": {metric: (low, high)}; none where no row has them."""
    found = [((row.get("intervals") or {}).get(metric), row.get(metric)) for row in rows]
    if not any(interval for interval, _ in found):
        return None
    above = [interval[1] - value if interval and value is not None else 0 for interval, value in found]
    below = [value - interval[0] if interval and value is not None else 0 for interval, value in found]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below}


def quality_diversity(
    rows: Iterable[Mapping[str, Any]], quality: str = "bleu", diversity: str = "", title: str = "Quality and diversity"
) -> "go.Figure":
    """One point a setting: a score against a figure of `richness` (by default its first), named by its "decoding"."""
    rows = [row for row in rows if row.get("richness")]  # a failed run has none
    diversity = diversity or next(iter(rows[0]["richness"]))
    unit = " (bits)" if "entropy" in diversity else ""
    shown = figure(title, x=f"{diversity.replace('_', ' ')} of the replies{unit}", y=METRICS.get(quality, quality))
    for order, row in enumerate(rows):
        name = str(row.get("label") or _changed(row.get("decoding"))) + (" (stand-in)" if row.get("stand_in") else "")
        mark = {"symbol": MARKERS[order % len(MARKERS)], "size": 12}
        point = {"x": [row["richness"][diversity]], "y": [row[quality]], "error_y": _bars([row], quality)}
        shown.add_scatter(**point, name=name, mode="markers", marker=mark)
    return shown


def named(row: Mapping[str, Any]) -> str:
    """The model of a row, a stand-in named as one."""
    return f"{row.get('model')}{' (stand-in)' if row.get('stand_in') else ''}"


def _changed(settings: Mapping[str, Any] | None) -> str:
    """Decoding settings of a row in a few words: the strategy and the filters that are on."""
    from labkit.decoding.config import FILTERS

    settings = settings or {}
    on = [f"{name}={settings[name]}" for name, off in FILTERS.items() if settings.get(name, off) != off]
    return " ".join([str(settings.get("strategy", "greedy")), *on])
