"""`check` comes back within its limit and never raises, whatever an answer does; a real interrupt goes through."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.notebook import exercises
from labkit.notebook.exercises import RAISED, RIGHT, WRONG, check, isolation, judge
from labkit.notebook.exercises import attempt as limits

ROOT = Path(__file__).parents[3]
forks = pytest.mark.skipif(not isolation.FORKS, reason="judged in a thread here: it can be left, not killed")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))


@pytest.fixture
def quick(monkeypatch):
    """Half a second in all for a call, so that a test of an endless one need not wait for six."""
    monkeypatch.setattr(limits, "SECONDS", 0.3)
    monkeypatch.setattr(isolation, "GRACE", 0.3)


@pytest.fixture(params=["main thread", "worker thread"])
def called(request):
    """Calls a function in this thread, or in another one as a widget's callback may."""
    if request.param == "main thread":
        return lambda function, *args: function(*args)

    def in_a_worker(function, *args):
        results = []
        thread = threading.Thread(target=lambda: results.append(function(*args)), daemon=True)
        thread.start()
        thread.join(20)
        return results[0]

    return in_a_worker


def bare_except(*_):
    while True:
        try:  # noqa: SIM105
            int("x")
        except:  # noqa: E722
            pass


def sums_in_c(*_):
    return sum(range(10**12))


def backtracks(*_):
    return re.match(r"(a+)+$", "a" * 60 + "b")


def sorts_in_numpy(*_):
    while True:
        np.sort(np.random.default_rng(0).random(10**8))


def sleeps(*_):
    while True:
        try:  # noqa: SIM105
            time.sleep(60)
        except:  # noqa: E722
            pass


@pytest.mark.slow
@forks
@pytest.mark.parametrize("endless", [sums_in_c, backtracks, sorts_in_numpy, sleeps])
def test_check_comes_back_from_a_loop_that_nothing_stops(endless, capsys, quick):
    check_comes_back(lambda function, *args: function(*args), endless, capsys)


@pytest.mark.slow
@forks
def test_check_comes_back_from_a_loop_in_any_thread(called, capsys, quick):
    check_comes_back(called, bare_except, capsys)


def check_comes_back(called, endless, capsys):
    begun = time.monotonic()
    called(check, "0.2", endless)
    assert time.monotonic() - begun < 10
    out = capsys.readouterr().out
    assert (
        "Your code raised" in out and "0.3 s and was stopped" in out and "The call was: a dialogue of user, bot." in out
    )


class Own(BaseException):
    """Not an Exception."""


def raises(error):
    def raising(*_):
        raise error

    return raising


@pytest.mark.parametrize(
    "error",
    [SystemExit(), KeyboardInterrupt(), Own(), GeneratorExit(), StopIteration(), MemoryError(), RecursionError()],
    ids=lambda error: type(error).__name__,
)
def test_check_of_code_that_raises_anything_is_a_verdict(error, called):
    verdict = called(judge, "0.2", raises(error))
    assert verdict.outcome == RAISED and type(error).__name__ in verdict.message


class Hostile:
    """Every question about it raises."""

    def __getattribute__(self, name):
        raise Own

    __repr__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __float__ = __str__ = raises(Own())


class Endless:
    """Every question about it takes for ever."""

    __repr__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __float__ = __str__ = bare_except


class PretendsToBeATuple:
    """Its class is a lie that raises."""

    __class__ = property(raises(Own()))


class WordlessError(Exception):
    """Its text raises."""

    __str__ = __repr__ = raises(ValueError())


@pytest.mark.slow
@forks
@pytest.mark.parametrize("id", ["0.1", "0.2", "0.3", "2.5", "2.6", "1.2", "5.2"])
@pytest.mark.parametrize("kind", [Hostile, PretendsToBeATuple])
def test_check_of_a_hostile_object_is_a_verdict(id, kind):
    for answer in (kind(), (kind(), kind()), lambda *_: kind(), lambda *_: [kind()]):
        assert judge(id, answer).outcome in (WRONG, RAISED)


