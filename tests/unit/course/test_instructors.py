"""For instructors: grading a class, pooling its boards, and the page that a student hands in."""

import csv
import functools
import json
import socket
import sys

import nbformat
import pytest

from labkit.cli import main
from labkit.course import no_network
from labkit.course.grade import NOT_REACHED
from labkit.notebook.exercises import check
from labkit.notebook.exercises.given import given
from labkit.notebook.exercises.notes import guess, guesses, note, open_questions
from labkit.notebook.exercises.record import answer_id, recorded
from labkit.results.board import Board

EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def notebook(path, *sources):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def grades(path="grades.csv"):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {(row["student"], row["exercise"]): row for row in rows}


# --- grade ------------------------------------------------------------------------------------------------------------

CHECK = 'import labkit\nlabkit.check("0.1", "{}")'
ASK_THE_NETWORK = """import socket, subprocess, sys
address = ("127.0.0.1", PORT)  # of a server that does listen
code = f"import socket; socket.create_connection({address}, timeout=5)"
inside = subprocess.run([sys.executable, "-c", code], capture_output=True).returncode
try:
    socket.create_connection(address, timeout=5)
except OSError:
    refused = inside != 0
else:
    refused = False
import labkit
labkit.note("0.a", "refused" if refused else "went out")"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Python refuses other machines only")
def test_a_class_is_graded_though_notebooks_break_hang_and_end_their_process(tmp_path, monkeypatch, capsys):
    """One of each: what breaks, what exits, what asks the network, what never ends, what is no notebook."""
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    server = socket.create_server(("127.0.0.1", 0))
    many_things = [
        "import os; assert 'HF_TOKEN' not in os.environ",
        f"raise ValueError('''{EVIL}''')",
        "import sys; sys.exit(3)",
        ASK_THE_NETWORK.replace("PORT", str(server.getsockname()[1])),
        CHECK.format("b"),
        f"labkit.note('0.a', labkit.notebook.exercises.notes._before('0.a', 'note') + ''' {EVIL}''')",
    ]
    notebook(tmp_path / "class" / f"anna {EVIL}" / "0_setup.ipynb", *many_things)
    claims = {"0.1": {"outcome": "right", "tries": 2, "hints": 1, "solution": True}}
    notebook(tmp_path / "class" / "bert" / "0_setup.ipynb", CHECK.format("a"), "import time; time.sleep(1000)", "0")
    (tmp_path / "class" / "bert" / "progress.json").write_text(json.dumps(claims))
    notebook(tmp_path / "class" / "=cleo.ipynb", CHECK.format("b"), "import os; os._exit(0)", CHECK.format("a"))
    (tmp_path / "class" / "dan").mkdir()
    (tmp_path / "class" / "dan" / "0_setup.ipynb").write_text("{")

    assert main(["grade", "class", "--seconds", "8"]) == 0

    found = grades()
    anna = found[f"anna {EVIL}", "0.1"]
    assert anna["judged"] == "right"
    assert anna["stopped"].startswith("cell 2: ValueError") and "were run all the same" in anna["stopped"]
    bert = found["bert", "0.1"]
    assert (bert["judged"], bert["claimed"], bert["tries"], bert["hints"]) == ("wrong", "right", "2", "1")
    assert bert["stopped"] == "stopped in cell 2: the time was up" and float(bert["seconds"]) < 30
    assert found["bert", "0.2"]["judged"] == NOT_REACHED
    cleo = found["'=cleo", "0.1"]  # a spreadsheet would compute it
    assert cleo["judged"] == "right" and "ended its Python process" in cleo["stopped"]
    assert "is no notebook" in found["dan", "0.1"]["stopped"]
    page = (tmp_path / "grades.html").read_text(encoding="utf-8")
    assert "<img" not in page and "&lt;img" in page and "claims ✓" in page
    assert "refused" in page and "went out" not in page
    assert "anna" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, said",
    [
        (["grade", "nowhere"], "no folder nowhere"),
        (["grade", "."], "no notebook in ."),
        (["grade", "class", "--csv", "class"], "cannot write class: it is a folder"),
        (["grade", "class", "--html", "thesis.tex"], "no .html or .htm file that labkit wrote"),
        (["grade", "class", "--seconds", "0"], "--seconds cannot be '0'"),
        (["pool", "nowhere.jsonl"], "no board to pool: left out nowhere.jsonl"),
        (["pool", "good.jsonl", "--html", "thesis.tex"], "no .html or .htm file that labkit wrote"),
        (["report", "--html", "thesis.tex"], "no .html or .htm file that labkit wrote"),
    ],
)
def test_what_cannot_be_done_is_one_line_before_any_work(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("labkit.course.grade.rerun", lambda *_: pytest.fail("work began"))
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / "good.jsonl").write_text(json.dumps({"task": "speed"}))
    if "class" in words:
        notebook(tmp_path / "class" / "0_setup.ipynb", "1")
    assert main(words) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_grading_that_is_stopped_does_not_promise_to_go_on(tmp_path, monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    notebook(tmp_path / "class" / "0_setup.ipynb", "1")
    monkeypatch.setattr("labkit.course.grade.rerun", stopped)
    assert main(["grade", "class"]) == 130
    assert "interrupted: what was graded by then is in grades.csv" in capsys.readouterr().err


def test_a_notebook_of_another_name_is_known_by_its_checks(tmp_path):
    from labkit.course.handed_in import exercises_of, read_notebook

    path = tmp_path / "mine.ipynb"
    notebook(path, 'labkit.check("4.2", f)', "labkit.check('1.1', a)")
    assert exercises_of(path, read_notebook(path)) == ["1.1", "4.2"]
    assert exercises_of(tmp_path / "Kopie von 0_setup (2).ipynb", None)[:2] == ["0.1", "0.2"]


def test_jupyters_own_copies_are_not_graded_and_odd_progress_files_are_said(tmp_path):
    from labkit.course.handed_in import handed_in

    notebook(tmp_path / "class" / "anna" / "0_setup.ipynb", "1")
    notebook(tmp_path / "class" / "anna" / ".ipynb_checkpoints" / "0_setup-checkpoint.ipynb", "1")
    (tmp_path / "class" / "anna" / "progress.json").write_text("\x00")
    (one,) = handed_in(tmp_path / "class")
    assert [path.name for path in one.notebooks] == ["0_setup.ipynb"]
    assert one.claims == {} and "nothing that can be read" in one.remark


def test_where_the_system_has_no_filter_python_itself_refuses(monkeypatch):
    import urllib.request

    for name in ("socket", "getaddrinfo"):
        monkeypatch.setattr(socket, name, getattr(socket, name))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "")
        monkeypatch.setenv(name.upper(), "")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert no_network.refuse_network() == "in Python"
    with pytest.raises(PermissionError, match="no network while a notebook is graded"):
        socket.socket(socket.AF_INET).connect(("1.1.1.1", 80))
    with pytest.raises(OSError, match=r"refused|no network"):
        urllib.request.urlopen("http://example.org", timeout=3)
    here = socket.create_server(("127.0.0.1", 0))
    socket.socket(socket.AF_INET).connect(here.getsockname())  # this machine itself is no network


# --- pool -------------------------------------------------------------------------------------------------------------

ROW = {
    "task": "zero-shot",
    "model": "mini-pythia-8m",
    "stand_in": True,
    "corpus": "miniwoz",
    "split": "dev",
    "dialogues": 20,
    "bleu": 3.5,
    "inform": 30.0,
    "success": 0.0,
    "decoding": {"strategy": "sample", "top_p": 0.9},
    "device": "cpu (2 threads)",
    "speed": {"replies_per_second": 4.0},
}


def test_a_class_fills_the_2023_tables_and_a_damaged_file_is_one_line(tmp_path, capsys):
    Board(tmp_path / "class" / "anna").add(ROW)
    Board(tmp_path / "class" / "bert | =b").add({**ROW, "task": "speed", "device": f"Tesla T4 {EVIL}"})
    (tmp_path / "class" / "torn.jsonl").write_text('{"task": "ze')
    (tmp_path / "class" / "photo.csv").write_bytes(b"\xff\xd8\xff\x00")
    assert main(["pool", "class", "--html", "pool.html", "--csv", "pool.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("torn.jsonl" in line and "left out" in line for line in lines) == 1
    assert sum("photo.csv" in line and "left out" in line for line in lines) == 1
    assert next(line for line in lines if line.startswith("| anna |")).count("bleu 3.5") == 1
    assert any(line.startswith(r"| bert \| =b | Tesla T4") for line in lines)
    page = (tmp_path / "pool.html").read_text(encoding="utf-8")
    assert "<img" not in page and page.count("Plotly.newPlot(") >= 2
    assert "Scores of the class: miniwoz, dev split" in page
    with open("pool.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["student"] for row in rows} == {"anna", "bert | =b"} and rows[0]["bleu"] == "3.5"


def test_a_board_comes_back_from_its_export(tmp_path):
    from labkit.results.pool import pool

    board = Board(tmp_path / "a")
    board.add(ROW)
    board.add({**ROW, "intervals": {"bleu": [1.0, 5.0]}, "model": "/home/anna/models/mine"})
    board.csv(tmp_path / "anna.csv")
    board.csv(tmp_path / "b" / "results.csv")
    rows = pool([tmp_path / "anna.csv", tmp_path / "b" / "results.csv"]).rows
    assert [row["student"] for row in rows] == ["anna", "anna", "b", "b"]
    assert rows[0]["decoding"] == ROW["decoding"] and rows[0]["stand_in"] is True
    assert rows[1]["intervals"] == {"bleu": [1.0, 5.0]} and rows[1]["model"] == "mine"


# --- the student's own page -------------------------------------------------------------------------------------------


def test_answers_notes_guesses_and_results_are_in_the_page_as_text(home, tmp_path, capsys):
    def bot_turns(dialogue):
        return "<b>" * len(dialogue.turns)

    check("0.2", bot_turns)
    check("0.1", "b")
    note("0.a", f"nowhere {EVIL}")
    guess("1.floor", 0)
    Board(home).add({**ROW, "model": EVIL})
    assert main(["report", "--html", "mine.html"]) == 0
    page = (tmp_path / "mine.html").read_text(encoding="utf-8")
    assert "<img" not in page and "&lt;img" in page
    assert "def bot_turns" in page and "&lt;b&gt;" in page
    assert guesses()["1.floor"] in page and "Plotly.newPlot(" in page
    assert "http://" not in page.split("</script>", 1)[1].replace("http://www.w3.org", "")  # nothing is fetched
    assert main(["report"]) == 0 and (tmp_path / "my_run.html").is_file()


def test_a_report_of_nothing_says_how_to_begin(tmp_path, capsys):
    assert main(["report"]) == 0
    page = (tmp_path / "my_run.html").read_text(encoding="utf-8")
    assert "Nothing is noted yet" in page and "No results yet" in page and len(page) < 50_000


def test_a_right_answer_is_kept_when_a_later_one_is_wrong():
    check("0.1", "b")
    check("0.1", "a")
    assert recorded()["0.1"] == {"outcome": "right", "tries": 2}
    assert recorded()[answer_id("0.1")]["answer"] == "'b'"


class Hostile:
    """Its code must not run outside of the checker's own process."""

    def __repr__(self):
        pytest.fail("the student's code ran")


