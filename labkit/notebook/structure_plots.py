"""Figures of notebook 4: the map of utterances, the choice of k, words of clusters, transitions. All plotly.

Colours tell nothing alone: symbols, labels and hover text say the same again.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import pandas
import plotly.express as px
import plotly.graph_objects as go

from labkit.notebook.plots import MARKERS, PALETTE
from labkit.shown import Shown
from labkit.structure import Words, cluster_names, umap_map

Texts = Sequence[str]
COLUMNS = ("cluster", "speaker", "domain", "act")
_GLYPHS = "●■◆✖▲★✚"  # plotly's MARKERS as characters
_CARD = "flex:1 1 24em;padding:.5em .9em;border:1px solid rgba(128,128,128,.5);border-radius:.6em"


def utterance_map(
    maps: Mapping[str, np.ndarray], table: pandas.DataFrame, by: Texts = COLUMNS, most: int = 10_000
) -> go.Figure:
    """Maps of utterances, {name: [N, 2]}: a menu chooses the column that colour and symbol show, a slider the map.

    `table` has the rows of `representations` and the columns in `by` (assign "cluster" first). Of more than `most`
    utterances a random part is drawn, and the title says so: a browser has to hold every point for every column.
    """
    title = "Utterances, near each other when their vectors are"
    if len(table) > most:
        title += f" ({most:,} of {len(table):,})"
        some = np.random.default_rng(0).permutation(len(table))[:most]
        maps, table = {name: xy[some] for name, xy in maps.items()}, table.iloc[some]
    points = {name: [trace for column in by for trace in _points(xy, table, column)] for name, xy in maps.items()}
    shown = go.Figure(next(iter(points.values())))
    shown.update_layout(title=title, height=640)
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
    """The chain as a graph: an arrow for each transition of at least `threshold`, wider when likelier; a slider changes
    the threshold. Further right means nearer the END, in expected turns. Hovering tells a state's likeliest successors.
    """
    k, labels, xy = len(matrix) - 2, _labels(matrix, names), _places(matrix)
    limits = sorted({0.05, 0.1, 0.15, 0.2, 0.3, 0.5, threshold})
    pairs = [(i, j) for i, j in zip(*np.nonzero(matrix >= limits[0]), strict=True) if i != j]
    arrows = [_arrow(xy[i], xy[j], matrix[i, j], f"{labels[i]} → {labels[j]}: {matrix[i, j]:.0%}") for i, j in pairs]
    stays = [f"<br>↻ {p:.0%}" if p >= threshold and i <= k else "" for i, p in enumerate(matrix.diagonal())]
    best = [[f"→ {labels[j]} {row[j]:.0%}" for j in np.argsort(-row)[:6] if row[j] > 0] for row in matrix]
    look = {"size": 20, "color": [PALETTE[0]] * k + [PALETTE[2], PALETTE[3]]}
    look["symbol"] = ["circle"] * k + ["triangle-right", "square"]
    nodes = {"text": np.char.add(labels, stays), "hovertext": ["<br>".join(lines) for lines in best], "marker": look}
    nodes["textposition"] = ["top center" if y > 0 else "bottom center" for y in xy[:, 1]]  # away from the arrows
    shown = go.Figure([*arrows, go.Scatter(x=xy[:, 0], y=xy[:, 1], mode="markers+text", **nodes)])
    shown.update_traces(hoverinfo="text").update_xaxes(visible=False).update_yaxes(visible=False, range=[-2.7, 2.8])
    steps = [_button(f"{limit:.0%}", visible=[*(bool(matrix[p] >= limit) for p in pairs), True]) for limit in limits]
    for trace, visible in zip(shown.data, steps[limits.index(threshold)]["args"][0]["visible"], strict=True):
        trace.visible = visible
    slider = {"steps": steps, "active": limits.index(threshold), "currentvalue": {"prefix": "at least "}}
    layout = {"height": 700, "plot_bgcolor": "rgba(0,0,0,0)", "showlegend": False}
    return shown.update_layout(title="Where a dialogue goes next", sliders=[slider], **layout)


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


def linked_map(figure: go.Figure, dialogues: Sequence[Any]) -> Shown:
    """The map, and below it the dialogue of the point that is clicked or, by keyboard, chosen in a list.

    A page of its own in a frame, plotly.js included (5 MB): it needs neither a kernel nor the network.
    """
    said = {each.dialogue_id: [(turn.speaker, turn.utterance) for turn in each.turns] for each in dialogues}
    page = Path(__file__).with_name("linked_map.html").read_text(encoding="utf-8")
    data = json.dumps(said).replace("<", "\\u003c")  # so that no text ends the script
    page = page.replace("<!--dialogues-->", data)
    page = page.replace("<!--figure-->", figure.to_html(full_html=False, include_plotlyjs=True, div_id="map"))
    look = 'title="Map of utterances" style="width:100%;height:1100px;border:0"'
    return Shown(f'<iframe {look} srcdoc="{escape(page)}"></iframe>', f"a map of {len(said)} dialogues, for a browser")


def map_sliders(vectors: np.ndarray, table: pandas.DataFrame, knn: Any, seed: int = 42, by: Texts = COLUMNS) -> Any:
    """Sliders for `n_neighbors` and `min_dist`: a move lays the neighbours (`knn`) out anew, once for each setting.

    Needs a kernel; `utterance_map` of several maps is the same without one.
    """
    import ipywidgets as w

    @cache
    def drawn(near: int, dist: float) -> np.ndarray:
        return umap_map(vectors, near, dist, seed, knn)

    choices = [near for near in (2, 5, 10, 15, 30, 50) if near <= knn[0].shape[1]]
    look = {"continuous_update": False, "style": {"description_width": "7em"}}
    near = w.SelectionSlider(options=choices, value=min(15, choices[-1]), description="n_neighbors", **look)
    dist = w.SelectionSlider(options=[0.0, 0.1, 0.25, 0.5, 0.99], value=0.1, description="min_dist", **look)
    column, shown = w.Dropdown(options=list(by), description="colour by", style=look["style"]), w.HTML()

    def redraw(_: Any = None) -> None:
        shown.value = _svg_map(drawn(near.value, dist.value), table, column.value)

    for control in (near, dist, column):
        control.observe(redraw, names="value")
    redraw()
    return w.VBox([near, dist, column, shown])


def _svg_map(xy: np.ndarray, table: pandas.DataFrame, column: str, size: tuple[int, int] = (900, 520)) -> str:
    """A map as plain SVG, which a widget can show in every front end; a character is a point's symbol."""
    values, xy = list(table[column].astype(str).value_counts().index), xy * (1, -1)  # SVG's y goes down
    looks = {value: (PALETTE[i % 7], _GLYPHS[(i + i // 7) % 7]) for i, value in enumerate(values)}
    places = (10 + (xy - xy.min(0)) / np.ptp(xy, 0).clip(1e-9) * size).round().astype(int)
    points, legend = [], []
    for (x, y), value, said in zip(places, table[column].astype(str), table["utterance"], strict=True):
        colour, glyph = looks[value]
        points.append(
            f'<text x="{x}" y="{y}" fill="{colour}">{glyph}<title>{escape(f"{value}: {said}")}</title></text>'
        )
    for value, (colour, glyph) in looks.items():
        legend.append(
            f'<span style="white-space:nowrap"><span style="color:{colour}">{glyph}</span> {escape(value)}</span>'
        )
    box = f'viewBox="0 0 {size[0] + 20} {size[1] + 20}" role="img" aria-label="map of utterances, by {escape(column)}"'
    svg = f'<svg {box} style="max-width:{size[0]}px;background:white;font-size:10px">{"".join(points)}</svg>'
    return f"{svg}<p>{' &nbsp; '.join(legend)}</p>"


def cluster_cards(words: Words, rows: pandas.DataFrame, labels: Sequence[int], typical: Mapping[int, Texts]) -> Shown:
    """A card for each cluster: its words, the larger the higher their class TF-IDF; its commonest acts and slots, as
    shares of its utterances; and the utterances in `typical` (of `nearest_utterances`).
    """
    names, cards, lines = cluster_names(words), [], []
    for c, pairs in words.items():
        mine = rows[np.asarray(labels) == c]
        facts = [f"{len(mine)} utterances", *(f"{what}: {_shares(mine, what)}" for what in ("act", "slots"))]
        body = _cloud(pairs) + "".join(f"<div>{escape(fact)}</div>" for fact in facts)
        body += "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in typical[c]) + "</ul>"
        cards.append(f'<section style="{_CARD}"><b>{escape(names[c])}</b>{body}</section>')
        lines += [names[c], *facts, *(f"    {text}" for text in typical[c])]
    return Shown(f'<div style="display:flex;flex-wrap:wrap;gap:1em">{"".join(cards)}</div>', "\n".join(lines))


def _shares(rows: pandas.DataFrame, column: str, n: int = 3) -> str:
    counts = rows[column].explode().value_counts().head(n) / max(1, len(rows))
    return ", ".join(f"{value} {share:.0%}" for value, share in counts.items()) or "none"


def _cloud(pairs: Sequence[tuple[str, float]]) -> str:
    """Words in alphabetical order, with a font size from 0.8 to 2 em that grows with the square root of the score."""
    best = max((score for _, score in pairs), default=1.0)
    sized = [(escape(word), 0.8 + 1.2 * (score / best) ** 0.5, score) for word, score in sorted(pairs)]
    spans = [f'<span style="font-size:{size:.2f}em" title="{score:.3f}">{word}</span>' for word, size, score in sized]
    return f'<p style="line-height:1.3;margin:.4em 0">{" ".join(spans)}</p>'