@pytest.mark.slow
@forks
@pytest.mark.parametrize("id", ["0.1", "5.2", *(pytest.param(id, marks=pytest.mark.long) for id in ("0.2", "0.3"))])
def test_check_of_an_object_whose_every_method_is_endless_is_a_verdict(id, monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 0.1)
    monkeypatch.setattr(isolation, "GRACE", 0.2)
    for answer in (Endless(), (Endless(), Endless()), lambda *_: Endless(), lambda *_: [Endless()]):
        assert judge(id, answer).outcome in (WRONG, RAISED)


def test_an_error_whose_text_raises_and_half_an_emoji_are_a_verdict():
    assert "WordlessError" in judge("0.2", raises(WordlessError())).message
    verdict = judge("0.2", raises(ValueError("\ud83d")))
    assert verdict.outcome == RAISED and verdict.message.encode()


@forks
def test_code_that_ends_or_crashes_the_process_is_a_verdict():
    left = judge("0.2", lambda _: os._exit(0))
    assert left.outcome == RAISED and "ended its Python process" in left.message
    killed = judge("0.2", lambda _: os.kill(os.getpid(), signal.SIGSEGV))
    assert killed.outcome == RAISED and "SIGSEGV" in killed.message


@forks
def test_nothing_of_a_stopped_check_goes_on(tmp_path, quick):
    """Also not what the student's code started."""
    beats = tmp_path / "beats"

    def starts_another(_):
        if os.fork() == 0:
            while True:
                beats.write_text(str(time.time()))
        bare_except()

    judge("0.2", starts_another)
    time.sleep(0.2)
    before = beats.read_text()
    time.sleep(0.3)
    assert beats.read_text() == before


def test_closures_generators_and_lambdas_need_no_pickle(called):
    speaker = iter(["bot"])
    name = next(speaker)
    assert called(judge, "0.2", lambda dialogue: sum(turn.speaker == name for turn in dialogue.turns)).outcome == RIGHT


def test_torch_works_on_after_this_process_used_its_threads(called):
    """A fork has none of the threads of OpenMP; it must not wait for them."""
    big = torch.randn(400, 400)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    big @ big

    def temperature_softmax(logits, temperature):
        big @ big
        return torch.softmax(torch.tensor(logits) / temperature, -1)

    try:
        assert called(judge, "1.3", temperature_softmax).outcome == RIGHT
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_tokenizer_works_on_after_this_process_used_its_threads(tiny_lm, monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    tiny_lm.tokenizer(["a cheap hotel"] * 1000)

    def reads(dialogue):
        tiny_lm.tokenizer(["a cheap hotel"] * 1000)
        return len(dialogue.bot_turns)

    assert judge("0.2", reads).outcome == RIGHT and "TOKENIZERS_PARALLELISM" not in os.environ


def test_what_refuses_to_work_in_a_fork_is_judged_in_this_process():
    """As CUDA does, and torch's gradients after a first training."""
    here = os.getpid()

    def on_a_gpu(dialogue):
        if os.getpid() != here:
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess.")
        return len(dialogue.bot_turns)

    assert judge("0.2", on_a_gpu).outcome == RIGHT


LEAVES_A_THREAD = """
import sys, time
from labkit.notebook.exercises import attempt, isolation, judge

forks, isolation.FORKS = isolation.FORKS, False
attempt.SECONDS = isolation.GRACE = 0.5

def sleeps(dialogue):
    while True:
        try:
            time.sleep(60)
        except:
            pass

def leaves(dialogue):
    sys.exit()

def two_returns(dialogue):
    if dialogue.turns:
        return 7
    return 0

streams = sys.stdout, sys.stderr
print(judge("0.2", lambda dialogue: len(dialogue.bot_turns)).outcome)
print(judge("0.2", two_returns).message.count("came from line"))
print(judge("0.2", leaves).outcome)
print(judge("0.2", sleeps).outcome)
assert (sys.stdout, sys.stderr) == streams
attempt.SECONDS = 5
print(judge("0.2", two_returns).outcome)
isolation.FORKS = forks
print(judge("0.2", two_returns).outcome)
"""


def test_where_there_is_no_fork_a_thread_is_left_behind_and_hangs_no_later_check(tmp_path):
    """In CPython 3.11 a profiled call never ends while another thread has not heard the error that was raised in it."""
    script = tmp_path / "cell.py"
    script.write_text(LEAVES_A_THREAD)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=60)
    assert run.stdout.splitlines() == [RIGHT, "1", RAISED, RAISED, WRONG, WRONG], run.stderr


