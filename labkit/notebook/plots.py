"""Plotly figures of the notebooks. Functions take data, never models, and every series differs in more than colour."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from labkit.notebook.look import (
    DASHES,
    MARKERS,
    METRICS,
    PALETTE,
    PATTERNS,
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

__all__ = [
    "DASHES",
    "MARKERS",
    "METRICS",
    "PALETTE",
    "PATTERNS",
    "figure",
    "live",
    "memory",
    "named",
    "quality_diversity",
    "scores",
    "training",
    "weights",
]

# figures of `labkit.metrics.richness` in words
DIVERSITY = {
    "entropy": "entropy of the replies' words (bits)",
    "cond_entropy": "entropy of a word after the one before it (bits)",
    "avg_lengths": "words in a reply",
    "msttr": "different words among 50 (MSTTR-50)",
    "num_unigrams": "different words in the replies",
    "num_bigrams": "different word pairs in the replies",
    "num_trigrams": "different trigrams in the replies",
}


def training(history: Iterable[Row], title: str = "Training") -> go.Figure:
    """Losses (left axis) and dev scores (right axis) by step, from `finetune`'s history; a sample reply on hovering.

    All five lines are there from the beginning, so that `live` can make them grow.
    """
    shown = figure(title, x="optimiser step", y="loss (nats per reply token)")
    entries = list(history)
    losses = {"loss": "train loss", "eval_loss": "dev loss"}
    scored = {f"eval_{metric}": name for metric, name in METRICS.items()}
    for order, (key, name) in enumerate((losses | scored).items()):
        rows = [row for row in entries if row.get(key) is not None]
        shown.add_scatter(
            x=[row["step"] for row in rows],
            y=[row[key] for row in rows],
            text=[plain(row.get("eval_sample", "")) for row in rows],
            name=name,
            yaxis="y2" if key in scored else "y",
            **line_look(order),
        )
    right = {
        "title": "score (0 to 100)",
        "overlaying": "y",
        "side": "right",
        "range": [0, 105],
        "tickmode": "array",  # plotly would put the ticks where the left axis has its grid
        "tickvals": [0, 25, 50, 75, 100],
        "showgrid": False,
    }
    return shown.update_layout(yaxis2=right, margin_r=60)


def live(title: str = "Training") -> Callable[[Iterable[Row]], None]:
    """Show a `training` figure, and return a function that makes it follow a history: `finetune(…, watch=live())`."""
    from IPython.display import display

    def drawn(history: Iterable[Row]) -> dict[str, object]:
        now = training(history, title)  # the first for JupyterLab, VS Code and code hosts, the other for Colab
        html = now.to_html(full_html=False, include_plotlyjs="cdn")
        return {"application/vnd.plotly.v1+json": json.loads(now.to_json()), "text/html": html}

    shown = display(drawn([]), raw=True, display_id=True)

    def follow(history: Iterable[Row]) -> None:
        if shown:  # there is nothing to show it in outside a notebook
            shown.update(drawn(history), raw=True)

    return follow


def weights(values: np.ndarray, codebook: Sequence[float] = (), title: str = "Weights") -> go.Figure:
    """A histogram of scaled weights with the codebook entries that 4 bits can keep as vertical lines."""
    counts, edges = np.histogram(np.asarray(values, dtype=float), bins=100)
    middles = (edges[:-1] + edges[1:]) / 2  # [100]
    shown = figure(title, x="weight / largest absolute weight of its block", y="weights")
    shown.add_bar(x=middles, y=counts, name="weights")
    line = {"color": PALETTE[3], "dash": "dot"}
    for entry in codebook:
        shown.add_vline(x=float(entry), line=line, line_width=1)
    if len(codebook):  # the lines have no legend entry of their own
        name = f"codebook ({len(codebook)} entries)"
        shown.add_scatter(x=[None], y=[None], mode="lines", line=line, name=name)
    return shown.update_layout(bargap=0, showlegend=True)


def memory(
    parts: Mapping[str, Mapping[str, float]], title: str = "Memory", limits: Mapping[str, float] | None = None
) -> go.Figure:
    """Stacked bars: {setting: {part: megabytes}}, e.g. of `plan_memory`; `limits` {card: megabytes} are lines.

    Drawn in GB (of 1,000 MB) where a bar reaches one. A part that is 0 everywhere is left out, and a limit far above
    all bars is told in words: its line would press them flat.
    """
    settings = list(parts.values())
    tallest = max((sum(sizes.values()) for sizes in settings), default=0.0)
    unit, megabytes = ("GB", 1000.0) if tallest >= 1000 else ("MB", 1.0)
    shown = figure(title, y=unit)
    for order, name in enumerate(_used_parts(settings)):
        shown.add_bar(
            x=[plain(setting) for setting in parts],
            y=[sizes.get(name, 0.0) / megabytes for sizes in settings],
            name=plain(name),
            marker_pattern_shape=PATTERNS[order % len(PATTERNS)],
            hovertemplate=f"%{{y:.3g}} {unit}",
        )
    top = tallest
    far = []
    for card, size in (limits or {}).items():
        height = size / megabytes
        told = f"{plain(card)}: {height:.3g} {unit}"
        if size > 2 * tallest:
            far.append(told)
            continue
        top = max(top, size)
        shown.add_hline(
            y=height,
            line={"color": PALETTE[3], "dash": "dot"},
            annotation={"text": told, "bgcolor": "rgba(255,255,255,0.85)"},  # readable on a bar, too
            annotation_position="top left",
        )
    if far:
        names = ", ".join(far)
        shown.update_xaxes(title_text=f"far above all bars: {names}")
    if top:
        shown.update_yaxes(range=[0, 1.1 * top / megabytes])
    return shown.update_layout(barmode="stack", showlegend=True)


def _used_parts(settings: Sequence[Mapping[str, float]]) -> list[str]:
    """Names of the parts that are not 0 everywhere, in the order in which they come."""
    used: list[str] = []
    for sizes in settings:
        for name, size in sizes.items():
            if size and name not in used:
                used.append(name)
    return used


def scores(rows: Mapping[str, Row], title: str = "Scores") -> go.Figure:
    """BLEU, Inform and Success side by side: {name: row with "bleu", "inform", "success" and perhaps "intervals"}."""
    found = list(rows.values())
    shown = figure(titled(title, found), y="score (0 to 100)", height=420)
    for (metric, name), pattern in zip(METRICS.items(), PATTERNS, strict=False):
        shown.add_bar(
            x=[plain(name) for name in rows],
            y=[row.get(metric) for row in found],
            name=name,
            marker_pattern_shape=pattern,
            error_y=error_bars(found, metric),
        )
    shown.update_yaxes(range=[0, 105])
    return shown.update_layout(barmode="group")


def quality_diversity(
    rows: Iterable[Row], quality: str = "bleu", diversity: str = "", title: str = "Does diversity cost quality?"
) -> go.Figure:
    """One point a setting, with its name beside it: a score against a figure of `richness` (by default its first).

    A point is named by its "label" or by its "decoding". Rows without `richness` (of failed runs) are left out.

    Raises:
        LabError: `richness` has no such figure.
    """
    found = [row for row in rows if row.get("richness")]
    if found and not diversity:
        diversity = next(iter(found[0]["richness"]))
    for row in found:
        check_choice("figure of richness", diversity, row["richness"])
    x_title = DIVERSITY.get(diversity, diversity.replace("_", " "))
    shown = figure(titled(title, found), x=x_title, y=METRICS.get(quality, quality), height=420)
    places = [row["richness"][diversity] for row in found]
    for order, row in enumerate(found):
        name = plain(row.get("label") or _changed(row.get("decoding"))) + stand_in_mark(row, found)
        shown.add_scatter(
            x=[places[order]],
            y=[row[quality]],
            error_y=error_bars([row], quality),
            text=[name],
            textposition=_beside(places, order),
            cliponaxis=False,
            name=name,
            mode="markers+text",
            marker={"symbol": MARKERS[order % len(MARKERS)], "size": 12},
        )
    return shown.update_layout(showlegend=False)


def _beside(places: Sequence[float], order: int) -> str:
    """Where the text of a point stands: towards the middle of the figure, and neighbours above and below in turn."""
    place = places[order]
    before = [other for other in places if other < place]
    before += [other for other in places[:order] if other == place]
    height = "bottom" if len(before) % 2 else "top"
    middle = (min(places) + max(places)) / 2
    side = "right" if place <= middle else "left"
    return f"{height} {side}"


def _changed(settings: Row | None) -> str:
    """Decoding settings of a row in a few words: the strategy and the filters that are on."""
    from labkit.decoding.config import FILTERS

    chosen = settings or {}
    words = [str(chosen.get("strategy", "greedy"))]
    for name, off in FILTERS.items():
        if chosen.get(name, off) != off:
            words.append(f"{name}={chosen[name]}")
    return " ".join(words)
