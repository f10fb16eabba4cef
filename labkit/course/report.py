"""Preflight's pages: every executed notebook, and an index of all runs and checks, as HTML that needs no network."""

import json
import re
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import plotly.io
from jinja2 import Environment

from labkit.course.accessibility import PLOTLY
from labkit.course.checks import MUST
from labkit.course.cost import machine
from labkit.course.formulas import OfflineExporter, without_mathjax
from labkit.lab import Lab
from labkit.results.board import Board
from labkit.storage import Json

if TYPE_CHECKING:
    from labkit.course.executed import Run

PLOTLY_FILE = "plotly.min.js"  # beside the pages
WIDGET = "application/vnd.jupyter.widget-view+json"
# plotly.js as a whole in an output: as it is, or escaped within the page of a frame
_PLOTLY = re.compile(r"<script[^>]*>/\*\*\s+\* plotly\.js v.*?</script>", re.DOTALL)
_PLOTLY_OF_A_FRAME = re.compile(r"&lt;script.{0,60}?&gt;/\*\*\s+\* plotly\.js v.*?&lt;/script&gt;", re.DOTALL)


def notebook_page(notebook: nbformat.NotebookNode, title: str, *, index: str = "") -> str:
    """An executed notebook as HTML that needs no network: figures are drawn by PLOTLY_FILE, formulas by the browser.

    A widget is shown by its static twin; code that is folded away in the notebook is left out. `index` is the address
    of a page of all notebooks, which a link on top leads to.
    """
    for cell in notebook.cells:
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata["transient"] = {"remove_source": True}  # as nbconvert's templates know it
        for output in cell.get("outputs", ()):
            _make_static(output.get("data", {}))
    exporter = OfflineExporter(template_name="lab", embed_images=True, require_js_url="")
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    page = without_mathjax(page)
    if index:
        link = f'<nav style="padding:.6em 1em"><a href="{index}">All notebooks, checks and results</a></nav>'
        page = page.replace("<main", f"{link}<main", 1)
    return page


def _make_static(data: Json) -> None:  # {MIME type: what nbformat has for it}
    figure = data.pop(PLOTLY, None)
    if figure:
        data["text/html"] = drawn(figure)
    elif "text/html" in data:
        data["text/html"] = with_shared_plotly(data["text/html"], PLOTLY_FILE)
    widget = data.pop(WIDGET, None)
    if widget and "text/html" not in data:
        data["text/plain"] = ""  # of a progress bar, which would stand there as "0 %"


def drawn(figure: Json, *, include_plotlyjs: str | bool = PLOTLY_FILE) -> str:  # plotly's JSON
    """A plotly figure as a piece of HTML; `include_plotlyjs` as plotly has it."""
    text = json.dumps({"data": figure["data"], "layout": figure["layout"]})
    shown = plotly.io.from_json(text, skip_invalid=True)
    return plotly.io.to_html(shown, full_html=False, include_plotlyjs=include_plotlyjs)


def with_shared_plotly(html: str, address: str) -> str:
    """An output that loads plotly's script from `address`, where it brought one of its own: 5 MB each time."""
    shared = f'<script src="{address}"></script>'
    html = _PLOTLY.sub(lambda _: shared, html)
    return _PLOTLY_OF_A_FRAME.sub(lambda _: escape(shared), html)


def index_page(runs: Sequence["Run"], checks: dict[str, list[str]], homes: dict[str, Path], lab: Lab) -> str:
    """The index: a row a run, the checks with their findings, and the results board of every setting's folder."""
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            runs=runs,
            passed=len([run for run in runs if not run.error]),
            checks=checks,
            must=MUST,
            boards={setting: _board(Board(home)) for setting, home in homes.items()},
            lab=lab,
            machine=machine(lab.hardware),
            date=time.strftime("%Y-%m-%d %H:%M"),
        )
    )


def _board(board: Board) -> str:
    if not board.rows():
        return "<p>No results yet.</p>"
    figure = json.loads(board.figure().to_json())
    return board.html().html + drawn(figure)
