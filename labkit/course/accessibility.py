"""What a reader who is blind, colour-blind or works without a mouse would miss, as a list of findings; empty is good.

Automatic checks find some barriers, not all: that an alt text says the right thing, only a reader can judge.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import nbformat

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CORE = ("@jupyter-widgets/base", "@jupyter-widgets/controls", "@jupyter-widgets/output")  # work by keyboard everywhere
CONTROLS = ("Slider", "Dropdown", "Text", "Textarea", "Checkbox", "Button", "Buttons", "Select", "Combobox")


def prose(markdown: str) -> str:
    """Markdown without code blocks and comments."""
    return _HTML_COMMENT.sub("", _FENCE.sub("", markdown))


def markdown_findings(markdown: str) -> Iterator[str]:
    """Headings that skip a level, images without alt text, links that say "here"."""
    text = prose(markdown)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
    if levels[:1] != [1] or levels.count(1) != 1:
        yield "not exactly one first-level heading, at the top"
    yield from (f"heading level {deep} follows {level}" for level, deep in pairwise(levels) if deep - level > 1)
    yield from (
        f"link text tells nothing: {link}" for link in re.findall(r"(?i)\[(?:click )?(?:here|link)\]\(.*?\)", text)
    )
    yield from (f"no alt text: {image}" for image in re.findall(r"!\[\s*\]\(.*?\)", text))
    yield from html_findings(text)


def html_findings(html: str) -> Iterator[str]:
    """Images without alt text; drawings without a name."""
    for tag in re.findall(r"<(?:img|svg)\b[^>]*>", html):
        named = "alt=" if tag.startswith("<img") else "aria-"
        if named not in tag:
            yield f"no alt text: {tag[:80]}"


def figure_findings(figure: Mapping[str, Any]) -> Iterator[str]:
    """A plotly figure (as JSON) without a title, or whose series only their colour tells apart."""
    if not (figure.get("layout", {}).get("title") or {}).get("text"):
        yield "a figure without a title"
    looks: dict[str, tuple[Any, Any]] = {}
    for trace in (trace for trace in figure.get("data", ()) if trace.get("visible") is not False):
        marker, line = trace.get("marker") or {}, trace.get("line") or {}
        same = [trace.get(part) for part in ("type", "mode", "xaxis", "yaxis", "text", "texttemplate")]
        look = str([*same, marker.get("symbol"), (marker.get("pattern") or {}).get("shape"), line.get("dash")])
        told = (trace.get("name"), marker.get("color") or line.get("color"))
        before = looks.setdefault(look, told)
        if before[0] != told[0] and (before[1] != told[1] or told[1] is None):
            yield f"only colour tells {told[0]!r} from {before[0]!r}"


def widget_findings(models: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Widgets (models of a front end's state) that a keyboard may not reach, or that a screen reader cannot name."""
    for model in models:
        if model["model_module"] not in CORE:
            yield f"not a core widget: {model['model_name']} of {model['model_module']}"
        name = model["model_name"].removesuffix("Model")
        if name.endswith(CONTROLS) and not model["state"].get("description"):
            yield f"a {name} without a description"


def notebook_findings(notebook: nbformat.NotebookNode) -> list[str]:
    """Findings in the text of a notebook, and in its outputs and widgets as far as it has any."""
    found = list(markdown_findings("\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")))
    for number, cell in enumerate(notebook.cells, 1):
        for data in (output.get("data", {}) for output in cell.get("outputs", ())):
            inside = list(
                figure_findings(data.get("application/vnd.plotly.v1+json", {"layout": {"title": {"text": "-"}}}))
            )
            inside += html_findings(data.get("text/html", ""))
            inside += ["a picture, which has no alt text"] * any(kind.startswith("image/") for kind in data)
            found += [f"cell {number}: {finding}" for finding in inside]
    state = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    return found + sorted(set(widget_findings(state.values())))
