"""Notebooks as HTML whose formulas are drawn offline: TeX becomes MathML, which browsers draw by themselves."""

from html import escape

from jinja2 import pass_context
from jinja2.runtime import Context
from latex2mathml.converter import convert
from mistune import HTMLRenderer
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

LOADER = ("<!-- Load mathjax -->", "<!-- End of mathjax configuration -->")  # around what would load MathJax


def mathml(tex: str, *, block: bool = False) -> str:
    """A formula as MathML; what the converter does not know stays TeX, letter by letter."""
    try:
        return convert(tex.strip(), display="block" if block else "inline")
    except Exception:  # of many classes of its own; a formula of a student's must not end a report
        sign = "$$" if block else "$"
        return f"<code>{sign}{escape(tex)}{sign}</code>"


class _Renderer(IPythonRenderer):
    """nbconvert's Markdown, with formulas as MathML, and folds that hold what stands in them.

    To embed images, nbconvert parses every piece of HTML by itself: it closes a `<details>` at once, and what should be
    folded away stands below it, in sight. So only pieces with an image in them go that way.
    """

    def block_html(self, html: str) -> str:
        if "<img" in html:
            return super().block_html(html)
        return HTMLRenderer.block_html(self, html)

    def inline_html(self, html: str) -> str:
        if "<img" in html:
            return super().inline_html(html)
        return HTMLRenderer.inline_html(self, html)

    def block_math(self, body: str) -> str:
        return mathml(body, block=True)

    def inline_math(self, body: str) -> str:
        return mathml(body)


class OfflineExporter(HTMLExporter):
    """nbconvert's HTML page without MathJax, which would come from an address outside."""

    @pass_context
    def markdown2html(self, context: Context, source: str) -> str:
        """Markdown of a cell as HTML."""
        cell = context.get("cell", {})
        renderer = _Renderer(
            escape=False,
            attachments=cell.get("attachments", {}),
            embed_images=self.embed_images,
            anchor_link_text=self.anchor_link_text,
            exclude_anchor_links=self.exclude_anchor_links,
        )
        return MarkdownWithMath(renderer=renderer).render(source)


def without_mathjax(page: str) -> str:
    """A page of nbconvert's without the script that loads MathJax."""
    before, start, rest = page.partition(LOADER[0])
    _, end, after = rest.partition(LOADER[1])
    return before + after if start and end else page
