"""Figures of notebook 4: the map of utterances, the choice of k, words of clusters, transitions. All plotly.

Colours tell nothing alone: symbols, labels and hover text say the same again.
"""

from collections.abc import Mapping, Sequence
from html import escape
from textwrap import wrap
from typing import Any

import numpy as np
import pandas
import plotly.express as px
import plotly.graph_objects as go

from labkit.notebook.plots import MARKERS, PALETTE

Texts = Sequence[str]
COLUMNS = ("cluster", "speaker", "domain", "act")


def utterance_map(maps: Mapping[str, np.ndarray], table: pandas.DataFrame, by: Texts = COLUMNS) -> go.Figure:
    """Maps of utterances, {name: [N, 2]}: a menu chooses the column that colour and symbol show, a slider the map.

    `table` has the rows of `representations` and the columns in `by` (assign "cluster" first).
    """
    points = {name: [trace for column in by for trace in _points(xy, table, column)] for name, xy in maps.items()}
    shown = go.Figure(next(iter(points.values())))
    shown.update_layout(title="Utterances, near each other when their vectors are", height=640)
    visible = {column: [trace.legendgroup.startswith(f"{column}:") for trace in shown.data] for column in by}
    menu = [_button(column, visible=visible[column]) for column in by]
    steps = [_button(name, x=[t.x for t in traces], y=[t.y for t in traces]) for name, traces in points.items()]
    for trace, first in zip(shown.data, visible[by[0]], strict=True):
        trace.visible = first
    shown.update_layout(updatemenus=[{"buttons": menu, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}])
    shown.update_layout(sliders=[{"steps": steps, "currentvalue": {"prefix": "map: "}}] if len(maps) > 1 else [])
    return shown.update_xaxes(showticklabels=False).update_yaxes(showticklabels=False)


def _button(label: str, **change: Any) -> dict[str, Any]:
    return {"label": label, "method": "restyle", "args": [change]}