@pytest.mark.parametrize("fork", [True, False])
def test_an_interrupt_of_the_cell_stops_the_check(fork, tmp_path):
    """A real Ctrl-C while student's code runs: KeyboardInterrupt, and no process is left."""
    script = tmp_path / "cell.py"
    script.write_text(
        "import time, labkit\n"
        "from labkit.notebook.exercises import isolation\n"
        f"isolation.FORKS = isolation.FORKS and {fork}\n"
        "def hang(_):\n"
        "    while True:\n"
        "        try: time.sleep(0.01)\n"
        "        except: pass\n"
        "labkit.check('0.1', 'b')\n"  # so that all is imported
        "print('begun', flush=True)\n"
        "labkit.check('0.2', hang)\n"
        "print('went on', flush=True)\n"
    )
    environment = {**os.environ, "LAB_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as cell:
        while cell.stdout.readline() != "begun\n":
            assert cell.poll() is None
        time.sleep(1)
        cell.send_signal(signal.SIGINT)
        out, error = cell.communicate(timeout=20)
    assert "KeyboardInterrupt" in error and "went on" not in out


def test_ids_of_no_exercise_are_one_line(capsys):
    for id in ("9.9", None, [], Hostile(), 0.25):
        check(id, 1)
    assert capsys.readouterr().out.count("No such exercise") == 5


def test_a_terminal_without_check_marks_gets_the_verdict(tmp_path):
    code = "import labkit; labkit.check('0.1', 'b'); labkit.check('0.1', 'a')"
    environment = {**os.environ, "LAB_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.returncode == 0 and "Right" in run.stdout and "Wrong" in run.stdout, run.stderr


# --- what a check says ------------------------------------------------------------------------------------------------


def test_prints_and_warnings_of_the_function_do_not_spill_into_the_cell(capfd):
    def chatty(logits, temperature):
        print("in the function")
        np.log(np.zeros(1))
        return logits

    check("1.3", chatty)
    out, error = capfd.readouterr()
    assert out.count("in the function") == 1 and "That call printed: in the function" in out and not error


def test_a_call_that_raised_shows_its_arguments():
    assert "k = 100" in judge("1.4", lambda z, k: np.where(z >= np.sort(z)[-k], z, -np.inf)).message
    message = judge("2.2", lambda W, A, B, alpha, r: W + alpha / r * A @ B).message
    assert "A = an array [2, 3]" in message and "B = an array [4, 2]" in message and "needs the same b twice" in message
    assert "gold = [" in judge("5.3", lambda gold, predicted: 1 / 0).message


def test_changing_the_input_in_place_is_said():
    def in_place(logits, temperature):
        logits /= temperature
        return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()

    verdict = judge("1.3", in_place)
    assert verdict.outcome == RIGHT and "changes its input in place" in verdict.message
    assert (
        "in place"
        not in judge("1.3", lambda z, t: np.exp(z / t - max(z) / t) / np.exp(z / t - max(z) / t).sum()).message
    )
    assert "in place" in judge("0.2", lambda dialogue: dialogue.turns.pop() and 7 if dialogue.turns else 0).message


def test_the_line_of_the_only_return_is_not_worth_saying():
    def once(dialogue):
        count = len(dialogue.turns)
        return count

    assert "came from line" not in judge("0.2", once).message


def test_a_right_answer_says_how_far_one_is_in_this_notebook(capsys):
    check("0.2", lambda dialogue: len(dialogue.bot_turns))
    assert "1 of 3 in this notebook are right. Next: 0.3 · How long" in capsys.readouterr().out
    check("0.1", "b")
    check("0.3", (1.0, 60, 1.0))
    assert "3 of 3 in this notebook are right." in capsys.readouterr().out


# --- progress.json ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "3",
        '"text"',
        '{"0.2": null}',
        '{"0.2": []}',
        '{"0.2": {"tries": "many"}}',
        '{"0.2": {"hints": null}}',
        '{"0.2": {"tries": -1}}',
        '{"0.2": {"tries": NaN}}',
        '{"0.2": {"outcome": 3}}',
        '{"0.2": {"outcome": "\\ud83d"}}',
        '{"\\ud83d": {}}',
        '{"0.2": {"outc',
        "",
        "[" * 100_000,
        "\x00\xff",
    ],
    ids=range(17),
)
def test_a_damaged_progress_file_is_set_aside_with_one_line_and_checks_go_on(text, tmp_path, capsys):
    home = tmp_path / "home"
    home.mkdir()
    path = home / "progress.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    damaged = path.read_bytes()
    exercises.hint("0.2")
    check("0.1", "b")
    exercises.progress()
    out = capsys.readouterr().out
    assert "Hint 1 of 3" in out and "✓ Right" in out and out.count("was damaged") == 1
    (kept,) = home.glob("progress.damaged-*.json")
    assert kept.read_bytes() == damaged
    assert json.loads(path.read_text())["0.1"] == {"outcome": "right", "tries": 1}


