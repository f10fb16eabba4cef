"""Sources (`solutions/`) → student notebooks (`notebooks/`): solution blocks become `...`, outputs are stripped."""

import ast
import json
import re
from pathlib import Path
from textwrap import dedent

import nbformat

from labkit.errors import LabError
from labkit.storage import write_text

BEGIN, END, TODO = "### BEGIN SOLUTION", "### END SOLUTION", "...  # your code here"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
_BLOCK = re.compile(  # a line BEGIN, lines without a marker, a line END
    rf"^(?P<indent>[ \t]*){BEGIN}[ \t]*\n(?P<body>(?:(?!.*(?:{BEGIN}|{END})).*\n)*)[ \t]*{END}[ \t]*$", re.MULTILINE
)
_REPOSITORY = re.compile(r'(?<=")REPOSITORY = \\".*?\\"')  # in a notebook's JSON
_ON_GITHUB = re.compile(r'(?<=")REPOSITORY = \\"git\+https://github\.com/([\w.-]+/[\w.-]+)@([\w./-]+)\\"')
_COLAB, _KAGGLE = "https://colab.research.google.com", "https://kaggle.com"
BADGES = {  # name: (image, address before owner/name)
    "Colab": (f"{_COLAB}/assets/colab-badge.svg", f"{_COLAB}/github/"),
    "Kaggle": (f"{_KAGGLE}/static/images/open-in-kaggle.svg", f"{_KAGGLE}/kernels/welcome?src=https://github.com/"),
}
_README_BADGES = re.compile(r"(?<=<!-- badges -->\n).*?(?=<!-- /badges -->)", re.DOTALL)


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
    wanted = {Path(notebooks) / source.name: student_notebook(source) for source in sources}
    readme = Path(notebooks).parent / "README.md"
    if readme.is_file():
        wanted[readme] = with_badges(readme.read_text(encoding="utf-8"), sources)
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    orphans = [path for path in sorted(Path(notebooks).glob("*.ipynb")) if path not in wanted]
    if check and (stale or orphans):
        names = ", ".join(path.name for path in [*stale, *orphans])
        raise LabError(f"{notebooks}/ is not what the sources make", names, "run `labkit release`, remove orphans")
    return [] if check else [write_text(path, wanted[path]) for path in stale]


def student_notebook(source: Path) -> str:
    """The student's version of a source notebook, as the text of its file."""
    notebook = nbformat.read(source, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", ())]
    for index, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code":
            cell.source = without_solution(cell.source, f"{source.name}, cell {index} ({cell.id})")
    if line := badges(source):
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(line, id="badges"))
    return nbformat.writes(strip(notebook), version=4).rstrip("\n") + "\n"


def leaked(source: Path, student: Path) -> list[str]:
    """Lines of the source's solutions that stand in the student's notebook (lines that tell nothing left out)."""
    given = _code(student)
    known = {line.strip() for line in given.split("\n")}
    lines = [line for line in solution_lines(source) if len(line) > 12 and line in known]
    return lines + [marker for marker in (BEGIN, END) if marker in given]


def solution_lines(source: Path) -> list[str]:
    """The lines of all solution blocks of a source notebook, without indentation."""
    return [line.strip() for block in _BLOCK.finditer(_code(source)) for line in block["body"].split("\n")]


def _code(path: Path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


def badges(source: Path) -> str:
    """Links, as images with alt text, that open a student notebook in Colab and Kaggle; "" without a repository."""
    if not (found := _ON_GITHUB.search(source.read_text(encoding="utf-8"))):
        return ""
    place = f"{found[1]}/blob/{found[2]}/notebooks/{source.name}"
    badge = f"[![Open {source.stem} in {{}}]({{}})]({{}}{place})"
    return " ".join(badge.format(name, image, address) for name, (image, address) in BADGES.items())


def with_badges(readme: str, sources: list[Path]) -> str:
    """The README with a table of badges between its marks, `<!-- badges -->` and `<!-- /badges -->`, if it has them."""
    rows = [f"| {source.stem} | {line} |" for source in sources if (line := badges(source))]
    table = "\n".join(["| notebook | open it in |", "|---|---|", *rows, ""]) if rows else ""
    return _README_BADGES.sub(lambda _: table, readme)


def strip(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what a run leaves behind: outputs, counts, widget state, front ends' metadata. Works in place."""
    notebook.metadata = METADATA
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def without_solution(code: str, where: str = "this cell") -> str:
    """Code with each block between the markers replaced by a `...` at the block's indentation.

    A block that is one assignment keeps its left side (`labels = ...`), so that what follows still has the name.

    Raises:
        LabError: a marker without its partner; the message says `where`.
    """
    text = _BLOCK.sub(lambda block: block["indent"] + _left_side(block["body"]) + TODO, code)
    for line in text.split("\n"):
        if BEGIN in line or END in line:
            found = f"a marker that is not alone or not paired: {line.strip()}"
            raise LabError(where, found, "pair the solution markers")
    return text


def _left_side(block: str) -> str:
    try:
        body = ast.parse(dedent(block)).body
    except SyntaxError:  # a magic, or a part of a statement
        return ""
    single = len(body) == 1 and isinstance(body[0], ast.Assign) and isinstance(body[0].targets[0], ast.Name)
    return f"{body[0].targets[0].id} = " if single else ""


def set_repository(sources: list[Path], repository: str, ref: str) -> None:
    """Write the address that the set-up cell installs labkit from into the sources."""
    known = "://" in repository or Path(repository).exists()
    address = json.dumps(repository if known else f"git+https://github.com/{repository}@{ref}")
    line = json.dumps(f"REPOSITORY = {address}")[1:-1]  # as it stands in the notebook's JSON
    for source in sources:
        write_text(source, _REPOSITORY.sub(lambda _: line, source.read_text(encoding="utf-8")))
