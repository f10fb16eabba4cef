"""What a reader who is blind, colour-blind or works without a mouse would miss, as a list of findings; empty is good.

Automatic checks find some barriers, not all: that an alt text says the right thing, only a reader can judge.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

import nbformat

from labkit.storage import Json

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_HEADING = re.compile(r"^(#+) ", re.MULTILINE)
_EMPTY_LINK = re.compile(r"(?i)\[(?:click )?(?:here|link)\]\(.*?\)")
_IMAGE_WITHOUT_ALT = re.compile(r"!\[\s*\]\(.*?\)")
_PICTURE = re.compile(r"<(?:img|svg)\b[^>]*>")
PLOTLY = "application/vnd.plotly.v1+json"
WIDGETS = "application/vnd.jupyter.widget-state+json"
LOOKS = ("type", "mode", "xaxis", "yaxis", "text", "texttemplate")  # of a plotly trace, besides its colour
CORE = ("@jupyter-widgets/base", "@jupyter-widgets/controls", "@jupyter-widgets/output")  # work by keyboard everywhere
OWN = "labkit."  # begins the id of a widget of this package: axe-core and a keyboard go over it in tests/browser
CONTROLS = ("Slider", "Dropdown", "Text", "Textarea", "Checkbox", "Button", "Buttons", "Select", "Combobox")


def prose(markdown: str) -> str:
    """Markdown without code blocks and comments."""
    return _HTML_COMMENT.sub("", _FENCE.sub("", markdown))


def markdown_findings(markdown: str) -> Iterator[str]:
    """Headings that skip a level, images without alt text, links that say "here"."""
    text = prose(markdown)
    levels = [len(marks) for marks in _HEADING.findall(text)]
    begins_with_title = levels[:1] == [1]
    if not begins_with_title or levels.count(1) > 1:
        yield "not exactly one first-level heading, at the top"
    for level, next_level in pairwise(levels):
        if next_level > level + 1:
            yield f"heading level {next_level} follows {level}"
    for link in _EMPTY_LINK.findall(text):
        yield f"link text tells nothing: {link}"
    for image in _IMAGE_WITHOUT_ALT.findall(text):
        yield f"no alt text: {image}"
    yield from html_findings(text)


def html_findings(html: str) -> Iterator[str]:
    """Images without alt text; drawings without a name."""
    for tag in _PICTURE.findall(html):
        name = "alt=" if tag.startswith("<img") else "aria-"
        if name not in tag:
            yield f"no alt text: {tag[:80]}"


def figure_findings(figure: Json) -> Iterator[str]:  # plotly's JSON
    """A plotly figure (as JSON) without a title, or whose series only their colour tells apart."""
    title = _part(_part(figure, "layout"), "title")
    if not title.get("text"):
        yield "a figure without a title"
    first: dict[str, tuple[object, object]] = {}  # look → name and colour of the first trace that has it, plotly's JSON
    for trace in figure.get("data", ()):
        if trace.get("visible") is False:
            continue
        name, colour = _name_and_colour(trace)
        look = _look(trace)
        first_name, first_colour = first.setdefault(look, (name, colour))
        tells_apart = colour != first_colour or colour is None
        if name != first_name and tells_apart:
            yield f"only colour tells {name!r} from {first_name!r}"


def _name_and_colour(trace: Json) -> tuple[object, object]:  # plotly's JSON
    colour = _part(trace, "marker").get("color")
    if not colour:
        colour = _part(trace, "line").get("color")
    return trace.get("name"), colour


def _look(trace: Json) -> str:  # plotly's JSON
    """All that a reader sees of a series without its colour."""
    marker = _part(trace, "marker")
    seen = [trace.get(name) for name in LOOKS]
    seen.append(marker.get("symbol"))
    seen.append(_part(marker, "pattern").get("shape"))
    seen.append(_part(trace, "line").get("dash"))
    return str(seen)


def _part(figure: Json, name: str) -> Json:  # plotly's JSON
    return figure.get(name) or {}


def widget_findings(models: Iterable[Json]) -> Iterator[str]:  # a front end's JSON
    """Widgets (models of a front end's state) that a keyboard may not reach, or that a screen reader cannot name."""
    for model in models:
        module = model["model_module"]
        kind = model["model_name"]
        own = str(model["state"].get("_anywidget_id", "")).startswith(OWN)
        if module not in CORE and not own:
            yield f"not a core widget: {kind} of {module}"
        name = kind.removesuffix("Model")
        description = model["state"].get("description")
        if name.endswith(CONTROLS) and not description:
            yield f"a {name} without a description"


def notebook_findings(notebook: nbformat.NotebookNode) -> list[str]:
    """Findings in the text of a notebook, and in its outputs and widgets as far as it has any."""
    found = list(markdown_findings(markdown_of(notebook)))
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            found += [f"cell {number}: {finding}" for finding in _output_findings(data)]
    widgets = notebook.metadata.get("widgets", {})
    state = widgets.get(WIDGETS, {}).get("state", {})
    return found + sorted(set(widget_findings(state.values())))


def markdown_of(notebook: nbformat.NotebookNode) -> str:
    """The text of a notebook's Markdown cells."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return "\n\n".join(texts)


def _output_findings(data: Json) -> Iterator[str]:  # {MIME type: what nbformat has for it}
    figure = data.get(PLOTLY)
    html = data.get("text/html", "")
    if figure is not None:
        yield from figure_findings(figure)
    yield from html_findings(html)
    pictures = [kind for kind in data if kind.startswith("image/")]
    if pictures:
        yield "a picture, which has no alt text"
