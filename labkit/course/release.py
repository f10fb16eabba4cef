"""Sources (`solutions/`) → student notebooks (`notebooks/`): solution blocks become `...`, outputs are stripped.

The first use of a word of the glossary gets its explanation, and the glossary's page is made anew.
"""

import ast
import json
import re
from pathlib import Path
from textwrap import dedent

import nbformat
from nbconvert.preprocessors import TagRemovePreprocessor

from labkit.course.badges import badges, readme_with_badges
from labkit.course.glossary import PAGE, page, spellings, with_hovers
from labkit.course.strip import METADATA, notebook_text, strip
from labkit.errors import LabError
from labkit.storage import write_text

__all__ = [
    "BEGIN",
    "END",
    "METADATA",
    "leaked",
    "release",
    "solution_lines",
    "strip",
    "student_notebook",
    "without_solution",
]

BEGIN, END, TODO = "### BEGIN SOLUTION", "### END SOLUTION", "...  # your code here"
_BLOCK = re.compile(  # a line BEGIN, lines without a marker, a line END
    rf"^(?P<indent>[ \t]*){BEGIN}[ \t]*\n(?P<body>(?:(?!.*(?:{BEGIN}|{END})).*\n)*)[ \t]*{END}[ \t]*$", re.MULTILINE
)
_REPOSITORY = re.compile(r'^REPOSITORY = "(?:[^"\\\n]|\\.)*"', re.MULTILINE)
TELLS_NOTHING = 12  # a line of a solution that is no longer, such as "return x", may stand elsewhere too


def release(
    solutions: Path | str = "solutions",
    notebooks: Path | str = "notebooks",
    *,
    check: bool = False,
    repository: str = "",
    ref: str = "main",
) -> list[Path]:
    """Write the student notebooks that are not current, and return their paths; the same sources give the same bytes.

    Args:
        check: write nothing, fail where something would be written.
        repository: "owner/name" on GitHub or any address pip knows; written into the set-up cell of the sources first.
            On GitHub it gives every notebook, and the README between its marks, badges that open them elsewhere.

    Raises:
        LabError: no sources; solution markers that do not pair up; with `check`, student notebooks that are stale.
    """
    sources = sorted(Path(solutions).glob("*.ipynb"))
    if not sources:
        raise LabError(f"no notebooks in {solutions}", "", "run `labkit release` in the root of the repository")
    if repository and not check:
        set_repository(sources, repository, ref)
    wanted = _wanted(sources, Path(notebooks))
    stale = [path for path, text in wanted.items() if not _holds(path, text)]
    if check:
        orphans = [path for path in sorted(Path(notebooks).glob("*.ipynb")) if path not in wanted]
        _refuse_differences(Path(notebooks), stale + orphans)
        return []
    return [write_text(path, wanted[path]) for path in stale]


def _wanted(sources: list[Path], notebooks: Path) -> dict[Path, str]:
    """{file: text} of everything that is made from the sources."""
    wanted = {notebooks / source.name: student_notebook(source) for source in sources}
    glossary = notebooks.parent / PAGE
    if glossary.parent.is_dir():
        wanted[glossary] = page()
    readme = notebooks.parent / "README.md"
    if readme.is_file():
        wanted[readme] = readme_with_badges(readme.read_text(encoding="utf-8"), sources)
    return wanted


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _refuse_differences(notebooks: Path, different: list[Path]) -> None:
    if different:
        names = ", ".join(path.name for path in different)
        raise LabError(f"{notebooks}/ is not what the sources make", names, "run `labkit release`, remove orphans")


def student_notebook(source: Path) -> str:
    """The student's version of a source notebook, as the text of its file."""
    notebook = nbformat.read(source, as_version=4)
    solved = TagRemovePreprocessor(remove_cell_tags={"solution"})
    notebook, _ = solved.preprocess(notebook, {})
    waiting = spellings(source.name[0])
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code":
            cell.source = without_solution(cell.source, f"{source.name}, cell {number} ({cell.id})")
        else:
            cell.source = with_hovers(cell.source, waiting)
    line = badges(source)
    if line:
        below_the_title = 1
        notebook.cells.insert(below_the_title, nbformat.v4.new_markdown_cell(line, id="badges"))
    return notebook_text(strip(notebook))


def set_repository(sources: list[Path], repository: str, ref: str) -> None:
    """Write the address that the set-up cell installs labkit from into the sources."""
    is_address = "://" in repository or Path(repository).exists()
    address = repository if is_address else f"git+https://github.com/{repository}@{ref}"
    line = f"REPOSITORY = {json.dumps(address)}"
    for source in sources:
        notebook = nbformat.read(source, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.source = _REPOSITORY.sub(lambda _: line, cell.source)
        write_text(source, notebook_text(notebook))


# --- solution blocks --------------------------------------------------------------------------------------------------


def without_solution(code: str, where: str = "this cell") -> str:
    """Code with each block between the markers replaced by a `...` at the block's indentation.

    A block that is one assignment keeps its left side (`labels = ...`), so that what follows still has the name.

    Raises:
        LabError: a marker without its partner; the message says `where`.
    """
    text = _BLOCK.sub(_todo, code)
    for line in text.split("\n"):
        if BEGIN in line or END in line:
            found = f"a marker that is not alone or not paired: {line.strip()}"
            raise LabError(where, found, "pair the solution markers")
    return text


def _todo(block: re.Match[str]) -> str:
    return block["indent"] + _left_side(block["body"]) + TODO


def _left_side(block: str) -> str:
    """`labels = ` of a block that is one assignment to a name; "" of any other."""
    try:
        statements = ast.parse(dedent(block)).body
    except SyntaxError:  # a magic, or a part of a statement
        return ""
    if len(statements) != 1 or not isinstance(statements[0], ast.Assign):
        return ""
    target = statements[0].targets[0]
    return f"{target.id} = " if isinstance(target, ast.Name) else ""


def leaked(source: Path, student: Path) -> list[str]:
    """Lines of the source's solutions that stand in the student's notebook (lines that tell nothing left out)."""
    given = _code(student)
    known = {line.strip() for line in given.split("\n")}
    lines = [line for line in solution_lines(source) if len(line) > TELLS_NOTHING and line in known]
    markers = [marker for marker in (BEGIN, END) if marker in given]
    return lines + markers


def solution_lines(source: Path) -> list[str]:
    """The lines of all solution blocks of a source notebook, without indentation."""
    lines = []
    for block in _BLOCK.finditer(_code(source)):
        lines += [line.strip() for line in block["body"].split("\n")]
    return lines


def _code(path: Path) -> str:
    """The code of all cells of a notebook."""
    notebook = nbformat.read(path, as_version=4)
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
