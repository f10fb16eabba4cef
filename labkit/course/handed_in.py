"""What a class handed in: for each student the notebooks and the progress file, found in a folder."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from labkit.errors import LabError
from labkit.notebook.exercises.catalogue import every_exercise
from labkit.notebook.exercises.record import PROGRESS, Entry, recorded

_CHECK = re.compile(r"""\bcheck\(\s*["']([\d.]+)["']""")
_NUMBER = re.compile(r"(\d+)_")  # a notebook of the course begins with its number


@dataclass(frozen=True)
class HandedIn:
    """One student's work. `claims` is the student's own progress file: what it says, nobody has checked."""

    student: str
    notebooks: list[Path]
    claims: dict[str, Entry] = field(default_factory=dict)
    remark: str = ""  # what was wrong with the progress file


def handed_in(folder: Path) -> list[HandedIn]:
    """All students of a folder: each folder in it is a student, and so is each notebook that lies in it directly.

    Raises:
        LabError: no such folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise LabError(f"no folder {folder}", "", "name the folder with the students' notebooks")
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found.append(_of_folder(path))
        elif path.suffix == ".ipynb":
            found.append(HandedIn(path.stem, [path]))
    found = [one for one in found if one.notebooks]
    if not found:
        action = "put each student's notebooks into a folder of their own in it"
        raise LabError(f"no notebook in {folder}", "", action)
    return found


def _of_folder(folder: Path) -> HandedIn:
    notebooks = [path for path in sorted(folder.rglob("*.ipynb")) if not _is_hidden(path.relative_to(folder))]
    files = sorted(folder.rglob(PROGRESS))
    if not files:
        return HandedIn(folder.name, notebooks, remark=f"no {PROGRESS}")
    remark = "" if len(files) == 1 else f"{len(files)} files {PROGRESS}: the first is taken"
    try:
        claims = recorded(files[0])
    except LabError as error:
        return HandedIn(folder.name, notebooks, remark=str(error))
    if not claims and not remark:
        remark = f"{PROGRESS} holds nothing that can be read"
    return HandedIn(folder.name, notebooks, claims, remark)


def _is_hidden(path: Path) -> bool:
    """Such as .ipynb_checkpoints, where Jupyter keeps an older version of each."""
    return any(part.startswith(".") for part in path.parts)


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """A notebook as version 4.

    Raises:
        LabError: it cannot be read, or is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cells without ids
            notebook = nbformat.read(path, as_version=4)
        sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        if not all(isinstance(source, str) for source in sources):
            raise TypeError("a cell without text")
    except Exception as error:  # nbformat raises whatever it meets in a file that is no notebook
        found = (str(error) or type(error).__name__).split("\n")[0]
        raise LabError(f"{path.name} is no notebook", found, "ask for the file again") from error
    return notebook


def exercises_of(path: Path, notebook: nbformat.NotebookNode | None) -> list[str]:
    """The exercises that belong into this notebook: those of its number, else those that it checks."""
    known = list(every_exercise())
    number = _NUMBER.search(path.name)
    if number:
        mine = [id for id in known if id.startswith(f"{number[1]}.")]
        if mine:
            return mine
    if notebook is None:
        return []
    checked = set(_checked(notebook))
    return [id for id in known if id in checked]


def _checked(notebook: nbformat.NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield from _CHECK.findall(cell.source)