@pytest.mark.parametrize(
    "answer, told",
    [
        (3, "3"),
        (("a", {1}), "('a', {1})"),
        (Hostile(), "a Hostile"),
        ((Hostile(), 2), "(a Hostile, 2)"),
        (len, "a builtin"),
        (10**5000, "a int that is too large to write"),
        ((1, [10**5000]), "(1, a list that is too large to write"),
        (functools.reduce(lambda inner, _: (inner,), range(99_999), ()), "((((((((((("),
    ],
    ids=range(8),
)
def test_an_answer_is_kept_without_running_it(answer, told):
    assert given(answer).startswith(told)


# --- notes and guesses ------------------------------------------------------------------------------------------------


def test_a_note_stays_when_its_cell_is_run_empty_and_is_shown(capsys):
    note("4.a", "the first one")
    note("4.a", "")
    note("4.a", ...)
    assert recorded()["4.a"]["note"] == "the first one"
    printed = capsys.readouterr().out
    assert printed.count("the first one") == 3 and open_questions()["4.a"] in printed


def test_a_guess_stands_beside_the_outcome(capsys):
    guess("1.floor", ...)
    guess("1.floor", outcome=22.7)
    guess("1.floor", 0)
    guess("1.floor", outcome=22.7)
    printed = capsys.readouterr().out
    assert "You made no guess. It is 22.7." in printed
    assert "You guessed 0. It is 22.7: 22.7 apart." in printed


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: note("9.z", "x"), r"no open question '9.z'.*choose one of 0.a"),
        (lambda: note(4.1, "x"), "no open question 4.1"),
        (lambda: note("4.a", 3), "a note is a text: a int"),
        (lambda: note("4.a", "x" * 20_001), "at most 20,000 characters"),
        (lambda: guess("floor", 3), "no guess 'floor'"),
        (lambda: guess("1.floor", [3]), r"a guess is a number or a short text: \[3\]"),
        (lambda: guess("1.floor", float("nan")), "a guess is a number"),
        (lambda: guess("1.floor", True), "a guess is a number"),
    ],
)
def test_a_note_or_a_guess_that_makes_no_sense_is_one_line(call, said):
    from labkit.errors import LabError

    with pytest.raises(LabError, match=said):
        call()


def test_notes_that_cannot_be_saved_do_not_stop_the_notebook(home, capsys):
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file where the folder should be")
    note("4.a", "lost?")
    assert "Not saved" in capsys.readouterr().out
