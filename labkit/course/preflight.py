"""Before a session: run the whole course without a browser, check it, and write what it shows and takes as HTML."""

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import nbformat
import plotly.io
from jinja2 import Environment
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from plotly.offline import get_plotlyjs

from labkit.course.accessibility import markdown_findings, notebook_findings
from labkit.course.cost import machine, write_cost
from labkit.course.links import broken_links, links, unanswered
from labkit.course.release import leaked
from labkit.errors import LabError
from labkit.failures import hidden
from labkit.lab import Lab, decide
from labkit.machine.paths import cache_dir, clone_root
from labkit.results.board import Board
from labkit.storage import write_text

CELL_SECONDS = 3600  # for one cell
LEAKS, LINKS = "no solution in a student's notebook", "links lead to files and headings"
MUST = (LEAKS, LINKS)
# The last cell of every run: the peak of the kernel's memory in GiB, and of a GPU's. Not getrusage's, which is at least
# that of the process that started the kernel.
_PEAK = r"""import json, pathlib, re, sys
torch, status = sys.modules.get("torch"), pathlib.Path("/proc/self/status")
gpu = torch.cuda.max_memory_reserved() if torch and torch.cuda.is_available() else 0
peak = re.search(r"VmHWM:\s*(\d+)", status.read_text())[1] if status.exists() else 0
print(json.dumps([int(peak) / 2**20, gpu / 2**30]))"""


@dataclass(frozen=True)
class Run:
    """One executed notebook. `slowest` has (seconds, cell number, first line) of its three slowest cells; memory is the
    peak of its kernel's process (0 where it failed or there is no /proc), download what it added to the caches."""

    notebook: str  # solutions/0_setup.ipynb
    profile: str
    page: str
    seconds: float
    error: str
    slowest: tuple[tuple[float, int, str], ...]
    memory_gib: float
    gpu_gib: float
    download_mb: float
    findings: tuple[str, ...]


def preflight(
    html: Path | str,
    notebooks: Sequence[Path | str] | None = None,
    profiles: Sequence[str] | None = None,
    *,
    students: bool = False,
    cost: bool = False,
) -> list[Run]:
    """Execute notebooks in order and write each as HTML, with an index of all checks, into the folder `html`.

    Args:
        notebooks: by default those in solutions/.
        profiles: of smoke, cpu and gpu, one after the other; by default what LAB_PROFILE or the hardware says.
        students: run notebooks/, too, as they are given out.
        cost: write the cost card: course/cost.json of this clone, and from it the table in README.md.

    Raises:
        LabError: nothing to run; or, after everything is written, a notebook failed or a check that must not fail.
    """
    html, root, lab = Path(html), clone_root() or Path(), decide()
    folders = ("solutions", "notebooks") if students else ("solutions",)
    paths = [Path(path) for path in notebooks or [p for f in folders for p in sorted(root.glob(f"{f}/*.ipynb"))]]
    if not paths:
        raise LabError("no notebooks to run", "", "run this in the root of the repository")
    write_text(html / "plotly.min.js", get_plotlyjs())
    runs, homes = [], {}
    for profile, path in product(profiles or [lab.profile.name], paths):
        if (setting := f"{profile}-{path.parent.name}") not in homes:
            homes[setting] = _fresh(Path(os.environ.get("LAB_HOME") or html / "outputs").absolute() / setting)
        runs.append(_run(path, html, profile, homes[setting]))
    checks = _checks(root, paths, lab)
    write_text(html / "index.html", _index(runs, checks, homes, lab))
    failed = [f"{run.notebook} ({run.profile})" for run in runs if run.error]
    if failed := failed + [finding for name in MUST for finding in checks[name]]:
        raise LabError("preflight failed", ", ".join(failed), f"open {html / 'index.html'}")
    if cost:
        facts = {"machine": machine(lab.hardware), "date": time.strftime("%Y-%m-%d")}
        write_cost(runs, facts | {"model": lab.model, "corpus": lab.corpus}, root)
    return runs


