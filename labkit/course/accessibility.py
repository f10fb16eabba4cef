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
CORE = (  # modules whose widgets work by keyboard everywhere
    "@jupyter-widgets/base",
    "@jupyter-widgets/controls",
    "@jupyter-widgets/output",
)
OWN = "labkit."  # begins the id of a widget of this package: axe-core and a keyboard go over it in tests/browser
CONTROLS = ("Slider", "Dropdown", "Text", "Textarea", "Checkbox", "Button", "Buttons", "Select", "Combobox")
NameAndColour = tuple[object, object]  # of a trace, as plotly has them in JSON


def prose(markdown: str) -> str:
    """Markdown without code blocks and comments."""
    without_code = _FENCE.sub("", markdown)
    return _HTML_COMMENT.sub("", without_code)


def markdown_findings(markdown: str) -> Iterator[str]:
    """Headings that skip a level, images without alt text, links that say "here"."""
    text = prose(markdown)
    headings = _HEADING.findall(text)
    levels = [len(marks) for marks in headings]
    first_level = levels[:1]  # empty where there is no heading
    begins_with_title = first_level == [1]
    n_titles = levels.count(1)
    if not begins_with_title or n_titles > 1:
        yield "not exactly one first-level heading, at the top"
    for level, next_level in pairwise(levels):
        if next_level > level + 1:
            yield f"heading level {next_level} follows {level}"
    links = _EMPTY_LINK.findall(text)
    for link in links:
        yield f"link text tells nothing: {link}"
    images = _IMAGE_WITHOUT_ALT.findall(text)
    for image in images:
        yield f"no alt text: {image}"
    yield from html_findings(text)


def html_findings(html: str) -> Iterator[str]:
    """Images without alt text; drawings without a name."""
    pictures = _PICTURE.findall(html)
    for tag in pictures:
        name = "aria-"
        if tag.startswith("<img"):
            name = "alt="
        if name not in tag:
            start = tag[:80]
            yield f"no alt text: {start}"


def figure_findings(figure: Json) -> Iterator[str]:  # plotly's JSON
    """A plotly figure (as JSON) without a title, or whose series only their colour tells apart."""
    layout = _part(figure, "layout")
    title = _part(layout, "title")
    words = title.get("text")
    if not words:
        yield "a figure without a title"
    first: dict[str, NameAndColour] = {}  # look → name and colour of the first trace that has it
    traces = figure.get("data", ())
    for trace in traces:
        is_hidden = trace.get("visible") is False
        if is_hidden:
            continue
        name, colour = _name_and_colour(trace)
        look = _look(trace)
        if look not in first:
            first[look] = (name, colour)
        first_name, first_colour = first[look]
        other_name = name != first_name
        other_colour = colour != first_colour or colour is None
        if other_name and other_colour:
            yield f"only colour tells {name!r} from {first_name!r}"


def _name_and_colour(trace: Json) -> NameAndColour:  # plotly's JSON
    marker = _part(trace, "marker")
    colour = marker.get("color")
    if not colour:
        line = _part(trace, "line")
        colour = line.get("color")
    name = trace.get("name")
    return name, colour


def _look(trace: Json) -> str:  # plotly's JSON
    """All that a reader sees of a series without its colour."""
    marker = _part(trace, "marker")
    pattern = _part(marker, "pattern")
    line = _part(trace, "line")
    symbol = marker.get("symbol")
    shape = pattern.get("shape")
    dash = line.get("dash")
    seen = [trace.get(name) for name in LOOKS]
    seen += [symbol, shape, dash]
    return str(seen)


def _part(figure: Json, name: str) -> Json:  # plotly's JSON
    return figure.get(name) or {}


def widget_findings(models: Iterable[Json]) -> Iterator[str]:  # a front end's JSON
    """Widgets (models of a front end's state) that a keyboard may not reach, or that a screen reader cannot name."""
    for model in models:
        module = model["model_module"]
        kind = model["model_name"]
        state = model["state"]
        id_of_widget = str(state.get("_anywidget_id", ""))
        is_own = id_of_widget.startswith(OWN)
        if module not in CORE and not is_own:
            yield f"not a core widget: {kind} of {module}"
        name = kind.removesuffix("Model")
        description = state.get("description")
        is_control = name.endswith(CONTROLS)
        if is_control and not description:
            yield f"a {name} without a description"


def notebook_findings(notebook: nbformat.NotebookNode) -> list[str]:
    """Findings in the text of a notebook, and in its outputs and widgets as far as it has any."""
    text = markdown_of(notebook)
    found = list(markdown_findings(text))
    for number, cell in enumerate(notebook.cells, 1):
        outputs = cell.get("outputs", ())
        for output in outputs:
            data = output.get("data", {})
            for finding in _output_findings(data):
                found.append(f"cell {number}: {finding}")
    models = _widget_models(notebook)
    of_widgets = set(widget_findings(models))  # many widgets have the same one
    found += sorted(of_widgets)
    return found


def _widget_models(notebook: nbformat.NotebookNode) -> Iterable[Json]:  # a front end's JSON
    """The models of the widgets whose state was saved with the notebook."""
    widgets = notebook.metadata.get("widgets", {})
    saved = widgets.get(WIDGETS, {})
    state = saved.get("state", {})
    return state.values()


def markdown_of(notebook: nbformat.NotebookNode) -> str:
    """The text of a notebook's Markdown cells."""
    texts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            texts.append(cell.source)
    return "\n\n".join(texts)


def _output_findings(data: Json) -> Iterator[str]:  # {MIME type: what nbformat has for it}
    figure = data.get(PLOTLY)
    if figure is not None:
        yield from figure_findings(figure)
    html = data.get("text/html", "")
    yield from html_findings(html)
    has_picture = any(kind.startswith("image/") for kind in data)
    if has_picture:
        yield "a picture, which has no alt text"
