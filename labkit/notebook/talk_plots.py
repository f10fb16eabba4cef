"""Figures of whole conversations: shares with their intervals, and where conversations die."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import plotly.graph_objects as go

from labkit.interaction.scores import Share
from labkit.metrics.statistics import Interval, wilson
from labkit.notebook.look import MARKERS, PATTERNS, figure, plain

Shares = Mapping[str, Share | None]  # {measure: its share}; None where it was not measured
SPREAD = 0.5  # of the room of a system that its points take, side by side


def share_plot(
    systems: Mapping[str, Shares], title: str, *, interval: Callable[[int, int], Interval] = wilson
) -> go.Figure:
    """Shares in per cent as points with error bars: {system: {measure: share}}, a symbol for each measure.

    `interval(passed, n)` gives the ends of the bars, from 0 to 1.
    """
    shown = figure(title, y="% of the goals")
    measures = _in_order(systems.values())
    middle = (len(measures) - 1) / 2
    for order, measure in enumerate(measures):
        shift = (order - middle) * SPREAD / len(measures)
        places = []
        known = []
        for place, shares in enumerate(systems.values()):
            share = shares.get(measure)
            if share is not None and share.n:
                places.append(place + shift)
                known.append(share)
        symbol = MARKERS[order % len(MARKERS)]
        shown.add_scatter(
            x=places,
            y=[share.percent for share in known],
            error_y=_bars(known, interval),
            text=[f"{share.passed} of {share.n}" for share in known],
            hovertemplate="%{y:.0f} %, %{text}",
            mode="markers",
            marker={"symbol": symbol, "size": 11},
            name=plain(measure),
        )
    names = [plain(name) for name in systems]
    n_systems = len(names)
    shown.update_xaxes(
        tickvals=list(range(n_systems)),
        ticktext=names,
        range=[-0.5, n_systems - 0.5],
        showgrid=False,
        zeroline=False,
    )
    return shown.update_yaxes(range=[-4, 104])


def _in_order(tables: Iterable[Mapping[str, object]]) -> list[str]:
    """The names that any of the tables has, each once, in the order in which they come."""
    names: dict[str, None] = {}
    for table in tables:
        names.update(dict.fromkeys(table))
    return list(names)


def _bars(shares: Sequence[Share], interval: Callable[[int, int], Interval]) -> dict[str, object]:
    above = []
    below = []
    for share in shares:
        low, high = interval(share.passed, share.n)
        above.append(100 * high - share.percent)
        below.append(share.percent - 100 * low)
    return {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
    }


def cause_plot(systems: Mapping[str, Mapping[str, int]], title: str) -> go.Figure:
    """Stacked bars of failed conversations: {system: {cause: how many died of it}}; causes without any are left out."""
    shown = figure(title, y="conversations that failed", height=420)
    names = [plain(system) for system in systems]
    order = 0
    for cause in _in_order(systems.values()):
        counts = [found.get(cause, 0) for found in systems.values()]
        if not any(counts):
            continue
        pattern = PATTERNS[order % len(PATTERNS)]
        order += 1
        shown.add_bar(
            x=names,
            y=counts,
            name=plain(cause),
            marker_pattern_shape=pattern,
        )
    most = max((sum(found.values()) for found in systems.values()), default=0)
    shown.update_yaxes(dtick=max(1, most // 5))  # no half conversations
    return shown.update_layout(barmode="stack", showlegend=True)  # a lone cause wants its name, too