def _fresh(home: Path) -> Path:
    """An empty folder for results: a run would go on with what an earlier one trained, and its time be too short."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    return home


def _run(path: Path, html: Path, profile: str, home: Path) -> Run:
    """Execute one notebook in its own folder; whatever ran before an error is in its page."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(_PEAK))
    kernel = {"kernel_name": "python3", "extra_arguments": ["--log-level=ERROR"]}  # it warns about its own TCP port
    folder = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=CELL_SECONDS, resources=folder, **kernel)
    print(f"{path} ({profile}) …", end=" ", flush=True)
    # plotly_mimetype keeps the data of a figure in the notebook; `_page` turns it into HTML that needs no network
    env = os.environ | {"LAB_HOME": str(home), "LAB_PROFILE": profile, "PLOTLY_RENDERER": "plotly_mimetype"}
    start, error, cached = time.perf_counter(), "", _cached()
    try:
        client.execute(env=env)
    except CellExecutionError as failure:
        error = hidden(f"{failure.ename}: {failure.evalue}")
    except (CellTimeoutError, DeadKernelError) as failure:
        error = str(failure).strip().split("\n")[0]
    seconds = time.perf_counter() - start
    print("failed" if error else "passed", f"in {seconds:.0f} s")
    peak = notebook.cells.pop().outputs
    memory, gpu = json.loads(peak[0].text) if peak and not error else (0, 0)
    found, page = tuple(notebook_findings(notebook)), f"{profile}_{path.parent.name}_{path.stem}.html"
    write_text(html / page, _page(notebook, path.stem))
    name, slowest, loaded = f"{path.parent.name}/{path.name}", _slowest(notebook), (_cached() - cached) / 1e6
    return Run(name, profile, page, seconds, error, slowest, memory, gpu, loaded, found)


def _cached() -> int:
    """Bytes in the caches of downloads."""
    from huggingface_hub import constants

    folders = {cache_dir(), Path(constants.HF_HOME)}
    return sum(f.stat().st_size for folder in folders for f in folder.rglob("*") if f.is_file() and not f.is_symlink())


def _checks(root: Path, paths: Sequence[Path], lab: Lab) -> dict[str, list[str]]:
    """{check: findings} of everything that is checked without running it."""
    pages = {path: _text(path) for path in [*root.glob("*.md"), *root.glob("labkit/**/*.md"), *paths]}
    urls = sorted({link for text in pages.values() for link in links(text) if link.startswith("http")})
    pairs = [(source, root / "notebooks" / source.name) for source in sorted(root.glob("solutions/*.ipynb"))]
    leaks = [f"{pair[1].name}: {line}" for pair in pairs if pair[1].exists() for line in leaked(*pair)]
    moved = [v for v in lab.versions if v.pinned and v.pinned != v.installed.split("+")[0]]
    prose = {page: text for page, text in pages.items() if page.suffix == ".md" and "weights" not in page.parts}
    outside = f"external links ({len(urls)})" + ("" if lab.hub.reachable else ": not checked, there is no network")
    return {
        LEAKS: leaks,
        LINKS: [f"{page.name}: {link}" for page, text in pages.items() for link in broken_links(page, text)],
        "versions are the pinned ones": [f"{v.package} {v.installed}, pinned {v.pinned}" for v in moved],
        "no barriers in pages": [
            f"{page.name}: {found}" for page, text in prose.items() for found in markdown_findings(text)
        ],
        outside: list(unanswered(urls)) if lab.hub.reachable else [],
    }


def _text(page: Path) -> str:
    """The Markdown of a page or a notebook."""
    if page.suffix == ".md":
        return page.read_text(encoding="utf-8")
    return "\n\n".join(c.source for c in nbformat.read(page, as_version=4).cells if c.cell_type == "markdown")


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


def _index(runs: Sequence[Run], checks: dict[str, list[str]], homes: dict[str, Path], lab: Lab) -> str:
    page = Environment(autoescape=True).from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    facts = {"passed": sum(not run.error for run in runs), "date": time.strftime("%Y-%m-%d %H:%M"), "must": MUST}
    boards = {setting: _board(Board(home)) for setting, home in homes.items()}
    return page.render(runs=runs, checks=checks, boards=boards, lab=lab, machine=machine(lab.hardware), **facts)


def _board(board: Board) -> str:
    return (
        board.html().html + _drawn(json.loads(board.figure().to_json())) if board.rows() else "<p>No results yet.</p>"
    )
