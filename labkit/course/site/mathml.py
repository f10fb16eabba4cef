"""A Sphinx extension: formulas as MathML, which browsers draw by themselves. MathJax would be two megabytes."""

from typing import TYPE_CHECKING

from docutils import nodes

from labkit.course.formulas import mathml

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

NAME = "mathml"  # as Sphinx's `html_math_renderer`


def setup(app: "Sphinx") -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer(NAME, (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(translator: "HTML5Translator", node: nodes.math) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def _block(translator: "HTML5Translator", node: nodes.math_block) -> None:
    formula = mathml(node.astext(), block=True)
    translator.body.append(f'<div class="formula">{formula}</div>')
    raise nodes.SkipNode
