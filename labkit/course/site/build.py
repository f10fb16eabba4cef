"""The course as a folder of static files: no server and no network when it is read.

Sphinx with myst-nb and a book theme does search, navigation, dark theme, phone width and print; the rest of this room
prepares what it is given, and checks that nothing of the outside is asked for.
"""

import importlib.util
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from plotly.offline import get_plotlyjs

from labkit.course.badges import repository_of
from labkit.course.site import live
from labkit.course.site.notebooks import notebook_for_site
from labkit.course.site.outputs import UNPACK
from labkit.course.site.pages import api_page, front_page, known_pages, live_code_page, title_of, with_links
from labkit.course.site.picture import PICTURE
from labkit.course.site.smaller import leave_out
from labkit.errors import LabError
from labkit.machine.paths import clone_root
from labkit.storage import atomic_folder, write_text

PACKAGES = ("sphinx", "myst_nb", "sphinx_book_theme", "latex2mathml")
STATIC = "_static"
FIGURES = "plotly.min.js"
TITLE = "Neural Conversational AI Lab"
STYLE = Path(__file__).with_name("site.css")
SETTINGS = {
    "project": TITLE,
    "html_title": TITLE,
    "author": "",
    "extensions": ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "labkit.course.site.mathml"],
    "html_theme": "sphinx_book_theme",
    "html_static_path": ["static"],
    "html_css_files": [STYLE.name],
    "html_js_files": [UNPACK.name],
    "html_extra_path": ["extra"],
    "html_context": {"default_mode": "auto"},  # light or dark as the system says
    "html_show_search_summary": False,  # it would be fetched, which a page opened as a file may not do
    "html_copy_source": False,
    "html_show_sourcelink": False,
    "html_last_updated_fmt": None,
    "exclude_patterns": ["static", "extra", "live"],
    "html_math_renderer": "mathml",
    "nb_execution_mode": "off",
    "myst_enable_extensions": ["dollarmath", "amsmath"],
    "myst_heading_anchors": 5,
    "autodoc_typehints": "signature",
    "python_use_unqualified_type_names": True,
    "suppress_warnings": ["myst.header", "mystnb.unknown_mime_type", "misc.highlighting_failure"],
}
THEME = {
    "home_page_in_toc": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
}
# What a page would load: not a link that a reader may follow.
_LOADED = re.compile(r"<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc=[\"'](https?:)?//[^\"']+")
_STYLED = re.compile(r"<link\b[^>]*?\bhref=[\"'](https?:)?//[^\"']+|@import\s+[\"'](?:https?:)?//|url\([\"']?https?://")


def build_site(out: Path | str, executed: Path | str | None = None) -> Path:
    """Write the site into the folder `out` and return its front page.

    Args:
        executed: a folder with executed notebooks, as `labkit preflight` leaves them; None: they are shown as they are
            in solutions/, without outputs.

    Raises:
        LabError: no clone, no notebooks, a package that is not installed, or a page that asks for an outside address.
    """
    root = clone_root()
    if root is None:
        raise LabError("no clone of the repository here", "", "run this in the root of the repository")
    _check_packages()
    notebooks = _notebooks(root, Path(executed) if executed else None)
    with atomic_folder(out) as folder, tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "source"
        _stage(source, root, notebooks)
        _run_sphinx(source, folder, Path(temporary) / "doctrees")
        leave_out(folder, STATIC)
        _remove_empty_folders(folder)
        found = outside_addresses(folder)
        if found:
            raise LabError("the site would ask for outside addresses", ", ".join(found[:3]), "mend these pages")
    return Path(out) / "index.html"


def _check_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise LabError("the site needs more packages", f"{', '.join(missing)} missing", "run `make site`")


