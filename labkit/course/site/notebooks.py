"""Notebooks as pages of the site: figures drawn by a script of the site, solutions folded, links to where they run."""

from pathlib import Path

import nbformat

from labkit.course.accessibility import PLOTLY
from labkit.course.badges import places
from labkit.course.release import BEGIN
from labkit.course.report import WIDGET, drawn, with_shared_plotly
from labkit.course.site.outputs import smaller

FOLDED = {"tags": ["hide-input"]}  # as myst-nb folds the code of a cell
SET_UP = "REPOSITORY ="


def notebook_for_site(notebook: nbformat.NotebookNode, source: Path, plotly: str) -> nbformat.NotebookNode:
    """A notebook, executed or not, as myst-nb shows it without a network.

    Args:
        source: the notebook in solutions/ that it was made from; it knows where the course is hosted.
        plotly: the address of plotly's script, seen from the notebook's page.
    """
    cells = [_cell(cell, plotly) for cell in notebook.cells]
    line = launch_line(source)
    if line:
        below_the_title = 1
        cells.insert(below_the_title, nbformat.v4.new_markdown_cell(line))
    _load_once(cells, plotly)
    _make_smaller(cells)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)  # without the state of widgets


def launch_line(source: Path) -> str:
    """Links that open the student notebook elsewhere; "" where no repository is known. Badges would be images from
    outside."""
    links = [f"[{name}]({address})" for name, address in places(source).items()]
    return f"Open it in {' · '.join(links)}" if links else ""


# --- cells ------------------------------------------------------------------------------------------------------------


def _cell(cell: nbformat.NotebookNode, plotly: str) -> nbformat.NotebookNode:
    is_solution = "solution" in cell.metadata.get("tags", [])
    if cell.cell_type == "markdown":
        _attach(cell)
        if is_solution:
            cell.source = f"<details><summary>Show the answer</summary>\n\n{cell.source}\n\n</details>"
        cell.metadata = {}
        return cell
    if is_solution or BEGIN in cell.source:
        cell.metadata = {**FOLDED, "mystnb": {"code_prompt_show": "Show the solution"}}
    elif SET_UP in cell.source:
        cell.metadata = {**FOLDED, "mystnb": {"code_prompt_show": "Show the set-up"}}
    else:
        cell.metadata = {}
    shown = [_output(output, plotly) for output in cell.get("outputs", ())]
    cell.outputs = [output for output in shown if output]
    return cell


def _attach(cell: nbformat.NotebookNode) -> None:
    """Put the pictures of a cell into its text."""
    for name, kinds in cell.pop("attachments", {}).items():
        for kind, content in kinds.items():
            cell.source = cell.source.replace(f"attachment:{name}", f"data:{kind};base64,{content}")


def _output(output: nbformat.NotebookNode, plotly: str) -> nbformat.NotebookNode | None:
    """An output that needs neither a kernel nor a network; None for one of which nothing is left."""
    data = output.get("data")
    if data is None:  # printed, or an error
        return output
    figure = data.pop(PLOTLY, None)
    if figure:
        data["text/html"] = drawn(figure, include_plotlyjs=False)
    elif "text/html" in data:
        data["text/html"] = with_shared_plotly(data["text/html"], plotly)
    is_widget = data.pop(WIDGET, None) is not None
    if is_widget and not data.get("text/html"):
        return None  # a progress bar, which would stand there as "0 %"; or a widget with its twin behind it
    return output


def _make_smaller(cells: list[nbformat.NotebookNode]) -> None:
    for cell in cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "text/html" in data:
                data["text/html"] = smaller(data["text/html"])


def _load_once(cells: list[nbformat.NotebookNode], plotly: str) -> None:
    """Put plotly's script before the first figure of a page."""
    for cell in cells:
        for output in cell.get("outputs", ()):
            html = output.get("data", {}).get("text/html", "")
            if "Plotly.newPlot" in html:
                output.data["text/html"] = f'<script src="{plotly}"></script>{html}'
                return
