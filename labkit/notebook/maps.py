"""Maps of utterances: all of them in one figure, with the dialogue of a point beside it, and with sliders."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from labkit.notebook.look import MARKERS, PALETTE, figure, plain, plain_lines
from labkit.shown import Shown
from labkit.structure import umap_map

if TYPE_CHECKING:
    import ipywidgets

Coordinates = tuple[list[float], list[float]]  # (x, y) of some points
Neighbours = tuple[np.ndarray, np.ndarray]  # of `structure.neighbours`
COLUMNS = ("cluster", "speaker", "domain", "act")
_REGIONS = "cluster"  # the column whose values lie together on a map, so that a name can stand on each
_GLYPHS = "●■◆✖▲★✚"  # plotly's MARKERS as characters
_SIZE = (900, 520)  # of the map that sliders redraw, in pixels
_LEGEND = {
    "title": {"text": "click a name to see it alone", "side": "top"},
    "y": -0.02,
    "yanchor": "top",
    "itemclick": "toggleothers",
    "itemdoubleclick": "toggle",
}
_HALO = "-1px -1px 2px white, 1px -1px 2px white, -1px 1px 2px white, 1px 1px 2px white"  # of a name among points


@dataclass(frozen=True)
class _Group:
    """The utterances with one value of a column."""

    column: str
    value: str
    order: int  # among the values of its column, the commonest first
    chosen: np.ndarray  # [N] bool

    def coordinates(self, places: np.ndarray) -> Coordinates:
        """Where its points are on a map, [N, 2]."""
        own = places[self.chosen]
        return _rounded(own[:, 0]), _rounded(own[:, 1])


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
        table = table.iloc[drawn]
        maps = {name: places[drawn] for name, places in maps.items()}

    groups = _groups(table, by)
    regions = [group for group in groups if group.column == _REGIONS]
    first = next(iter(maps.values()))  # [N, 2]
    shown = figure(title, height=640)
    for group in groups:
        shown.add_trace(_points(first, table, group))
    columns = [group.column for group in groups]
    if regions:
        shown.add_trace(_names(first, regions))
        columns.append(_REGIONS)
    for trace, column in zip(shown.data, columns, strict=True):
        trace.visible = column == by[0]
    shown.update_layout(
        updatemenus=[_column_menu(by, columns)],
        legend=_LEGEND,
        title={"y": 0.99, "yanchor": "top"},
        margin_t=90,
    )
    if len(maps) > 1:
        shown.update_layout(sliders=[_map_slider(maps, groups, regions)], margin_t=130)
    shown.update_xaxes(showticklabels=False, zeroline=False)
    shown.update_yaxes(showticklabels=False, zeroline=False)
    return shown


def _check(maps: Mapping[str, np.ndarray], table: pandas.DataFrame, by: Sequence[str]) -> None:
    if not maps:
        raise LabError("no map to draw", "", "give {name: places [N, 2]}, of umap_map")
    for name, places in maps.items():
        if len(places) != len(table):
            found = f"{len(places)} points, {len(table)} rows"
            raise LabError(f"map {name!r} is not of this table", found, "make both from the same rows")
    for column in by:
        if column not in table:
            known = ", ".join(str(name) for name in table)
            raise LabError(f"no column {column!r}", f"the table has {known}", "assign it, or choose others in by=")


def _values(table: pandas.DataFrame, column: str) -> list[str]:
    """The different values of a column as texts, the commonest first."""
    counts = table[column].astype(str).value_counts()
    return list(counts.index)


def _groups(table: pandas.DataFrame, by: Sequence[str]) -> list[_Group]:
    """A group for each value of each column."""
    groups = []
    for column in by:
        own = table[column].astype(str).to_numpy()  # [N]
        for order, value in enumerate(_values(table, column)):
            groups.append(_Group(column, value, order, chosen=own == value))
    return groups


def _points(places: np.ndarray, table: pandas.DataFrame, group: _Group) -> go.Scatter | go.Scattergl:
    """The utterances of a group; its colour and symbol together are unlike those of any other of its column."""
    ids = []
    told = []
    for row in table[group.chosen].itertuples():
        ids.append([row.dialogue_id, int(row.turn)])
        lines = wrap(f"{row.speaker}: {row.utterance}", 60)
        lines.append(f"{row.dialogue_id}, turn {row.turn}")
        lines.append(f"{group.column}: {group.value}")
        told.append(plain_lines(lines))
    x, y = group.coordinates(places)
    look = {
        "color": _colour(group.order),
        "symbol": MARKERS[_symbol(group.order)],
        "size": 7,
    }
    make = go.Scatter if len(table) < 3000 else go.Scattergl  # browsers allow only a few WebGL plots on a page
    return make(
        x=x,
        y=y,
        mode="markers",
        name=plain(group.value),
        legendgroup=f"{group.column}:{group.order}",
        marker=look,
        opacity=0.75,
        customdata=ids,
        hovertext=told,
        hoverinfo="text",
    )


def _colour(order: int) -> str:
    return PALETTE[order % len(PALETTE)]


def _symbol(order: int) -> int:
    """The number of a symbol: the eighth value has the first one's colour, and so another symbol."""
    round_of_colours = order // len(PALETTE)
    return (order + round_of_colours) % len(MARKERS)


