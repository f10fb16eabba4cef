"""The look of the lab's figures: one plotly template, and colours that colour-blind readers can tell apart.

Importing this module makes the template plotly's default, so that plotly express draws in it, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
import plotly.io

from labkit.errors import LabError

Row = Mapping[str, Any]  # a row of the results board; Any: what JSON holds

# Okabe & Ito (2008): colours that colour-blind readers can tell apart, and a grey that is measured to be so, too
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#555555")
PATTERNS = ("", "/", ".", "x", "-", "+", "|")
DASHES = ("solid", "dash", "dot", "dashdot")
MARKERS = ("circle", "square", "diamond", "x", "triangle-up", "star", "cross")
METRICS = {"bleu": "BLEU", "inform": "Inform", "success": "Success"}
INK = "#222222"
_UNUSED_TOOLS = ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]


def _template() -> go.layout.Template:
    """White paper, so that a figure reads in dark themes too, and margins that grow with the labels."""
    axis = {"gridcolor": "#dddddd", "zerolinecolor": "#888888", "automargin": True, "title": {"standoff": 12}}
    layout = go.Layout(
        colorway=PALETTE,
        colorscale={"sequential": "Blues"},
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"color": INK, "size": 13},
        title={"x": 0.02},
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        legend={"orientation": "h", "y": -0.25},
        hoverlabel={"align": "left"},
        modebar={"remove": _UNUSED_TOOLS, "bgcolor": "rgba(255,255,255,0.8)"},
        xaxis=axis,
        yaxis=axis,
    )
    stripes = {"fillmode": "overlay", "size": 10, "solidity": 0.2}  # on the bar's colour, not on white
    bar = go.Bar(marker={"pattern": stripes})
    return go.layout.Template(layout=layout, data={"bar": [bar]})


plotly.io.templates["lab"] = _template()
plotly.io.templates.default = "lab"


def figure(title: str, x: str = "", y: str = "", height: int = 380) -> go.Figure:
    """An empty figure in the lab's look. The texts are shown as they are: `<b>` in them is no markup."""
    shown = go.Figure()
    shown.update_layout(template="lab", title=plain(title), height=height)
    shown.update_xaxes(title_text=plain(x))
    shown.update_yaxes(title_text=plain(y))
    return shown


def plain(text: object) -> str:
    """A text as plotly shows it letter by letter.

    Plotly reads `<b>` and links as markup in every text, and what stands between two `$` as a formula.
    """
    return escape(str(text), quote=False).replace("$", "&#36;")


def plain_lines(lines: Iterable[str]) -> str:
    """Several lines as plotly shows them, each letter by letter."""
    return "<br>".join(plain(line) for line in lines)


def line_look(order: int) -> dict[str, object]:
    """Dash and marker of the line number `order`, so that lines differ in more than colour."""
    return {
        "mode": "lines+markers",
        "line_dash": DASHES[order % len(DASHES)],
        "marker": {"symbol": MARKERS[order % len(MARKERS)], "size": 9},
    }


def error_bars(rows: Iterable[Row], metric: str) -> dict[str, object] | None:
    """Plotly's error bars from "intervals": {metric: (low, high)}; none where no row has them."""
    above: list[float] = []
    below: list[float] = []
    known = False
    for row in rows:
        interval = (row.get("intervals") or {}).get(metric)
        value = row.get(metric)
        if interval and value is not None:
            low, high = interval
            above.append(high - value)
            below.append(value - low)
            known = True
        else:
            above.append(0)
            below.append(0)
    if not known:
        return None
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below}


def check_choice(what: str, name: str, choices: Iterable[str]) -> None:
    """Refuse a name that is none of the choices.

    Raises:
        LabError: it is none of them.
    """
    known = list(choices)
    if name not in known:
        raise LabError(f"no {what} {name!r}", f"there are {', '.join(known)}", "choose one of these")


def named(row: Row) -> str:
    """The model of a row, a stand-in named as one."""
    name = str(row.get("model"))
    return f"{name} (stand-in)" if row.get("stand_in") else name


def titled(title: str, rows: Sequence[Row]) -> str:
    """A title that says once that the rows are of stand-ins; `stand_in_mark` tells which, where only some are."""
    marks = [bool(row.get("stand_in")) for row in rows]
    if not any(marks) or "stand-in" in title:
        return title
    if all(marks):
        return f"{title} (stand-ins)"
    return f"{title} (some are stand-ins)"


def stand_in_mark(row: Row, rows: Sequence[Row]) -> str:
    """ " (stand-in)" after the name of a row that is one among others that are none: else the title says it."""
    all_are = all(other.get("stand_in") for other in rows)
    if row.get("stand_in") and not all_are:
        return " (stand-in)"
    return ""
