"""Run the whole course without a browser and write what it shows as HTML: for `make report`, and before a session."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import nbformat
import plotly.io
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from plotly.offline import get_plotlyjs

from labkit.environment import clone_root
from labkit.errors import LabError
from labkit.notebook.board import Board
from labkit.storage import write_text

CELL_SECONDS = 3600  # for one cell
_STYLE = """body{font-family:sans-serif;max-width:80em;margin:2em auto;padding:0 1em;color:#222;background:#fff}
table{border-collapse:collapse;display:block;overflow-x:auto}
td,th{padding:.3em .7em;border-bottom:1px solid #bbb;text-align:left}"""


@dataclass(frozen=True)
class Run:
    """One executed notebook. `slowest` has (seconds, cell number, first line) of its three slowest cells."""

    notebook: Path
    page: str
    seconds: float
    error: str
    slowest: tuple[tuple[float, int, str], ...]


def preflight(html: Path | str, notebooks: Sequence[Path | str] | None = None, profile: str | None = None) -> list[Run]:
    """Execute notebooks in order and write each as HTML, with an index and the results board, into the folder `html`.

    Args:
        notebooks: by default those in solutions/.
        profile: smoke, cpu or gpu; by default what LAB_PROFILE or the hardware says.

    Raises:
        LabError: nothing to run, or a notebook failed (after everything has run and is written).
    """
    html, root = Path(html), clone_root() or Path()
    paths = [Path(path) for path in notebooks or sorted(root.glob("solutions/*.ipynb"))]
    if not paths:
        raise LabError("no notebooks to run", "", "run this in the root of the repository")
    home = Path(os.environ.get("LAB_HOME") or html / "outputs").absolute()
    # plotly_mimetype keeps the data of a figure in the notebook; `_page` turns it into HTML that needs no network
    env = os.environ | {"LAB_HOME": str(home), "PLOTLY_RENDERER": "plotly_mimetype"}
    env |= {"LAB_PROFILE": profile} if profile else {}
    write_text(html / "plotly.min.js", get_plotlyjs())
    runs = [_run(path, html, env) for path in paths]
    write_text(html / "index.html", _index(runs, Board(home), env.get("LAB_PROFILE", "")))
    if failed := [run for run in runs if run.error]:
        names = ", ".join(str(run.notebook) for run in failed)
        raise LabError(f"{len(failed)} of {len(runs)} notebooks failed", names, f"open {html / 'index.html'}")
    return runs


def _run(path: Path, html: Path, env: dict[str, str]) -> Run:
    """Execute one notebook in its own folder; whatever ran before an error is in its page."""
    notebook = nbformat.read(path, as_version=4)
    kernel = {"kernel_name": "python3", "extra_arguments": ["--log-level=ERROR"]}  # it warns about its own TCP port
    folder = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=CELL_SECONDS, resources=folder, **kernel)
    print(f"{path} …", end=" ", flush=True)
    start, error = time.perf_counter(), ""
    try:
        client.execute(env=env)
    except CellExecutionError as failure:
        error = f"{failure.ename}: {failure.evalue}"
    except (CellTimeoutError, DeadKernelError) as failure:
        error = str(failure).strip().split("\n")[0]
    seconds = time.perf_counter() - start
    print("failed" if error else "passed", f"in {seconds:.0f} s")
    page = f"{path.parent.name}_{path.stem}.html"
    write_text(html / page, _page(notebook, path.stem))
    return Run(path, page, seconds, error, _slowest(notebook))


def _slowest(notebook: nbformat.NotebookNode, n: int = 3) -> tuple[tuple[float, int, str], ...]:
    timed = []
    for number, cell in enumerate(notebook.cells, 1):
        times = cell.metadata.get("execution", {})
        if "shell.execute_reply" in times and "iopub.status.busy" in times:
            first, last = (datetime.fromisoformat(times[key]) for key in ("iopub.status.busy", "shell.execute_reply"))
            timed.append(((last - first).total_seconds(), number, cell.source.split("\n")[0]))
    return tuple(sorted(timed, reverse=True)[:n])


def _page(notebook: nbformat.NotebookNode, title: str) -> str:
    """The executed notebook as HTML that draws its figures without a network; a widget is shown by its static twin."""
    for data in (output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())):
        if figure := data.pop("application/vnd.plotly.v1+json", None):
            data["text/html"] = _drawn({key: figure[key] for key in ("data", "layout")})
        if data.pop("application/vnd.jupyter.widget-view+json", None) and "text/html" not in data:
            data["text/plain"] = ""  # of a progress bar, which would stand there as "0 %"
    exporter = HTMLExporter(template_name="lab", embed_images=True, require_js_url="")
    return exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})[0]


def _drawn(figure: dict[str, Any]) -> str:
    shown = plotly.io.from_json(json.dumps(figure), skip_invalid=True)
    return plotly.io.to_html(shown, full_html=False, include_plotlyjs="plotly.min.js")


def _index(runs: Sequence[Run], board: Board, profile: str) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in ("notebook", "outcome", "time", "slowest cells", "error"))
    facts = (
        f"{sum(not run.error for run in runs)} of {len(runs)} notebooks passed",
        time.strftime("%Y-%m-%d %H:%M"),
        f"profile {profile or 'by hardware'}",
    )
    results = "<p>No results yet.</p>"
    if board.rows():
        results = board.html().html + _drawn(json.loads(board.figure().to_json()))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Lab report</title><style>{_STYLE}</style>'
        f"<h1>Neural Conversational AI Lab: report</h1><p>{' · '.join(facts)}</p><h2>Notebooks</h2>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(map(_row, runs))}</tbody></table>"
        f"<h2>Results board</h2>{results}</html>"
    )


def _row(run: Run) -> str:
    cells = (f"{seconds:.1f} s · cell {n} <code>{escape(line)}</code>" for seconds, n, line in run.slowest)
    outcome = ("✗ failed" if run.error else "✓ passed", f"{run.seconds:.0f} s", "<br>".join(cells), escape(run.error))
    name = escape(f"{run.notebook.parent.name}/{run.notebook.name}")
    link = f'<th scope="row"><a href="{run.page}">{name}</a></th>'
    return f"<tr>{link}{''.join(f'<td>{text}</td>' for text in outcome)}</tr>"
