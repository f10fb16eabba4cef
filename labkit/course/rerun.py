"""Run a stranger's notebook: in a fresh kernel, in a folder of its own, with a time limit and without a network."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError

import labkit
from labkit.course.kernels import StoppableClient, sigterm_interrupts
from labkit.errors import LabError
from labkit.failures import hidden
from labkit.machine.paths import cache_dir
from labkit.notebook.exercises.record import Entry, recorded
from labkit.shown import readable

KERNEL = "graded"
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)
_LONGEST = 200  # characters of an error


@dataclass(frozen=True)
class Rerun:
    """What came out. `judged` is what labkit recorded on the way, in a file that did not exist before."""

    seconds: float
    stopped: str  # where it ended, or first broke, and why; "" if it ran through
    judged: dict[str, Entry]


def rerun(notebook: nbformat.NotebookNode, profile: str, seconds: float) -> Rerun:
    """Run all cells of a notebook. After a cell that raised, the cells after it are run all the same.

    Args:
        seconds: for the whole notebook; then it is stopped.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the kernel is gone.
    """
    folder = Path(tempfile.mkdtemp(prefix="lab"))  # short: the name of a local socket has at most 107 bytes
    started = time.monotonic()
    try:
        stopped = _run(notebook, folder, profile, started + seconds)
        took = time.monotonic() - started
        return Rerun(took, stopped, _judged(folder / "home" / "progress.json"))
    finally:
        _end_all(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _judged(path: Path) -> dict[str, Entry]:
    try:
        return recorded(path)
    except LabError:  # the notebook did something to it
        return {}


class _Client(StoppableClient):
    """A client that keeps no outputs (an endless `print` would fill this process), and the first cell that raised."""

    deadline = 0.0  # on the clock of `time.monotonic`
    at = 0  # the cell that runs, counted from 1 as the reader does
    first_error = ""

    def output(self, *arguments: object, **options: object) -> None:  # type: ignore[override]
        """Called by nbclient with whatever a cell shows."""

    def left(self, cell: nbformat.NotebookNode | None = None) -> int:
        """Seconds until the deadline; 0 would be no limit."""
        return max(1, int(self.deadline - time.monotonic()))

    def note_cell(self, cell: nbformat.NotebookNode, cell_index: int) -> None:
        """Called by nbclient before a cell."""
        self.at = cell_index + 1

    def note_error(self, cell: nbformat.NotebookNode, cell_index: int, execute_reply: dict) -> None:
        """Called by nbclient after a cell that raised."""
        reply = execute_reply["content"]
        error = _one_line(f"{reply.get('ename')}: {reply.get('evalue')}")
        if not self.first_error:
            self.first_error = f"cell {cell_index + 1}: {error}; the cells after it were run all the same"


def _run(notebook: nbformat.NotebookNode, folder: Path, profile: str, deadline: float) -> str:
    """Run the cells. Returns where the notebook stopped or first broke; "" if it ran through."""
    for name in ("work", "home", "user"):
        (folder / name).mkdir()
    client = _Client(
        notebook,
        km=_kernel(folder),
        allow_errors=True,
        force_raise_errors=False,
        resources={"metadata": {"path": str(folder / "work")}},
        store_widget_state=False,
    )
    client.deadline = deadline
    client.timeout_func = client.left
    client.startup_timeout = client.left()
    client.on_cell_start = client.note_cell
    client.on_cell_error = client.note_error
    stopped = _executed(client, _environment(folder, profile))
    return stopped or client.first_error


def _executed(client: _Client, environment: dict[str, str]) -> str:
    """Run the cells. Returns why not all of them were run; "" if they were.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    stopped = ""
    try:
        with sigterm_interrupts():
            client.execute(env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except CellTimeoutError:
        stopped = f"stopped in cell {client.at}: the time was up"
    except DeadKernelError:
        stopped = f"stopped in cell {client.at}: it ended its Python process"
    except asyncio.CancelledError:  # stopped between two cells
        pass
    except RuntimeError as error:  # nbclient: the kernel did not start in time
        stopped = f"stopped before its first cell: {_one_line(str(error))}"
    if client.stopped:
        raise KeyboardInterrupt
    return stopped


def _kernel(folder: Path) -> AsyncKernelManager:
    """A manager of a kernel that `no_network` starts; on Linux and macOS it talks over files, not over the network."""
    place = folder / "kernels" / KERNEL
    place.mkdir(parents=True)
    command = [sys.executable, "-m", "labkit.course.no_network", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": [*command, "--log-level=ERROR"], "display_name": KERNEL, "language": "python"}
    (place / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    specs = KernelSpecManager(kernel_dirs=[str(folder / "kernels")])
    transport = "tcp" if os.name == "nt" else "ipc"
    connection = str(folder / "k.json")
    return AsyncKernelManager(
        kernel_name=KERNEL, kernel_spec_manager=specs, transport=transport, connection_file=connection
    )


def _environment(folder: Path, profile: str) -> dict[str, str]:
    """This process's environment without what looks like a secret, and with folders of the run's own."""
    kept = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
    package = str(Path(labkit.__file__).parents[1])  # this labkit judges, whatever else is installed
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {
        "LAB_HOME": str(folder / "home"),
        "LAB_PROFILE": profile,
        "LAB_CACHE": str(cache_dir()),
        "HOME": str(folder / "user"),
        "IPYTHONDIR": str(folder / "user" / ".ipython"),
        "PLOTLY_RENDERER": "plotly_mimetype",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    return {**kept, **own}


def _one_line(text: str) -> str:
    line = " ".join(readable(hidden(text)).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _end_all(folder: Path) -> None:
    """End whatever the notebook has started and left behind: it has this run's folder in its environment."""
    import psutil

    home = str(folder / "home")
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get("LAB_HOME") == home:
                process.kill()
