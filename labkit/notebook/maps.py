"""Maps of utterances: all of them in one figure, with the dialogue of a point beside it, and with sliders."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
import pandas
import plotly.graph_objects as go

from labkit.corpora.types import Dialogue
from labkit.errors import LabError
from labkit.notebook.look import MARKERS, PALETTE, figure, plain
from labkit.notebook.view import Shown
from labkit.structure import umap_map

if TYPE_CHECKING:
    import ipywidgets

Neighbours = tuple[np.ndarray, np.ndarray]  # of `structure.neighbours`
COLUMNS = ("cluster", "speaker", "domain", "act")
_REGIONS = "cluster"  # the column whose values lie together on a map, so that a name can stand on each
_GLYPHS = "●■◆✖▲★✚"  # plotly's MARKERS as characters
_SIZE = (900, 520)  # of the map that sliders redraw, in pixels


def utterance_map(
    maps: Mapping[str, np.ndarray],
    table: pandas.DataFrame,
    by: Sequence[str] = COLUMNS,
    most: int = 10_000,
) -> go.Figure:
    """Maps of utterances, {name: [N, 2]}: a menu chooses the column that colour and symbol show, a slider the map.

    `table` has the rows of `representations` and the columns in `by` (assign "cluster" first). Of more than `most`
    utterances a random part is drawn, and the title says so: a browser has to hold every point for every column.
    A click on a name in the legend leaves that group alone on the map; a second one brings the others back.

    Raises:
        LabError: no map, one of another number of points, or a column that the table lacks.
    """
    _check(maps, table, by)
    title = "Utterances, near each other when their vectors are"
    if len(table) > most:
        title += f" ({most:,} of {len(table):,})"
        drawn = np.random.default_rng(0).permutation(len(table))[:most]
        maps = {name: places[drawn] for name, places in maps.items()}
        table = table.iloc[drawn]

    groups = [(column, value) for column in by for value in _values(table, column)]
    first = next(iter(maps.values()))
    shown = figure(title, height=640)
    for column, value in groups:
        shown.add_trace(_points(first, table, column, value))
    labelled = [value for column, value in groups if column == _REGIONS]
    if labelled:
        shown.add_trace(_names(first, table, labelled))
    columns = [column for column, _ in groups] + [_REGIONS] * bool(labelled)

    entries = []
    for column in by:
        visible = [other == column for other in columns]
        entries.append({"label": column, "method": "restyle", "args": [{"visible": visible}]})
    for trace, visible in zip(shown.data, entries[0]["args"][0]["visible"], strict=True):
        trace.visible = visible
    steps = []
    for name, places in maps.items():
        xs, ys = _coordinates(places, table, groups, labelled)
        steps.append({"label": plain(name), "method": "restyle", "args": [{"x": xs, "y": ys}]})
    menu = {"buttons": entries, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
    slider = {"steps": steps, "currentvalue": {"prefix": "map: "}, "x": 0.3, "len": 0.7, "y": 1.01, "yanchor": "bottom"}
    legend: dict[str, object] = {"y": -0.02, "yanchor": "top", "itemclick": "toggleothers", "itemdoubleclick": "toggle"}
    legend["title"] = {"text": "click a name to see it alone", "side": "top"}
    several = len(maps) > 1
    shown.update_layout(updatemenus=[menu], sliders=[slider] if several else [], legend=legend)
    shown.update_layout(title={"y": 0.99, "yanchor": "top"}, margin_t=130 if several else 90)
    shown.update_xaxes(showticklabels=False, zeroline=False)
    return shown.update_yaxes(showticklabels=False, zeroline=False)


def _check(maps: Mapping[str, np.ndarray], table: pandas.DataFrame, by: Sequence[str]) -> None:
    if not maps:
        raise LabError("no map to draw", "", "give {name: places [N, 2]}, of umap_map")
    for name, places in maps.items():
        if len(places) != len(table):
            found = f"{len(places)} points, {len(table)} rows"
            raise LabError(f"map {name!r} is not of this table", found, "make both from the same rows")
    missing = [column for column in by if column not in table]
    if missing:
        found = f"the table has {', '.join(map(str, table))}"
        raise LabError(f"no column {', '.join(missing)}", found, "assign it first, or choose others in by=")


def _values(table: pandas.DataFrame, column: str) -> list[str]:
    """The different values of a column as texts, the commonest first."""
    return list(table[column].astype(str).value_counts().index)


def _points(places: np.ndarray, table: pandas.DataFrame, column: str, value: str) -> go.Scatter | go.Scattergl:
    """The utterances with one value of a column; its colour and symbol together are unlike those of any other."""
    order = _values(table, column).index(value)
    chosen = (table[column].astype(str) == value).to_numpy()  # [N] bool
    rows = table[chosen]
    told = []
    for speaker, utterance, dialogue, turn in zip(
        rows["speaker"], rows["utterance"], rows["dialogue_id"], rows["turn"], strict=True
    ):
        said = "<br>".join(plain(line) for line in wrap(f"{speaker}: {utterance}", 60))
        told.append(f"{said}<br>{plain(dialogue)}, turn {turn}<br>{plain(column)}: {plain(value)}")
    make = go.Scatter if len(table) < 3000 else go.Scattergl  # browsers allow only a few WebGL plots on a page
    return make(
        x=_rounded(places[chosen, 0]),
        y=_rounded(places[chosen, 1]),
        mode="markers",
        name=plain(value),
        legendgroup=f"{column}:{order}",
        marker={"color": _colour(order), "symbol": MARKERS[_symbol(order)], "size": 7},
        opacity=0.75,
        customdata=[[dialogue, int(turn)] for dialogue, turn in zip(rows["dialogue_id"], rows["turn"], strict=True)],
        hovertext=told,
        hoverinfo="text",
    )


def _colour(order: int) -> str:
    return PALETTE[order % len(PALETTE)]


def _symbol(order: int) -> int:
    """The number of a symbol: the eighth value has the first one's colour, and so another symbol."""
    return (order + order // len(PALETTE)) % len(MARKERS)


def _rounded(values: np.ndarray) -> list[float]:
    """Plain numbers: a slider's step and the page of `linked_map` read no packed ones."""
    return [round(float(value), 3) for value in values]


def _centres(places: np.ndarray, table: pandas.DataFrame, values: Sequence[str]) -> tuple[list[float], list[float]]:
    """(x, y) of the middles (medians) of each cluster."""
    own = table[_REGIONS].astype(str).to_numpy()
    middles = np.array([np.median(places[own == value], axis=0) for value in values])  # [C, 2]
    return _rounded(middles[:, 0]), _rounded(middles[:, 1])


def _names(places: np.ndarray, table: pandas.DataFrame, values: Sequence[str]) -> go.Scatter:
    """The clusters' names in the middles of their points: colours alone repeat from the eighth on."""
    xs, ys = _centres(places, table, values)
    return go.Scatter(
        x=xs,
        y=ys,
        text=[f"<b>{'<br>'.join(plain(line) for line in wrap(value, 16))}</b>" for value in values],
        hovertext=[plain(value) for value in values],
        mode="text",
        textfont={"size": 11, "shadow": _HALO},
        name="names",
        legendgroup="names",
        showlegend=False,
        hoverinfo="skip",
    )


_HALO = ", ".join(f"{x}px {y}px 2px white" for x in (-1, 0, 1) for y in (-1, 0, 1))  # so that points do not hide a name


def _coordinates(
    places: np.ndarray, table: pandas.DataFrame, groups: Sequence[tuple[str, str]], labelled: Sequence[str]
) -> tuple[list[list[float]], list[list[float]]]:
    """All traces' x and y on another map."""
    xs = []
    ys = []
    for column, value in groups:
        chosen = (table[column].astype(str) == value).to_numpy()
        xs.append(_rounded(places[chosen, 0]))
        ys.append(_rounded(places[chosen, 1]))
    if labelled:
        x, y = _centres(places, table, labelled)
        xs.append(x)
        ys.append(y)
    return xs, ys


def linked_map(figure: go.Figure, dialogues: Sequence[Dialogue]) -> Shown:
    """The map, and beside it the dialogue of the point that is clicked or, by keyboard, chosen in a list.

    A page of its own in a frame, plotly.js included (5 MB): it needs neither a kernel nor the network. In a narrow
    window the dialogue stands below the map.
    """
    said = {}
    for dialogue in dialogues:
        said[dialogue.dialogue_id] = [(turn.speaker, turn.utterance) for turn in dialogue.turns]
    data = json.dumps(said).replace("<", "\\u003c")  # so that no text ends the script
    responsive = go.Figure(figure).update_layout(height=None, autosize=True)
    drawn = responsive.to_html(
        full_html=False,
        include_plotlyjs=True,
        div_id="map",
        default_height="100%",
        config={"responsive": True},
    )
    page = Path(__file__).with_name("linked_map.html").read_text(encoding="utf-8")
    page = page.replace("<!--dialogues-->", data)
    page = page.replace("<!--figure-->", drawn)
    look = 'title="Map of utterances" style="width:100%;height:720px;border:0"'
    return Shown(f'<iframe {look} srcdoc="{escape(page)}"></iframe>', f"a map of {len(said)} dialogues, for a browser")


def map_sliders(
    vectors: np.ndarray, table: pandas.DataFrame, knn: Neighbours, seed: int = 42, by: Sequence[str] = COLUMNS
) -> "ipywidgets.VBox":
    """Sliders for `n_neighbors` and `min_dist`: a move lays the neighbours (`knn`) out anew, once for each setting.

    Needs a kernel; `utterance_map` of several maps is the same without one.
    """
    import ipywidgets as w

    @cache
    def laid_out(n_neighbors: int, min_dist: float) -> np.ndarray:
        return umap_map(vectors, n_neighbors, min_dist, seed, knn)

    known = knn[0].shape[1]
    choices = [n for n in (2, 5, 10, 15, 30, 50) if n <= known]
    style = {"description_width": "7em"}
    look = {"continuous_update": False, "style": style}
    near = w.SelectionSlider(options=choices, value=min(15, choices[-1]), description="n_neighbors", **look)
    dist = w.SelectionSlider(options=[0.0, 0.1, 0.25, 0.5, 0.99], value=0.1, description="min_dist", **look)
    column = w.Dropdown(options=list(by), description="colour by", style=style)
    shown = w.HTML()

    def redraw(_: object = None) -> None:
        shown.value = _svg_map(laid_out(near.value, dist.value), table, column.value)

    for control in (near, dist, column):
        control.observe(redraw, names="value")
    redraw()
    return w.VBox([near, dist, column, shown])


def _svg_map(places: np.ndarray, table: pandas.DataFrame, column: str) -> str:
    """A map [N, 2] as plain SVG, which a widget can show in every front end; a character is a point's symbol.

    Map and legend bring their own white paper: the palette is made for it, and dark themes would hide the greys.
    """
    width, height = _SIZE
    upright = places * (1, -1)  # SVG's y goes down
    spread = np.ptp(upright, axis=0).clip(1e-9)
    pixels = (10 + (upright - upright.min(axis=0)) / spread * _SIZE).round().astype(int)  # [N, 2]
    looks = {}
    legend = []
    for order, value in enumerate(_values(table, column)):
        colour = _colour(order)
        glyph = _GLYPHS[_symbol(order)]
        looks[value] = f'fill="{colour}">{glyph}'
        mark = f'<span style="color:{colour}">{glyph}</span>'
        legend.append(f'<span style="white-space:nowrap">{mark} {escape(value)}</span>')
    points = []
    for (x, y), value, said in zip(pixels, table[column].astype(str), table["utterance"], strict=True):
        points.append(f'<text x="{x}" y="{y}" {looks[value]}<title>{escape(f"{value}: {said}")}</title></text>')
    name = f'role="img" aria-label="map of utterances, by {escape(column)}"'
    svg = f'<svg viewBox="0 0 {width + 20} {height + 20}" {name} style="font-size:10px">{"".join(points)}</svg>'
    paper = f"max-width:{width}px;padding:.3em .6em;background:white;color:#222;line-height:1.5"
    return f'<div style="{paper}">{svg}<p>{" &nbsp; ".join(legend)}</p></div>'