def _notebooks(root: Path, executed: Path | None) -> dict[Path, nbformat.NotebookNode]:
    """{source in solutions/: the notebook to show}; of a folder of executed ones, those that are there."""
    found = {}
    for source in sorted(root.glob("solutions/*.ipynb")):
        shown = source if executed is None else _latest(executed, source)
        if shown is not None:
            found[source] = nbformat.read(shown, as_version=4)
    if not found:
        raise LabError(f"no notebooks in {executed or root}", "", "run `labkit preflight --html FOLDER` first")
    return found


def _latest(executed: Path, source: Path) -> Path | None:
    """The newest run of a notebook, whatever its profile."""
    runs = sorted(executed.glob(f"*_solutions_{source.name}"), key=lambda path: path.stat().st_mtime)
    return runs[-1] if runs else None


# --- what Sphinx is given ---------------------------------------------------------------------------------------------


def _stage(source: Path, root: Path, notebooks: dict[Path, nbformat.NotebookNode]) -> None:
    """Write everything that Sphinx reads, under the same paths as in the repository."""
    pages = known_pages(root)
    files = {path: path.relative_to(root).as_posix() for path in notebooks}
    staged = {"index.md", *pages, *files.values()}
    repository = _repository(next(iter(notebooks)))
    for page in pages:
        text = (root / page).read_text(encoding="utf-8")
        write_text(source / page, with_links(text, page, staged, repository))
    titles = {}
    for path, notebook in notebooks.items():
        file = files[path]
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = with_links(cell.source, file, staged, repository)
        titles[file.removesuffix(".ipynb")] = title_of(notebook.cells[0].source)
        shown = notebook_for_site(notebook, path, plotly=f"../{STATIC}/{FIGURES}")
        text = nbformat.writes(shown).replace(str(root), "…")  # the folder of the machine that ran it
        write_text(source / file, text)
    write_text(source / "index.md", front_page(titles, [page.removesuffix(".md") for page in pages]))
    write_text(source / "live.md", live_code_page())
    write_text(source / "api.md", api_page())
    for module in live.MODULES:
        name = f"{module}.mjs"
        write_text(source / "live" / name, (live.SOURCES / name).read_text(encoding="utf-8"))
    _stage_static(source)
    live.write_live_page(source / "extra")


def _stage_static(source: Path) -> None:
    static = source / "static"
    write_text(static / FIGURES, get_plotlyjs())
    for file in (STYLE, UNPACK):
        write_text(static / file.name, file.read_text(encoding="utf-8"))
    if PICTURE.is_file():
        (source / PICTURE.name).write_bytes(PICTURE.read_bytes())


def _repository(source: Path) -> str:
    """The address of files in the repository, up to their path; "" where it is not known."""
    found = repository_of(source)
    if found is None:
        return ""
    name, ref = found
    return f"https://github.com/{name}/blob/{ref}/"


# --- Sphinx -----------------------------------------------------------------------------------------------------------


def _run_sphinx(source: Path, out: Path, doctrees: Path) -> None:
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError

    settings = {**SETTINGS, "html_theme_options": THEME}
    try:
        app = Sphinx(source, None, out, doctrees, "html", confoverrides=settings, status=None)
        app.build()
    except SphinxError as error:
        raise LabError("Sphinx could not build the site", str(error), "mend the page that it names") from error
    if app.statuscode:
        raise LabError("Sphinx could not build the site", "see its messages above", "mend the pages that it names")


def _remove_empty_folders(folder: Path) -> None:
    """A list of files says nothing of an empty folder: it would be taken for somebody else's."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is inside comes first
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def outside_addresses(folder: Path) -> list[str]:
    """What pages and styles would load from elsewhere, with the file."""
    found = []
    for path in [*folder.rglob("*.html"), *folder.rglob("*.css")]:
        text = path.read_text(encoding="utf-8", errors="replace")
        for asked in _asked(text):
            found.append(f"{path.relative_to(folder).as_posix()}: {asked[:120]}")
    return found


def _asked(text: str) -> Iterator[str]:
    for pattern in (_LOADED, _STYLED):
        for found in pattern.finditer(text):
            if 'rel="canonical"' not in found[0]:
                yield found[0]
