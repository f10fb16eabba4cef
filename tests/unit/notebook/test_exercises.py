"""What the framework does with an answer: check, hint, solution, progress."""

import sys

import nbformat
import numpy as np
import pytest
import torch
from proofs import RIGHT_ANSWERS
from proofs_1 import softmax
from proofs_2 import quantise

from labkit.errors import LabError
from labkit.notebook import exercises
from labkit.notebook.exercises import RIGHT, check, every_exercise, hint, judge, progress, solution
from labkit.notebook.exercises.notebook1 import LOGITS
from labkit.notebook.exercises.notebook2 import NF4
from labkit.notebook.exercises.record import recorded


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def raising(*_):
    return {}["missing key"]


def test_a_function_that_changes_its_input_does_not_change_the_checker():
    def in_place(logits, temperature):
        logits /= temperature
        return softmax(logits)

    before = LOGITS.copy()
    assert judge("1.3", in_place).outcome == RIGHT
    assert (before == LOGITS).all()


def test_quantiser_reference_is_bitsandbytes_nf4():
    functional = pytest.importorskip("bitsandbytes", reason="no bitsandbytes").functional
    weights = torch.randn(64, generator=torch.Generator().manual_seed(0))
    theirs = functional.dequantize_4bit(*functional.quantize_4bit(weights, blocksize=64, quant_type="nf4"))
    assert np.allclose(theirs.numpy(), quantise(weights.numpy(), NF4), atol=1e-5)


def test_check_never_raises_says_the_outcome_in_words_and_keeps_progress(capsys):
    check("1.3", raising)
    check("1.3", RIGHT_ANSWERS["1.3"][0])
    check("1.3", None)
    check("9.9", 1)
    out = capsys.readouterr().out
    assert "⚠ Your code raised · 1.3" in out and "✓ Right · 1.3" in out and "○ Not attempted · 1.3" in out
    assert "no exercise '9.9'" in out
    assert recorded()["1.3"] == {"tries": 2, "outcome": "right"}  # once right, a later blank does not take it back


def test_check_goes_on_when_progress_cannot_be_saved(capsys, monkeypatch):
    def full(*_, **__):
        raise LabError("cannot write progress.json", "No space left on device", "free space")

    monkeypatch.setattr(exercises, "note", full)
    check("0.1", "b")
    out = capsys.readouterr().out
    assert "✓ Right" in out and "Progress not saved" in out


def test_spoilt_progress_file_is_no_obstacle(home):
    home.mkdir()
    (home / "progress.json").write_text('{"0.1": {"outc')
    check("0.1", "b")
    assert recorded()["0.1"]["outcome"] == "right"


def test_hints_come_one_more_at_each_call(capsys):
    for given in (1, 2, 3, 3):
        hint("1.3")
        out = capsys.readouterr().out
        assert f"Hint {given} of 3" in out
        assert (every_exercise()["1.3"].hints[2] in out) == (given == 3)


def test_every_exercise_has_hints_and_a_title():
    assert all(task.hints and task.title for task in every_exercise().values())


def test_message_escapes_what_the_student_wrote(monkeypatch):
    shown = []
    monkeypatch.setattr(exercises, "show", shown.append)
    check("0.1", "<img src=x onerror=alert(1)>")
    assert "<img" not in shown[0].html and "&lt;img" in shown[0].html


def test_solution_unfolds_the_cells_before_the_check_and_says_so(tmp_path, monkeypatch, capsys):
    block = "def f(x):\n    ### BEGIN SOLUTION\n    return x + {}\n    ### END SOLUTION"
    sources = [block.format(1), 'check("1.3", f)', block.format(2), "helper = 1", 'check("1.4", f)']
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    (tmp_path / "solutions").mkdir()
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "solutions" / "1_test.ipynb")
    monkeypatch.chdir(tmp_path / "notebooks")
    solution("1.4")
    out = capsys.readouterr().out
    assert "Solution unfolded" in out and "x + 2" in out and "x + 1" not in out
    assert recorded()["1.4"]["solution"] is True
    with pytest.raises(LabError, match=r"no solution of 1\.5"):
        solution("1.5")


def test_progress_table_counts_in_words_and_is_exported(home):
    check("0.1", "b")
    check("0.2", lambda d: 0)
    shown = progress(home / "me.csv")
    assert shown.text.startswith(f"1 of {len(every_exercise())} exercises solved. Next: 0.2")
    assert "✓ right" in shown.html and "✗ wrong" in shown.html and "<progress" in shown.html
    lines = (home / "me.csv").read_text().splitlines()
    assert lines[0] == "id,exercise,state,tries,hints,solution" and len(lines) == 1 + len(every_exercise())
    assert "0.2,Count the bot's turns,✗ wrong,1,0," in lines
    progress(home / "me.md")
    assert "| 0.2 | Count the bot's turns | ✗ wrong | 1 | 0 |" in (home / "me.md").read_text()


def test_progress_names_the_training_that_a_dropped_session_left(home):
    for name, finished in (("done", True), ("half", False)):
        (home / "adapters" / name).mkdir(parents=True)
        (home / "adapters" / name / "run.json").write_text("{}")
        if finished:
            (home / "adapters" / name / "result.json").write_text("{}")
    told = progress().text.splitlines()[0]
    assert "it goes on: half" in told and "done" not in told


def test_the_line_of_a_wrong_value_is_the_one_that_ran_and_profiling_is_put_back():
    def two_ways(logits, temperature):
        if temperature == 1:
            return softmax(logits)
        return softmax(logits * temperature)

    before = sys.getprofile()
    message = judge("1.3", two_ways).message
    assert "`return softmax(logits * temperature)`" in message and sys.getprofile() is before
    assert "came from line" not in judge("0.1", "a").message  # a choice has no line
    assert "came from line" not in judge("0.2", len).message  # nor has a function that is not Python's


def test_in_a_notebook_the_line_is_the_cells_own():
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    shell.run_cell("import math")
    shell.run_cell(
        "# a comment\ndef count(dialogue):\n    if dialogue.turns:\n        return 7\n    return 0\n\n"
        "def broken(dialogue):\n    return n / 0"
    )
    assert "line 4 of your cell: `return 7`" in judge("0.2", shell.user_ns["count"]).message
    assert "in line 8 of your cell: `return n / 0`" in judge("0.2", shell.user_ns["broken"]).message
