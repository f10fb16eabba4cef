"""`make report`: a failing notebook is seen and hides no other; pages draw their figures without a network."""

import nbformat
import pytest

from labkit.course.preflight import _page, preflight
from labkit.errors import LabError
from labkit.notebook.board import Board

FIGURE = """import time, os, plotly.graph_objects as go
time.sleep(0.2)
print("profile", os.environ["LAB_PROFILE"])
go.Figure(go.Bar(x=["a"], y=[1]), layout={"title": {"text": "</script><script>alert(1)</script>"}})"""


def notebook(path, *sources):
    path.parent.mkdir(exist_ok=True)
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_report_of_a_good_and_a_broken_notebook(tmp_path, monkeypatch):
    monkeypatch.delenv("LAB_HOME", raising=False)
    good = notebook(tmp_path / "solutions" / "0_good.ipynb", "1 + 1", FIGURE)
    broken = notebook(tmp_path / "solutions" / "1_broken.ipynb", "print('before')", "1 / 0", "print('after')")
    before = good.read_bytes()
    Board(tmp_path / "report" / "outputs").add({"task": "zero-shot", "model": "m", "bleu": 1.0, "stand_in": True})
    with pytest.raises(LabError, match=r"1 of 2 notebooks failed: .*1_broken"):
        preflight(tmp_path / "report", [good, broken], profile="smoke")
    index = (tmp_path / "report" / "index.html").read_text()
    assert "✓ passed" in index and "✗ failed" in index and "ZeroDivisionError" in index
    assert "import time" in index  # the first line of the slowest cell
    assert "stand-in" in index and "Plotly.newPlot" in index  # the board, as a table and a chart
    page = (tmp_path / "report" / "solutions_0_good.html").read_text()
    assert "profile smoke" in page and "Plotly.newPlot" in page
    assert 'src="plotly.min.js"' in page and (tmp_path / "report" / "plotly.min.js").stat().st_size > 1e6
    assert "<script>alert" not in page
    assert "before" in (tmp_path / "report" / "solutions_1_broken.html").read_text()
    assert good.read_bytes() == before  # the notebook itself is left as it was


def test_nothing_to_run_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("labkit.course.preflight.clone_root", lambda: tmp_path)
    with pytest.raises(LabError, match="no notebooks to run"):
        preflight(tmp_path / "report")


def test_a_page_shows_a_widget_by_its_static_twin():
    """A page without a kernel and a network drew nothing where a widget was, and a finished bar stood there as 0 %."""
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    shown = [{**view, "text/html": "<table>twin</table>", "text/plain": "twin"}, {**view, "text/plain": "0%|    | 0/9"}]
    cell = nbformat.v4.new_code_cell("explorer")
    cell.outputs = [nbformat.v4.new_output("display_data", data) for data in shown]
    state = {"application/vnd.jupyter.widget-state+json": {"state": {"1": {}}, "version_major": 2, "version_minor": 0}}
    page = _page(nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": state}), "a notebook")
    assert "<table>twin</table>" in page and "0%|" not in page