def test_what_is_sound_in_a_damaged_progress_file_goes_on(tmp_path, capsys):
    home = tmp_path / "home"
    home.mkdir()
    sound = {"outcome": "right", "tries": 7, "hints": 2, "of a later version": [1]}
    (home / "progress.json").write_text(json.dumps({"0.2": None, "1.3": sound, "other": {"tries": 1}}))
    check("0.1", "b")
    left = json.loads((home / "progress.json").read_text())
    assert left["1.3"] == sound and left["other"] == {"tries": 1} and "0.2" not in left


def test_a_folder_in_the_place_of_the_progress_file_is_set_aside(tmp_path, capsys):
    (tmp_path / "home" / "progress.json").mkdir(parents=True)
    check("0.1", "b")
    assert "✓ Right" in capsys.readouterr().out and (tmp_path / "home" / "progress.json").is_file()


WRITER = "from labkit.notebook.exercises.record import note\nfor n in range(30): note('{}', outcome='wrong', n=n)"


def test_two_notebooks_that_write_at_once_lose_nothing(tmp_path):
    environment = {**os.environ, "LAB_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    writers = [subprocess.Popen([sys.executable, "-c", WRITER.format(id)], env=environment) for id in ("1.3", "1.4")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    content = json.loads((tmp_path / "progress.json").read_text())
    assert content == {id: {"outcome": "wrong", "n": 29, "tries": 30} for id in ("1.3", "1.4")}


def test_a_kill_while_writing_loses_nothing_that_was_there(tmp_path):
    before = {"0.1": {"outcome": "right", "tries": 1}}
    (tmp_path / "progress.json").write_text(json.dumps(before))
    code = (
        "import os, labkit.storage as storage, signal\n"
        "storage.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from labkit.notebook.exercises.record import note\nnote('1.3', outcome='right')"
    )
    environment = {**os.environ, "LAB_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], env=environment)
    assert run.returncode == -signal.SIGKILL
    assert json.loads((tmp_path / "progress.json").read_text()) == before
    subprocess.run([sys.executable, "-c", code.split("\n", 2)[2]], env=environment, check=True)
    assert json.loads((tmp_path / "progress.json").read_text()).keys() == {"0.1", "1.3"}


def test_a_progress_file_that_another_process_holds_does_not_stop_a_check(tmp_path, monkeypatch, capsys):
    from filelock import FileLock

    from labkit.notebook.exercises import record

    monkeypatch.setattr(record, "_PATIENCE", 0.2)
    (tmp_path / "home").mkdir()
    with FileLock(tmp_path / "home" / "progress.json.lock"):
        check("0.1", "b")
        exercises.hint("0.1")
    out = capsys.readouterr().out
    assert "✓ Right" in out and "Hint 1 of 2" in out and out.count("Progress not saved") == 2
