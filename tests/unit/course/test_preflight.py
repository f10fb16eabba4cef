"""`make report`: a failing notebook is seen and hides no other; pages draw their figures without a network."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import psutil
import pytest

from labkit.course.cost import CARD, with_card, write_cost
from labkit.course.preflight import Run, preflight
from labkit.course.report import notebook_page
from labkit.errors import LabError
from labkit.storage import read_json

ROOT = Path(__file__).parents[3]

FIGURE = """import time, os, plotly.graph_objects as go
time.sleep(0.2)
print("profile", os.environ["LAB_PROFILE"])
go.Figure(go.Bar(x=["a"], y=[1]), layout={"title": {"text": "</script><script>alert(1)</script>"}})"""


def notebook(path, *sources):
    path.parent.mkdir(exist_ok=True)
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


ROW = """from labkit.notebook.board import Board
Board().add({"task": "zero-shot", "model": "m", "bleu": 1.0, "stand_in": True})"""


@pytest.mark.slow
def test_report_of_a_good_and_a_broken_notebook(tmp_path, monkeypatch):
    monkeypatch.delenv("LAB_HOME", raising=False)
    good = notebook(tmp_path / "solutions" / "0_good.ipynb", "1 + 1", FIGURE, ROW)
    broken = notebook(tmp_path / "solutions" / "1_broken.ipynb", "print('before')", "1 / 0", "print('after')")
    before = good.read_bytes()
    with pytest.raises(LabError, match=r"preflight failed: solutions/1_broken.ipynb \(smoke\) →"):
        preflight(tmp_path / "report", [good, broken], profiles=["smoke"])
    index = (tmp_path / "report" / "index.html").read_text()
    assert "✓ passed" in index and "✗ failed" in index and "ZeroDivisionError" in index
    assert "import time" in index  # the first line of the slowest cell
    assert "stand-in" in index and "Plotly.newPlot" in index  # the board, as a table and a chart
    page = (tmp_path / "report" / "smoke_solutions_0_good.html").read_text()
    assert "profile smoke" in page and "Plotly.newPlot" in page
    assert 'src="plotly.min.js"' in page and (tmp_path / "report" / "plotly.min.js").stat().st_size > 1e6
    assert "<script>alert" not in page
    assert "before" in (tmp_path / "report" / "smoke_solutions_1_broken.html").read_text()
    assert good.read_bytes() == before  # the notebook itself is left as it was


@pytest.mark.slow
def test_the_report_has_time_memory_and_download_of_every_run_and_what_it_checked(tmp_path, monkeypatch):
    """A clone with a leaked solution and a broken link: both are named, and the cost card is not written."""
    block = "### BEGIN SOLUTION\nsecret = 1 + 1 + 40\n### END SOLUTION"
    notebook(tmp_path / "solutions" / "0_a.ipynb", "x = b'x' * 10**9", block)
    notebook(tmp_path / "notebooks" / "0_a.ipynb", "secret = 1 + 1 + 40")
    (tmp_path / "README.md").write_text("# Lab\n\n[gone](gone.md)\n")
    monkeypatch.setattr("labkit.course.preflight.clone_root", lambda: tmp_path)
    monkeypatch.delenv("LAB_HOME", raising=False)
    with pytest.raises(LabError, match=r"0_a.ipynb: secret = 1 .*README.md: gone.md"):
        preflight(tmp_path / "report", profiles=["smoke"], students=True, cost=True)
    index = (tmp_path / "report" / "index.html").read_text()
    assert index.count("✓ passed") == 2 and "✗ no solution in a student" in index
    peaks = [float(peak) for peak in re.findall(r"<td>([\d.]+) GiB", index)]
    assert len(peaks) == 2 and peaks[0] > peaks[1] + 0.8  # 1e9 bytes are 0.93 GiB
    assert not (tmp_path / "labkit").exists()


COST = {"machine": "a machine", "date": "2026-11-24", "model": "m", "corpus": "c"}


def test_the_cost_card_goes_between_its_markers(tmp_path):
    (tmp_path / "README.md").write_text("# Lab\n\n<!-- cost:begin -->\nold\n<!-- cost:end -->\nend\n")
    run = Run("solutions/0_a.ipynb", "smoke", "page", 61.2, "", (), 1.26, 0.0, 3.0, ())
    write_cost([run, replace(run, profile="cpu", seconds=90.0, gpu_gib=2.0)], COST, tmp_path)
    readme = (tmp_path / "README.md").read_text()
    assert "| `0_a` | 61 s, 1.3 GiB, 3 MB | 90 s, 1.3 GiB + 2.0 GiB of GPU, 3 MB |" in readme
    assert (
        "old" not in readme
        and readme.endswith("<!-- cost:end -->\nend\n")
        and "m on c. smoke: 2026-11-24, a machine" in readme
    )
    assert with_card(readme, read_json(tmp_path / CARD)) == readme


def test_a_card_keeps_what_was_not_run_again_with_its_date(tmp_path):
    """To measure one notebook anew, all had to run, or the others were gone."""
    readme = tmp_path / "README.md"
    readme.write_text("<!-- cost:begin -->\n<!-- cost:end -->\n")
    run = Run("solutions/0_a.ipynb", "smoke", "page", 61.2, "", (), 1.26, 0.0, 3.0, ())
    write_cost([run, replace(run, notebook="solutions/1_b.ipynb")], COST, tmp_path)
    write_cost([replace(run, seconds=70.0)], COST | {"date": "later"}, tmp_path)
    assert "| `0_a` | 70 s" in readme.read_text() and "| `1_b` | 61 s" in readme.read_text()
    assert f"smoke: {COST['date']}, a machine, and later, a machine." in readme.read_text()
    write_cost([run], COST | {"model": "another"}, tmp_path)
    assert "1_b" not in readme.read_text()


def test_an_interrupted_preflight_loses_what_it_has_measured(tmp_path, monkeypatch):
    """Seven notebooks take three quarters of an hour, and the card was written after the last."""
    paths = [notebook(tmp_path / "solutions" / name, "1 + 1") for name in ("0_a.ipynb", "1_b.ipynb", "2_c.ipynb")]
    (tmp_path / "README.md").write_text("<!-- cost:begin -->\n<!-- cost:end -->\n")

    def run(path, *_):
        if path == paths[2]:
            raise KeyboardInterrupt
        error = "ZeroDivisionError" if path == paths[1] else ""
        return Run(f"solutions/{path.name}", "smoke", "page", 61.2, error, (), 1.26, 0.0, 3.0, ())

    monkeypatch.setattr("labkit.course.preflight.clone_root", lambda: tmp_path)
    monkeypatch.setattr("labkit.course.preflight._run", run)
    with pytest.raises(KeyboardInterrupt):
        preflight(tmp_path / "report", profiles=["smoke"], cost=True)
    readme = (tmp_path / "README.md").read_text()
    assert "| `0_a` | 61 s" in readme and "1_b" not in readme


def test_the_cost_card_in_the_readme_is_current():
    """After a new notebook, or by hand: `make preflight` on a quiet machine writes both."""
    cost, readme = read_json(ROOT / CARD), (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- cost:begin -->" in readme and with_card(readme, cost) == readme
    measured = {run["notebook"] for run in cost["runs"]}
    assert {f"solutions/{path.name}" for path in (ROOT / "solutions").glob("*.ipynb")} <= measured


def test_a_place_that_cannot_be_written_is_refused_before_the_notebooks_are_read():
    with pytest.raises(LabError, match="cannot write"):
        preflight("/dev/null/report", ["missing.ipynb"])


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
    page = notebook_page(nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": state}), "a notebook")
    assert "<table>twin</table>" in page and "0%|" not in page


def test_a_page_begins_with_the_notebook_and_leads_to_the_others():
    """The set-up cell filled the first page of print, and no page knew the index."""
    folded = {"jupyter": {"source_hidden": True}}
    ready = nbformat.v4.new_output("display_data", {"text/html": "<b>READY</b>"})
    cells = [
        nbformat.v4.new_code_cell("import subprocess", metadata=folded, outputs=[ready]),
        nbformat.v4.new_code_cell("shown = 1"),
    ]
    page = notebook_page(nbformat.v4.new_notebook(cells=cells), "a notebook", index="index.html")
    assert "subprocess" not in page and "<b>READY</b>" in page and "shown" in page
    assert page.count('<a href="index.html">') == 1 and page.index('<a href="index.html">') < page.index("<main")


def test_what_is_folded_away_is_folded_away_on_a_page_too():
    """ "What you should see" stood in sight below an empty fold."""
    text = "<details><summary>What you should see</summary>\n\nThe **answer**.\n\n</details>\n\nand <b>after</b> it"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    page = notebook_page(notebook, "a")
    folded = re.search(r"<details><summary>What you should see</summary>(.*?)</details>", page, re.DOTALL)[1]
    assert "<strong>answer</strong>" in folded and "<b>after</b>" in page


def test_formulas_are_drawn_without_a_network():
    """They stayed raw TeX: MathJax came from an address outside."""
    text = "The gain is $\\frac{1-\\alpha}{c}$ and $$P(j \\mid i) = \\sum_k p_k$$ but `$HOME` costs 5 $ or 6."
    unknown = "$\\begin{nothing} & <b>$"
    cells = [nbformat.v4.new_markdown_cell(one) for one in (text, unknown)]
    page = notebook_page(nbformat.v4.new_notebook(cells=cells), "a notebook")
    assert page.count("<math") == 2 and "<mfrac>" in page and 'display="block"' in page
    assert "\\frac" not in page and "<code>$HOME</code>" in page and "costs 5 $ or 6" in page
    assert "mathjax" not in page.lower() and 'src="http' not in page and "&lt;b&gt;" in page


BAD = {
    "missing.ipynb": None,
    "empty.ipynb": "",
    "text.ipynb": "hello",
    "list.ipynb": "[]",
    "number.ipynb": "3",
    "object.ipynb": "{}",
    "cells.ipynb": '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 3}',
}


@pytest.mark.parametrize("name", BAD)
def test_a_notebook_that_is_none_is_a_traceback(name, tmp_path):
    if BAD[name] is not None:
        (tmp_path / name).write_text(BAD[name])
    with pytest.raises(LabError, match=rf"{name}.*→ name one of") as caught:
        preflight(tmp_path / "report", [tmp_path / name])
    assert "\n" not in str(caught.value) and not (tmp_path / "report").exists()
    with pytest.raises(LabError, match="no profile 'huge'"):
        preflight(tmp_path / "report", [notebook(tmp_path / "n" / "good.ipynb", "1")], ["huge"])


def test_a_report_is_written_over_a_home_page_and_results_over_a_folder(tmp_path, monkeypatch):
    good = notebook(tmp_path / "solutions" / "0_good.ipynb", "1")
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("my home page")
    with pytest.raises(LabError, match=r"did not write.*index\.html"):
        preflight(tmp_path / "report", [good], ["smoke"])
    mine = tmp_path / "home" / "smoke-solutions" / "thesis.tex"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(LabError, match=r"did not write.*thesis\.tex"):
        preflight(tmp_path / "new", [good], ["smoke"])
    assert mine.exists() and not (tmp_path / "new").exists()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["in a cell", "while the kernel starts"])
def test_ctrl_c_in_preflight_is_a_traceback_and_leaves_a_kernel(number, when, tmp_path):
    """It was nbclient's AssertionError and exit code 1."""
    slow = notebook(
        tmp_path / "solutions" / "0_slow.ipynb", "open('begun', 'w').close()", "import time; time.sleep(300)"
    )
    command = [
        sys.executable,
        "-m",
        "labkit",
        "preflight",
        "--notebooks",
        str(slow),
        "--html",
        str(tmp_path / "report"),
    ]
    env = os.environ | {"LAB_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=env, cwd=tmp_path, **pipes) as run:
        assert "0_slow.ipynb" in run.stdout.read(len(str(slow)))  # printed before the kernel starts
        until(lambda: (slow.parent / "begun").exists() if when == "in a cell" else kernels_of(run.pid))
        kernels = kernels_of(run.pid)
        assert kernels
        run.send_signal(number)
        _, told = run.communicate(timeout=60)
    assert run.returncode == 130 and "interrupted" in told and "Traceback" not in told, told[-2000:]
    assert not psutil.wait_procs(kernels, timeout=10)[1], "a kernel is still there"


def kernels_of(process):
    return [
        child for child in psutil.Process(process).children(recursive=True) if "ipykernel" in "".join(child.cmdline())
    ]


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
