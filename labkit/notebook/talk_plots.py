"""Figures of whole conversations: shares with their intervals, and where conversations die."""

from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go

from labkit.interaction.scores import Share
from labkit.metrics.statistics import Interval, wilson
from labkit.notebook.look import MARKERS, PATTERNS, figure, plain

Shares = Mapping[str, Share | None]  # {measure: its share}; None where it was not measured


def share_plot(
    systems: Mapping[str, Shares], title: str, *, interval: Callable[[int, int], Interval] = wilson
) -> go.Figure:
    """Shares in per cent as points with error bars: {system: {measure: share}}, a symbol for each measure.

    `interval(passed, n)` gives the ends of the bars, from 0 to 1.
    """
    shown = figure(title, y="% of the goals")
    measures = list(dict.fromkeys(measure for shares in systems.values() for measure in shares))
    width = 0.5 / max(1, len(measures))  # the points of a system stand side by side, not on each other
    for order, measure in enumerate(measures):
        known = {}
        for place, shares in enumerate(systems.values()):
            share = shares.get(measure)
            if share is not None and share.n:
                known[place + (order - (len(measures) - 1) / 2) * width] = share
        shown.add_scatter(
            x=list(known),
            y=[share.percent for share in known.values()],
            error_y=_bars(list(known.values()), interval),
            text=[f"{share.passed} of {share.n}" for share in known.values()],
            hovertemplate="%{y:.0f} %, %{text}",
            mode="markers",
            marker={"symbol": MARKERS[order % len(MARKERS)], "size": 11},
            name=plain(measure),
        )
    shown.update_xaxes(tickvals=list(range(len(systems))), ticktext=[plain(name) for name in systems])
    shown.update_xaxes(range=[-0.5, len(systems) - 0.5], showgrid=False, zeroline=False)
    return shown.update_yaxes(range=[-4, 104])


def _bars(shares: Sequence[Share], interval: Callable[[int, int], Interval]) -> dict[str, object]:
    above = []
    below = []
    for share in shares:
        low, high = interval(share.passed, share.n)
        above.append(100 * high - share.percent)
        below.append(share.percent - 100 * low)
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below}


def cause_plot(systems: Mapping[str, Mapping[str, int]], title: str) -> go.Figure:
    """Stacked bars of failed conversations: {system: {cause: how many died of it}}; causes without any are left out."""
    shown = figure(title, y="conversations that failed", height=420)
    names = list(dict.fromkeys(cause for counts in systems.values() for cause in counts))
    used = [name for name in names if any(counts.get(name) for counts in systems.values())]
    for order, cause in enumerate(used):
        shown.add_bar(
            x=[plain(system) for system in systems],
            y=[counts.get(cause, 0) for counts in systems.values()],
            name=plain(cause),
            marker_pattern_shape=PATTERNS[order % len(PATTERNS)],
        )
    return shown.update_layout(barmode="stack")
