"""Before a session: run the whole course without a browser, check it, and write what it shows and takes as HTML."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import product
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from plotly.offline import get_plotlyjs

from labkit.course.accessibility import notebook_findings
from labkit.course.checks import all_checks, must_be_mended
from labkit.course.cost import machine, write_cost
from labkit.course.executed import Run
from labkit.course.kernels import StoppableClient, sigterm_interrupts
from labkit.course.report import PLOTLY_FILE, index_page, notebook_page
from labkit.errors import LabError
from labkit.failures import hidden
from labkit.lab import PROFILES, Lab, decide
from labkit.machine.paths import cache_dir, clone_root
from labkit.storage import claim, listed_files, writable_folder, write_text

CELL_SECONDS = 3600  # for one cell
INDEX = "index.html"
OUTPUTS = "outputs"  # folder beside the pages, where LAB_HOME names none
# The last cell of every run: the peak of the kernel's memory in GiB, and of a GPU's. Not getrusage's, which is at least
# that of the process that started the kernel.
_PEAK = r"""import json, pathlib, re, sys
torch, status = sys.modules.get("torch"), pathlib.Path("/proc/self/status")
gpu = torch.cuda.max_memory_reserved() if torch and torch.cuda.is_available() else 0
peak = re.search(r"VmHWM:\s*(\d+)", status.read_text())[1] if status.exists() else 0
print(json.dumps([int(peak) / 2**20, gpu / 2**30]))"""


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
        LabError: nothing to run, no such notebook or profile, or a folder that holds what labkit did not write, all
            before the first run; or, after everything is written, a notebook failed or a check that must not fail.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the kernel is gone, and the cost card has what was measured.
    """
    html = Path(html)
    writable_folder(html, writes=())  # asked before anything is read
    root, lab = clone_root() or Path(), decide()
    paths = _notebooks(root, notebooks, students)
    profiles = _profiles(profiles or [lab.profile.name])
    plan = list(product(profiles, paths))
    names = _page_names(plan)
    writable_folder(html, writes=names)
    homes = _results_folders(html, plan)
    _make_folders(html, names, homes.values())
    write_text(html / PLOTLY_FILE, get_plotlyjs())
    runs: list[Run] = []
    try:
        with sigterm_interrupts():
            for profile, path in plan:
                runs.append(_run(path, html, profile, homes[_setting(profile, path)]))
    except KeyboardInterrupt:
        measured = [run for run in runs if not run.error]
        if cost and measured:
            write_cost(measured, _facts(lab), root)
        raise
    checks = all_checks(root, paths, lab)
    write_text(html / INDEX, index_page(runs, checks, homes, lab))
    failed = [f"{run.notebook} ({run.profile})" for run in runs if run.error] + must_be_mended(checks)
    if failed:
        raise LabError("preflight failed", ", ".join(failed), f"open {html / INDEX}")
    if cost:
        write_cost(runs, _facts(lab), root)
    return runs


def _facts(lab: Lab) -> dict[str, str]:
    """What the cost card says about its figures."""
    return {
        "machine": machine(lab.hardware),
        "date": time.strftime("%Y-%m-%d"),
        "model": lab.model,
        "corpus": lab.corpus,
    }


# --- what is run, and where it writes ---------------------------------------------------------------------------------


def _notebooks(root: Path, asked: Sequence[Path | str] | None, students: bool) -> list[Path]:
    if asked:
        paths = [Path(path) for path in asked]
    else:
        folders = ["solutions", "notebooks"] if students else ["solutions"]
        paths = [path for folder in folders for path in sorted(root.glob(f"{folder}/*.ipynb"))]
    if not paths:
        raise LabError("no notebooks to run", "", "run this in the root of the repository")
    for path in paths:
        _check_notebook(path)
    return paths


def _check_notebook(path: Path) -> None:
    if not path.is_file():
        raise LabError(f"no notebook {path}", "there is no such file", "name one of solutions/*.ipynb")
    try:
        if not isinstance(nbformat.read(path, as_version=4).cells, list):
            raise TypeError("its cells are no list")
    except Exception as error:  # nbformat raises whatever it meets in a file that is no notebook
        found = (str(error) or type(error).__name__).split("\n")[0]
        raise LabError(f"{path} is no notebook", found, "name one of solutions/*.ipynb") from error


def _profiles(names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in PROFILES]
    if unknown:
        raise LabError(f"no profile {unknown[0]!r}", "", f"choose from {', '.join(PROFILES)}")
    return list(names)


def _setting(profile: str, path: Path) -> str:
    return f"{profile}-{path.absolute().parent.name}"


def _page(profile: str, path: Path) -> str:
    return f"{profile}_{path.absolute().parent.name}_{path.stem}.html"


