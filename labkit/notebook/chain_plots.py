"""Figures of the chain of dialogues: where one goes next, as a table of shares and as a graph."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
import pandas
import plotly.graph_objects as go

from labkit.notebook.cluster_plots import heat_map
from labkit.notebook.look import PALETTE, figure, plain, plain_lines

_POINTS = 24  # of an arrow's curve; its head is the last
_LANES = (1, -1, 2, -2, 0)  # y of the states, one after the other
_FAINT = 0.06  # opacity of the arrows that do not touch the chosen state
Edge = tuple[int, int]  # (from, to), numbers of states


def transition_heat_map(matrix: np.ndarray, names: Mapping[int, str]) -> go.Figure:
    """P(next | now): each row sums to one; END has no row since nothing follows, BEGIN no column."""
    labels = _labels(matrix, names)
    shares = pandas.DataFrame(matrix, index=labels, columns=labels)
    shares = shares.drop(index="END", columns="BEGIN")
    shares = shares.rename_axis(index="now", columns="next")
    return heat_map(shares, "Where a dialogue goes next")


def _labels(matrix: np.ndarray, names: Mapping[int, str]) -> list[str]:
    k = len(matrix) - 2
    clusters = [names[cluster] for cluster in range(k)]
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
    least = limits[0]
    edges = _edges(matrix, least)
    told = _told(matrix, labels, utterances or {})

    shown = figure("Where a dialogue goes next", height=720)
    for i, j in edges:
        share = float(matrix[i, j])
        arrow = _arrow(places[i], places[j], share)
        first = plain(labels[i])
        second = plain(labels[j])
        name = f"{first} → {second}: {share:.0%}"
        between = [name] * (_POINTS - 2)
        arrow.hovertext = [told[i], *between, told[j]]  # its ends lie on the states
        arrow.visible = share >= threshold
        shown.add_trace(arrow)
    points = _states(places, told)
    shown.add_trace(points)
    for state, label in enumerate(labels):
        stays = float(matrix[state, state])
        if stays < threshold or label == "END":  # the END always stays
            stays = 0.0
        annotation = _label(places[state], label, stays)
        shown.add_annotation(annotation)

    slider = _threshold_slider(matrix, edges, limits, threshold)
    menu = _state_menu(matrix, labels, edges)
    shown.update_layout(
        sliders=[slider],
        updatemenus=[menu],
        showlegend=False,
        title={"y": 0.99, "yanchor": "top"},
        margin_t=90,
    )
    n_states = len(matrix)
    shown.update_xaxes(visible=False, range=[-0.6, n_states - 0.4])
    shown.update_yaxes(visible=False, range=[-2.7, 2.8])
    return shown


def _edges(matrix: np.ndarray, least: float) -> list[Edge]:
    """The transitions of at least this share; one from a state to itself is told in its label."""
    edges = []
    for i, j in np.argwhere(matrix >= least):
        if i != j:
            edges.append((int(i), int(j)))
    return edges


def _places(matrix: np.ndarray) -> np.ndarray:
    """[k+2, 2]: x ranks the expected turns to the END, (I - Q)^-1 1 (Kemeny & Snell 1960); y is one of five lanes."""
    n_states = len(matrix)
    begin = n_states - 2  # k
    end = n_states - 1
    between_states = matrix[:end, :end]  # Q, [k + 1, k + 1]
    passing = np.eye(end) - between_states  # I - Q
    ones = np.ones(end)  # [k + 1]
    turns, *_ = np.linalg.lstsq(passing, ones, rcond=None)  # [k + 1]
    of_clusters = turns[:begin]  # [k]
    from_the_farthest = np.argsort(-of_clusters)  # [k]
    from_begin_to_end = [begin, *from_the_farthest, end]
    places = np.zeros((n_states, 2))
    for rank, state in enumerate(from_begin_to_end):
        lane = 0  # BEGIN and END in the middle
        if state < begin:
            lane = _LANES[rank % len(_LANES)]
        places[state] = rank, lane
    return places


def _arrow(start: np.ndarray, end: np.ndarray, share: float) -> go.Scatter:
    """A bent arrow from one place [2] to another; its share is written half-way where a menu asks for it."""
    across = end[0] - start[0]
    height = 0.25 * np.sign(across) * abs(across) ** 0.7  # of the other sign on the way back, which so passes below
    bend = np.array([0, height])
    middle = (start + end) / 2 + bend
    t = np.linspace(0.03, 0.96, _POINTS)  # [P]
    t = t[:, None]  # [P, 1]
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end  # a quadratic Bézier curve, [P, 2]
    no_size = [0] * (_POINTS - 1)
    head = {
        "symbol": "arrow",
        "angleref": "previous",
        "size": [*no_size, 14],
        "line_width": 0,
        "opacity": 1,
    }
    written = [""] * _POINTS
    half_way = _POINTS // 2
    written[half_way] = f"<b>{share:.0%}</b>"
    return go.Scatter(
        x=curve[:, 0],
        y=curve[:, 1],
        mode="lines+markers",
        line={"width": 1 + 7 * share, "color": "#777777"},
        marker=head,
        text=written,
        hoverinfo="text",
        opacity=_strength(share),
    )


def _strength(share: float) -> float:
    """Opacity of an arrow."""
    return min(1.0, 0.45 + share)


def _told(
    matrix: np.ndarray,
    labels: Sequence[str],
    utterances: Mapping[int, Sequence[str]],
) -> list[str]:
    """For each state what hovering tells: the likeliest ways out of it and into it, and what is said there."""
    told = []
    for state, label in enumerate(labels):
        out_of = matrix[state]  # [k + 2]
        into = matrix[:, state]  # [k + 2]
        lines = [label]
        for target, share in _largest(out_of):
            name = labels[target]
            lines.append(f"→ {name} {share:.0%}")
        for source, share in _largest(into):
            name = labels[source]
            lines.append(f"← {name} {share:.0%}")
        examples = list(utterances.get(state, ()))
        for text in examples[:3]:
            quoted = f"“{text}”"
            lines.extend(wrap(quoted, 60))
        told.append(plain_lines(lines))
    return told


def _largest(shares: np.ndarray, n: int = 6) -> list[tuple[int, float]]:
    """(state, share) of the `n` largest shares that are not 0."""
    order = np.argsort(-shares, kind="stable")
    largest = []
    for state in order[:n]:
        share = float(shares[state])
        if share > 0:
            largest.append((int(state), share))
    return largest


def _states(places: np.ndarray, told: Sequence[str]) -> go.Scatter:
    """The states as points [k + 2, 2]: clusters, BEGIN and END differ in colour and symbol."""
    k = len(places) - 2
    colours = [PALETTE[0]] * k
    symbols = ["circle"] * k
    look = {
        "size": 20,
        "color": [*colours, PALETTE[2], PALETTE[3]],
        "symbol": [*symbols, "triangle-right", "square"],
    }
    return go.Scatter(
        x=places[:, 0],
        y=places[:, 1],
        mode="markers",
        visible=True,
        marker=look,
        hovertext=told,
        hoverinfo="text",
    )


def _label(place: np.ndarray, label: str, stays: float) -> go.layout.Annotation:
    """The name of a state on white, so that no arrow strikes it through, and how likely it stays (↻), if it does."""
    lines = wrap(label, 16)
    if stays:
        lines.append(f"↻ {stays:.0%}")
    x, y = place
    above = y > 0  # away from the arrows
    return go.layout.Annotation(
        x=x,
        y=y,
        text=plain_lines(lines),
        showarrow=False,
        yanchor="bottom" if above else "top",
        yshift=13 if above else -13,
        bgcolor="rgba(255,255,255,0.85)",
        borderpad=1,
        font={"size": 12},
    )


def _threshold_slider(
    matrix: np.ndarray, edges: Sequence[Edge], limits: Sequence[float], threshold: float
) -> dict[str, object]:
    """A slider whose steps show the arrows of at least a share; the last trace, the states, is always there."""
    steps = []
    for limit in limits:
        visible = [bool(matrix[edge] >= limit) for edge in edges]
        visible.append(True)
        step = {
            "label": f"{limit:.0%}",
            "method": "restyle",
            "args": [{"visible": visible}],
        }
        steps.append(step)
    return {
        "steps": steps,
        "active": limits.index(threshold),
        "currentvalue": {"prefix": "at least "},
    }


def _state_menu(
    matrix: np.ndarray,
    labels: Sequence[str],
    edges: Sequence[Edge],
) -> dict[str, object]:
    """A menu: all arrows, or those of one state with their shares. It leaves alone what the slider makes visible."""
    change: dict[str, list[object]] = {
        "opacity": [_strength(matrix[edge]) for edge in edges],
        "mode": ["lines+markers"] * len(edges),
    }
    entries = [_entry("all states", change)]
    for state, label in enumerate(labels):
        change = {"opacity": [], "mode": []}
        for edge in edges:
            touches = state in edge
            change["opacity"].append(1.0 if touches else _FAINT)
            change["mode"].append("lines+markers+text" if touches else "lines+markers")
        entries.append(_entry(plain(label), change))
    return {
        "buttons": entries,
        "x": 0,
        "xanchor": "left",
        "y": 1.0,
        "yanchor": "bottom",
    }


def _entry(label: str, change: Mapping[str, list[object]]) -> dict[str, object]:
    """An entry that changes the arrows; the states, the last trace, stay as they are."""
    whole = {
        "opacity": [*change["opacity"], 1.0],
        "mode": [*change["mode"], "markers"],
    }
    return {
        "label": label,
        "method": "restyle",
        "args": [whole],
    }