def _rounded(values: np.ndarray) -> list[float]:
    """Plain numbers: a slider's step and the page of `linked_map` read no packed ones."""
    return [round(float(value), 3) for value in values]


def _names(places: np.ndarray, regions: Sequence[_Group]) -> go.Scatter:
    """The clusters' names in the middles of their points: colours alone repeat from the eighth on."""
    x, y = _middles(places, regions)
    texts = []
    for group in regions:
        name = plain_lines(wrap(group.value, 16))
        texts.append(f"<b>{name}</b>")
    return go.Scatter(
        x=x,
        y=y,
        text=texts,
        hovertext=[plain(group.value) for group in regions],
        hoverinfo="skip",
        mode="text",
        textfont={"size": 11, "shadow": _HALO},
        name="names",
        legendgroup="names",
        showlegend=False,
    )


def _middles(places: np.ndarray, regions: Sequence[_Group]) -> Coordinates:
    """The median of each group's points."""
    middles = [np.median(places[group.chosen], axis=0) for group in regions]
    x, y = np.transpose(middles)
    return _rounded(x), _rounded(y)


def _column_menu(by: Sequence[str], columns: Sequence[str]) -> dict[str, object]:
    """A menu whose entries show the traces of one column; `columns` are those of all traces."""
    entries = []
    for column in by:
        visible = [other == column for other in columns]
        entries.append({"label": column, "method": "restyle", "args": [{"visible": visible}]})
    return {
        "buttons": entries,
        "x": 0,
        "xanchor": "left",
        "y": 1.02,
        "yanchor": "bottom",
    }


def _map_slider(
    maps: Mapping[str, np.ndarray], groups: Sequence[_Group], regions: Sequence[_Group]
) -> dict[str, object]:
    """A slider whose steps move all points, and the names, to another map."""
    steps = []
    for name, places in maps.items():
        coordinates = [group.coordinates(places) for group in groups]
        if regions:
            coordinates.append(_middles(places, regions))
        change = {
            "x": [x for x, _ in coordinates],
            "y": [y for _, y in coordinates],
        }
        steps.append({"label": plain(name), "method": "restyle", "args": [change]})
    return {
        "steps": steps,
        "currentvalue": {"prefix": "map: "},
        "x": 0.3,
        "len": 0.7,
        "y": 1.01,
        "yanchor": "bottom",
    }


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
    look = 'title="Map of utterances" class="lab-paper" style="width:100%;height:720px;border:0"'
    return Shown(f'<iframe {look} srcdoc="{escape(page)}"></iframe>', f"a map of {len(said)} dialogues, for a browser")


def map_sliders(
    vectors: np.ndarray, table: pandas.DataFrame, knn: Neighbours, seed: int = 42, by: Sequence[str] = COLUMNS
) -> "ipywidgets.VBox":
    """Sliders for `n_neighbors` and `min_dist`: a move lays the neighbours (`knn`) out anew, once for each setting.

    Without a kernel, the map of the first settings stays; `utterance_map` of several maps is the same without one.
    """
    import ipywidgets as w

    from labkit.notebook.decoding_lab.twin import display_with_twin

    class Sliders(w.VBox):
        """A box that leaves its map in the notebook."""

        def _ipython_display_(self) -> None:
            display_with_twin(self, Shown(shown.value, "a map with sliders, for a notebook with its kernel"))

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
    return Sliders([near, dist, column, shown])


def _svg_map(places: np.ndarray, table: pandas.DataFrame, column: str) -> str:
    """A map [N, 2] as plain SVG, which a widget can show in every front end; a character is a point's symbol.

    Map and legend bring their own white paper: the palette is made for it, and dark themes would hide the greys.
    """
    upright = places * (1, -1)  # SVG's y goes down
    lowest = upright.min(axis=0)
    spread = np.ptp(upright, axis=0).clip(1e-9)
    pixels = 10 + (upright - lowest) / spread * _SIZE  # [N, 2]

    looks = {}
    for order, value in enumerate(_values(table, column)):
        looks[value] = (_colour(order), _GLYPHS[_symbol(order)])
    points = []
    values = table[column].astype(str)
    for (x, y), value, said in zip(pixels, values, table["utterance"], strict=True):
        colour, glyph = looks[value]
        tooltip = escape(f"{value}: {said}")
        points.append(f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}">{glyph}<title>{tooltip}</title></text>')

    width, height = _SIZE
    box = f'viewBox="0 0 {width + 20} {height + 20}" style="font-size:10px"'
    name = f'role="img" aria-label="map of utterances, by {escape(column)}"'
    drawn = "".join(points)
    svg = f"<svg {box} {name}>{drawn}</svg>"
    paper = f"max-width:{width}px;padding:.3em .6em;background:white;color:#222;line-height:1.5"
    return f'<div class="lab-paper" style="{paper}">{svg}<p>{_svg_legend(looks)}</p></div>'


def _svg_legend(looks: Mapping[str, tuple[str, str]]) -> str:
    """Symbol, colour and name of each value, {value: (colour, character)}."""
    entries = []
    for value, (colour, glyph) in looks.items():
        mark = f'<span style="color:{colour}">{glyph}</span>'
        entries.append(f'<span style="white-space:nowrap">{mark} {escape(value)}</span>')
    return " &nbsp; ".join(entries)
