"""Figures of the chain of dialogues: where one goes next, as a table of shares and as a graph."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
import pandas
import plotly.graph_objects as go

from labkit.notebook.cluster_plots import heat_map
from labkit.notebook.look import PALETTE, plain

_POINTS = 24  # of an arrow's curve; its head is the last
_LANES = (1, -1, 2, -2, 0)  # y of the states, one after the other
_FAINT = 0.06  # opacity of the arrows that do not touch the chosen state
Edge = tuple[int, int]  # (from, to), numbers of states


def transition_heat_map(matrix: np.ndarray, names: Mapping[int, str]) -> go.Figure:
    """P(next | now): each row sums to one; END has no row since nothing follows, BEGIN no column."""
    labels = _labels(matrix, names)
    shares = pandas.DataFrame(matrix, labels, labels)
    shares = shares.drop(index="END", columns="BEGIN").rename_axis(index="now", columns="next")
    return heat_map(shares, "Where a dialogue goes next")


def _labels(matrix: np.ndarray, names: Mapping[int, str]) -> list[str]:
    clusters = [names[cluster] for cluster in range(len(matrix) - 2)]
    return [*clusters, "BEGIN", "END"]


def transition_graph(
    matrix: np.ndarray,
    names: Mapping[int, str],
    threshold: float = 0.12,
    *,
    utterances: Mapping[int, Sequence[str]] | None = None,
) -> go.Figure:
    """The chain as a graph: an arrow for each transition of at least `threshold`, wider when likelier.

    Further right means nearer the END, in expected turns. A slider changes the threshold; a menu shows one state's
    arrows with their shares and makes the others faint. Hovering a state tells where it leads and what leads to it,
    with some of its `utterances` (of `nearest_utterances`), if they are given.

    Args:
        matrix: [k + 2, k + 2], of `transition_matrix`; BEGIN is state k, END is k + 1.
    """
    labels = _labels(matrix, names)
    places = _places(matrix)  # [k + 2, 2]
    limits = sorted({0.05, 0.1, 0.15, 0.2, 0.3, 0.5, threshold})
    edges = [(int(i), int(j)) for i, j in np.argwhere(matrix >= limits[0]) if i != j]

    shown = go.Figure()
    shown.update_layout(template="lab", title="Where a dialogue goes next", height=720, showlegend=False)
    for i, j in edges:
        arrow = _arrow(places[i], places[j], matrix[i, j], f"{plain(labels[i])} → {plain(labels[j])}")
        arrow.visible = bool(matrix[i, j] >= threshold)
        shown.add_trace(arrow)
    shown.add_trace(_states(matrix, labels, places, utterances or {}))
    _write_labels(shown, matrix, labels, places, threshold)

    steps = []
    for limit in limits:
        visible = [bool(matrix[edge] >= limit) for edge in edges]
        steps.append({"label": f"{limit:.0%}", "method": "restyle", "args": [{"visible": [*visible, True]}]})
    slider = {"steps": steps, "active": limits.index(threshold), "currentvalue": {"prefix": "at least "}}
    menu = {"buttons": _choices(matrix, labels, edges), "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"}
    shown.update_layout(sliders=[slider], updatemenus=[menu])
    shown.update_xaxes(visible=False, range=[-0.6, len(matrix) - 0.4])
    return shown.update_yaxes(visible=False, range=[-2.7, 2.8])


def _places(matrix: np.ndarray) -> np.ndarray:
    """[k+2, 2]: x ranks the expected turns to the END, (I - Q)^-1 1 (Kemeny & Snell 1960); y is one of five lanes."""
    k = len(matrix) - 2
    passing = np.eye(k + 1) - matrix[: k + 1, : k + 1]  # I - Q, [k + 1, k + 1]: all states but END
    turns = np.linalg.lstsq(passing, np.ones(k + 1), rcond=None)[0]  # [k + 1]
    places = np.zeros((k + 2, 2))
    from_begin_to_end = [k, *np.argsort(-turns[:k]), k + 1]
    for rank, state in enumerate(from_begin_to_end):
        lane = 0 if state >= k else _LANES[rank % len(_LANES)]
        places[state] = rank, lane
    return places


def _arrow(start: np.ndarray, end: np.ndarray, share: float, name: str) -> go.Scatter:
    """A bent arrow from one place [2] to another; its share is written half-way where a menu asks for it."""
    t = np.linspace(0.03, 0.96, _POINTS)[:, None]  # [P, 1]
    across = end[0] - start[0]
    bend = np.array([0, 0.25 * np.sign(across) * abs(across) ** 0.7])  # so the way back passes below
    middle = (start + end) / 2 + bend
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end  # a quadratic Bézier curve, [P, 2]
    written = [""] * _POINTS
    written[_POINTS // 2] = f"<b>{share:.0%}</b>"
    return go.Scatter(
        x=curve[:, 0],
        y=curve[:, 1],
        mode="lines+markers",
        line={"width": 1 + 7 * share, "color": "#777777"},
        marker={
            "symbol": "arrow",
            "angleref": "previous",
            "size": [0] * (_POINTS - 1) + [14],
            "line_width": 0,
            "opacity": 1,
        },
        text=written,
        hovertext=[f"{name}: {share:.0%}"] * _POINTS,
        hoverinfo="text",
        opacity=_strength(share),
    )


def _strength(share: float) -> float:
    return min(1.0, 0.45 + share)


def _states(
    matrix: np.ndarray, labels: Sequence[str], places: np.ndarray, utterances: Mapping[int, Sequence[str]]
) -> go.Scatter:
    """The states as points; hovering tells the six likeliest ways out and in, and what is said there."""
    k = len(matrix) - 2
    told = []
    for state, label in enumerate(labels):
        lines = [f"<b>{plain(label)}</b>"]
        lines.extend(f"→ {plain(labels[j])} {share:.0%}" for j, share in _largest(matrix[state]))
        lines.extend(f"← {plain(labels[i])} {share:.0%}" for i, share in _largest(matrix[:, state]))
        for text in list(utterances.get(state, ()))[:3]:
            lines.extend(plain(line) for line in wrap(f"“{text}”", 60))
        told.append("<br>".join(lines))
    look = {
        "size": 20,
        "color": [PALETTE[0]] * k + [PALETTE[2], PALETTE[3]],
        "symbol": ["circle"] * k + ["triangle-right", "square"],
    }
    return go.Scatter(
        x=places[:, 0], y=places[:, 1], mode="markers", visible=True, marker=look, hovertext=told, hoverinfo="text"
    )


def _largest(shares: np.ndarray, n: int = 6) -> list[tuple[int, float]]:
    """(state, share) of the `n` largest shares that are not 0."""
    order = np.argsort(-shares, kind="stable")[:n]
    return [(int(state), float(shares[state])) for state in order if shares[state] > 0]


def _write_labels(
    figure: go.Figure, matrix: np.ndarray, labels: Sequence[str], places: np.ndarray, threshold: float
) -> None:
    """The names of the states on white, so that no arrow strikes them through, and how likely each stays (↻)."""
    end = len(matrix) - 1
    for state, label in enumerate(labels):
        lines = [plain(line) for line in wrap(label, 16)]
        stay = matrix[state, state]
        if stay >= threshold and state != end:  # the END always stays
            lines.append(f"↻ {stay:.0%}")
        above = places[state, 1] > 0  # away from the arrows
        figure.add_annotation(
            x=places[state, 0],
            y=places[state, 1],
            text="<br>".join(lines),
            showarrow=False,
            yanchor="bottom" if above else "top",
            yshift=13 if above else -13,
            bgcolor="rgba(255,255,255,0.85)",
            borderpad=1,
            font={"size": 12},
        )


def _choices(matrix: np.ndarray, labels: Sequence[str], edges: Sequence[Edge]) -> list[dict[str, object]]:
    """Entries of the menu: all arrows, or those of one state with their shares."""
    strengths = [_strength(matrix[edge]) for edge in edges]
    everything = {"opacity": [*strengths, 1], "mode": ["lines+markers"] * len(edges) + ["markers"]}
    entries: list[dict[str, object]] = [{"label": "all states", "method": "restyle", "args": [everything]}]
    for state, label in enumerate(labels):
        opacity: list[float] = []
        mode = []
        for edge in edges:
            touches = state in edge
            opacity.append(1.0 if touches else _FAINT)
            mode.append("lines+markers+text" if touches else "lines+markers")
        change = {"opacity": [*opacity, 1], "mode": [*mode, "markers"]}
        entries.append({"label": plain(label), "method": "restyle", "args": [change]})
    return entries