def _points(xy: np.ndarray, table: pandas.DataFrame, column: str) -> Sequence[Any]:
    """One trace for each value of the column, its colour and symbol together unlike those of any other."""
    shown = table.assign(x=xy[:, 0], y=xy[:, 1], **{column: table[column].astype(str)})
    shown["said"] = [f"{s}: " + "<br>".join(wrap(escape(u), 60)) for s, u in zip(table.speaker, table.utterance)]  # noqa: B905
    values = list(shown[column].value_counts().index)
    symbols = {value: MARKERS[(i + i // 7) % 7] for i, value in enumerate(values)}
    hover = {"hover_name": "said", "hover_data": {"x": False, "y": False, "dialogue_id": True, "turn": True}}
    look = {"color_discrete_sequence": PALETTE, "symbol_map": symbols, "category_orders": {column: values}}
    look["render_mode"] = "svg" if len(table) < 3000 else "webgl"  # browsers allow only a few WebGL plots on a page
    traces = px.scatter(shown, x="x", y="y", color=column, symbol=column, opacity=0.75, **hover, **look).data
    return [trace.update(legendgroup=f"{column}:{trace.name}", marker_size=7) for trace in traces]


def choose_k_plot(rows: Sequence[Mapping[str, float]]) -> go.Figure:
    """Silhouette and stability (with its standard deviation) against k, one above the other: their scales differ."""
    long = pandas.DataFrame(rows).melt(["k", "sd"], ["silhouette", "stability"], "measure")
    long["sd"] = long["sd"].where(long["measure"] == "stability")
    style = {"error_y": "sd", "color": "measure", "symbol": "measure", "color_discrete_sequence": PALETTE}
    figure = px.line(long, x="k", y="value", facet_row="measure", markers=True, title="How many clusters?", **style)
    return figure.update_yaxes(matches=None).update_layout(showlegend=False)


def word_bars(words: Mapping[int, Sequence[tuple[str, float]]], n: int = 6) -> go.Figure:
    """The `n` words with the highest class TF-IDF of each cluster, a small bar plot each."""
    rows = [(str(c), word, score) for c, pairs in words.items() for word, score in reversed(pairs[:n])]
    frame = pandas.DataFrame(rows, columns=["cluster", "word", "class TF-IDF"])
    layout = {"facet_col": "cluster", "facet_col_wrap": 4, "facet_col_spacing": 0.1, "facet_row_spacing": 0.08}
    height = 100 + 170 * -(-len(words) // 4)
    figure = px.bar(frame, x="class TF-IDF", y="word", height=height, color_discrete_sequence=PALETTE, **layout)
    figure.update_xaxes(matches=None, showticklabels=False, title="")
    figure.update_yaxes(matches=None, showticklabels=True, title="")
    return figure.update_layout(title="Words that set a cluster apart (class TF-IDF)")


def heat_map(shares: pandas.DataFrame, title: str) -> go.Figure:
    """A table of shares, each written in its cell; the axes take the names of its index and columns."""
    figure = px.imshow(shares, text_auto=".0%", zmin=0, color_continuous_scale="Blues", aspect="auto")
    figure.update_layout(title=title, height=200 + 30 * len(shares), coloraxis_colorbar_tickformat=".0%")
    return figure.update_xaxes(tickangle=-40)


def transition_heat_map(matrix: np.ndarray, names: Mapping[int, str]) -> go.Figure:
    """P(next | now): each row sums to one; END has no row since nothing follows, BEGIN no column."""
    labels = _labels(matrix, names)
    shares = pandas.DataFrame(matrix, labels, labels).drop(index="END", columns="BEGIN")
    return heat_map(shares.rename_axis(index="now", columns="next"), "Where a dialogue goes next")


def _labels(matrix: np.ndarray, names: Mapping[int, str]) -> list[str]:
    return [*(names[c] for c in range(len(matrix) - 2)), "BEGIN", "END"]


def transition_graph(matrix: np.ndarray, names: Mapping[int, str], threshold: float = 0.12) -> go.Figure:
    """The chain as a graph: an arrow for each transition of at least `threshold`, wider when likelier. Further right
    means nearer the END, in expected turns. A state's hover text has its likeliest successors.
    """
    k, labels, xy = len(matrix) - 2, _labels(matrix, names), _places(matrix)
    pairs = [(i, j) for i, j in zip(*np.nonzero(matrix >= threshold), strict=True) if i != j]
    arrows = [_arrow(xy[i], xy[j], matrix[i, j], f"{labels[i]} → {labels[j]}: {matrix[i, j]:.0%}") for i, j in pairs]
    stays = [f"<br>↻ {p:.0%}" if p >= threshold and i <= k else "" for i, p in enumerate(matrix.diagonal())]
    best = [[f"→ {labels[j]} {row[j]:.0%}" for j in np.argsort(-row)[:6] if row[j] > 0] for row in matrix]
    look = {"size": 20, "color": [PALETTE[0]] * k + [PALETTE[2], PALETTE[3]]}
    look["symbol"] = ["circle"] * k + ["triangle-right", "square"]
    nodes = {"text": np.char.add(labels, stays), "hovertext": ["<br>".join(lines) for lines in best], "marker": look}
    nodes["textposition"] = ["top center" if y > 0 else "bottom center" for y in xy[:, 1]]  # away from the arrows
    shown = go.Figure([*arrows, go.Scatter(x=xy[:, 0], y=xy[:, 1], mode="markers+text", **nodes)])
    shown.update_traces(hoverinfo="text").update_xaxes(visible=False).update_yaxes(visible=False, range=[-2.7, 2.8])
    layout = {"height": 640, "plot_bgcolor": "rgba(0,0,0,0)", "showlegend": False}
    return shown.update_layout(title=f"Transitions of at least {threshold:.0%}", **layout)


def _places(matrix: np.ndarray) -> np.ndarray:
    """[k+2, 2]: x ranks the expected turns to the END, (I - Q)^-1 1 (Kemeny & Snell 1960); y is one of five lanes."""
    k = len(matrix) - 2
    turns = np.linalg.lstsq(np.eye(k + 1) - matrix[: k + 1, : k + 1], np.ones(k + 1), rcond=None)[0]
    xy = np.zeros((k + 2, 2))
    for rank, state in enumerate([k, *np.argsort(-turns[:k]), k + 1]):
        xy[state] = rank, 0 if state >= k else (1, -1, 2, -2, 0)[rank % 5]
    return xy


def _arrow(start: np.ndarray, end: np.ndarray, share: float, label: str) -> go.Scatter:

    t = np.linspace(0.03, 0.96, 24)[:, None]
    bend = np.array([0, 0.25 * np.sign(end[0] - start[0]) * abs(end[0] - start[0]) ** 0.7])  # the way back passes below
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * ((start + end) / 2 + bend) + t**2 * end
    head = {"symbol": "arrow", "angleref": "previous", "size": [0] * 23 + [14], "line_width": 0, "opacity": 1}
    line = {"width": 1 + 7 * share, "color": "#777777"}
    text = {"text": [label] * 24, "opacity": min(1, 0.45 + share)}
    return go.Scatter(x=curve[:, 0], y=curve[:, 1], mode="lines+markers", line=line, marker=head, **text)


def linked_map(figure: go.Figure, dialogues: Sequence[Any]) -> Any:
    """The map, and below it the dialogue of the point that is clicked (this needs a running kernel)."""
    import ipywidgets

    from labkit.notebook.view import show_dialogue

    by_id = {dialogue.dialogue_id: dialogue for dialogue in dialogues}
    widget, below = go.FigureWidget(figure), ipywidgets.HTML("Click a point: its dialogue appears here.")

    def clicked(trace: Any, points: Any, _: Any) -> None:
        for i in points.point_inds[:1]:
            below.value = show_dialogue(by_id[trace.customdata[i][0]]).html

    for trace in widget.data:
        trace.on_click(clicked)
    return ipywidgets.VBox([widget, below])