def _page_names(plan: Sequence[tuple[str, Path]]) -> list[str]:
    pages = [_page(profile, path) for profile, path in plan]
    return [INDEX, PLOTLY_FILE, *pages, *(_executed(page) for page in pages)]


def _executed(page: str) -> str:
    """The file of the executed notebook, beside its page: `labkit site` shows it."""
    return page.removesuffix(".html") + ".ipynb"


def _results_folders(html: Path, plan: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    """{setting: a folder for its results}, if they may be emptied: earlier preflights made them, or they are new."""
    where = Path(os.environ.get("LAB_HOME") or html / OUTPUTS).absolute()
    settings = dict.fromkeys(_setting(profile, path) for profile, path in plan)
    homes = {setting: where / setting for setting in settings}
    for home in homes.values():
        if listed_files(home) is None:
            writable_folder(home)
    return homes


def _make_folders(html: Path, names: Sequence[str], homes: Iterable[Path]) -> None:
    """The folders, marked as labkit's. Results are emptied: a run would go on with what an earlier one trained, and its
    time be too short."""
    claim(html, names)
    for home in homes:
        shutil.rmtree(home, ignore_errors=True)
        claim(home, [])


# --- one notebook -----------------------------------------------------------------------------------------------------


def _run(path: Path, html: Path, profile: str, home: Path) -> Run:
    """Execute one notebook in its own folder; whatever ran before an error is in its page."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(_PEAK))
    print(f"{path} ({profile}) …", end=" ", flush=True)
    cached = _cached_bytes()
    started = time.perf_counter()
    error = _execute(notebook, path.parent, profile, home)
    seconds = time.perf_counter() - started
    outcome = "failed" if error else "passed"
    print(f"{outcome} in {seconds:.0f} s")
    peak = notebook.cells.pop().outputs
    memory, gpu = json.loads(peak[0].text) if peak and not error else (0, 0)
    findings = tuple(notebook_findings(notebook))  # before the page is made, which takes the figures out
    page = _page(profile, path)
    write_text(html / _executed(page), nbformat.writes(notebook))
    write_text(html / page, notebook_page(notebook, path.stem, index=INDEX))
    return Run(
        notebook=f"{path.absolute().parent.name}/{path.name}",
        profile=profile,
        page=page,
        seconds=seconds,
        error=error,
        slowest=_slowest(notebook),
        memory_gib=memory,
        gpu_gib=gpu,
        download_mb=(_cached_bytes() - cached) / 1e6,
        findings=findings,
    )


def _execute(notebook: nbformat.NotebookNode, folder: Path, profile: str, home: Path) -> str:
    """Run all cells in place; returns the error in one line, "" if there was none.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the kernel has been killed.
    """
    client = StoppableClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # it warns about its own TCP port
        resources={"metadata": {"path": str(folder)}},
    )
    # plotly_mimetype keeps the data of a figure in the notebook; `notebook_page` makes it HTML that needs no network
    env = {**os.environ, "LAB_HOME": str(home), "LAB_PROFILE": profile, "PLOTLY_RENDERER": "plotly_mimetype"}
    error = ""
    try:
        with sigterm_interrupts():  # nbclient takes the handler away when it ends
            client.execute(env=env)
    except CellExecutionError as failure:
        error = hidden(f"{failure.ename}: {failure.evalue}")
    except (CellTimeoutError, DeadKernelError) as failure:
        error = str(failure).strip().split("\n")[0]
    except asyncio.CancelledError:  # stopped between two cells
        pass
    if client.stopped:
        print("stopped")
        raise KeyboardInterrupt
    return error


def _cached_bytes() -> int:
    """Bytes in the caches of downloads."""
    from huggingface_hub import constants

    total = 0
    for folder in {cache_dir(), Path(constants.HF_HOME)}:
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                total += file.stat().st_size
    return total


def _slowest(notebook: nbformat.NotebookNode, n: int = 3) -> tuple[tuple[float, int, str], ...]:
    """(seconds, cell number, first line) of the slowest cells."""
    timed = []
    for number, cell in enumerate(notebook.cells, 1):
        seconds = _cell_seconds(cell)
        if seconds is not None:
            first_line = cell.source.split("\n")[0]
            timed.append((seconds, number, first_line))
    return tuple(sorted(timed, reverse=True)[:n])


def _cell_seconds(cell: nbformat.NotebookNode) -> float | None:
    """From the kernel's "busy" to its reply; None for a cell that was not run to its end."""
    times = cell.metadata.get("execution", {})
    begun, done = times.get("iopub.status.busy"), times.get("shell.execute_reply")
    if begun is None or done is None:
        return None
    return (datetime.fromisoformat(done) - datetime.fromisoformat(begun)).total_seconds()
