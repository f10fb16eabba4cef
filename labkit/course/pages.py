"""One HTML page that needs neither a server nor a network: what it shows is in the file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment
from markupsafe import escape

from labkit.shown import readable

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FOLDER = Path(__file__).parent
HTML = (".html", ".htm")


def whole_page(title: str, body: str, *, with_figures: bool = False) -> str:
    """A page around a body of HTML. With figures, plotly's script (4 MB) is in it."""
    script = ""
    if with_figures:
        from plotly.offline import get_plotlyjs

        script = get_plotlyjs()
    return filled("page.html", title=title, body=body, plotly=script)


def filled(template: str, **values: object) -> str:
    """A template of this folder with values in it; texts are escaped."""
    text = (_FOLDER / template).read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(text).render(**values)


def figure_html(figure: "go.Figure") -> str:
    """A figure as a piece of a page made with `with_figures`."""
    import plotly.io

    return plotly.io.to_html(figure, full_html=False, include_plotlyjs=False, config={"responsive": True})


def table_html(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; the first cell of a row names it."""
    head = "".join(f'<th scope="col">{escape(readable(name))}</th>' for name in header)
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td>{_cell(value)}</td>" for value in rest)
        lines.append(f'<tr><th scope="row">{_cell(first)}</th>{cells}</tr>')
    body = "\n".join(lines)
    return f'<table tabindex="0"><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return str(escape(readable(text)))
