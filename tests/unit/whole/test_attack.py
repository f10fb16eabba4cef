"""The script that tries issue 18's bad inputs: it sees what is not right, and a sample of the inputs is right."""

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.errors import Interrupted, LabError

if not hasattr(os, "fork"):
    pytest.skip("the cases are tried in forks", allow_module_level=True)

import attack
from attacks.case import LINE, LOST, RESULT, SECRET, STOPPED, TRACEBACK, WRONG, Case, Refused, tried, untouched, written

ROOT = Path(__file__).parents[3]
SAMPLE = 60


def raising(error):
    def act():
        raise error

    return act


def loses_a_file():
    thesis = written("thesis.tex", "years of work")
    with untouched(Path.cwd()):
        thesis.unlink()
        raise LabError("no", "x", "y")


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        (lambda: None, RESULT),
        (raising(LabError("no such model", "x", "choose another")), LINE),
        (raising(Interrupted("stopped", "", "go on")), STOPPED),
        (raising(Refused("labkit: no such model\n")), LINE),
        (raising(LabError("no such model", "x", "")), WRONG),
        (raising(LabError("two\nlines", "x", "choose another")), WRONG),
        (raising(LabError("escapes \x1b[31m", "x", "choose another")), WRONG),
        (raising(Refused("usage: labkit\nlabkit: no such model\n")), WRONG),
        (raising(Refused("")), WRONG),
        (raising(Refused("  3%|█  | 1/9labkit: no such model\n")), WRONG),
        (raising(Refused("Traceback (most recent call last):\n  x\n")), TRACEBACK),
        (raising(ValueError("x")), TRACEBACK),
        (raising(SystemExit(2)), TRACEBACK),
        (lambda: os._exit(0), TRACEBACK),
        (lambda: os.abort(), TRACEBACK),
        (lambda: time.sleep(60), WRONG),
        (raising(LabError("no address", f"http://user:{SECRET}@host", "mend it")), WRONG),
        (lambda: os.write(1, SECRET.encode()), WRONG),
        (loses_a_file, LOST),
    ],
)
def test_what_comes_of_a_case_is_told_apart(act, outcome):
    case = Case(1, "x", act, right=(LINE, RESULT, STOPPED), seconds=2)
    assert tried(case).outcome == outcome


def test_a_line_where_a_result_is_right_is_wrong_and_so_is_a_line_about_something_else():
    refusal = raising(LabError("no such model", "x", "choose another"))
    assert tried(Case(1, "x", refusal, right=(RESULT,))).outcome == WRONG
    assert tried(Case(1, "x", refusal, says="corpus")).outcome == WRONG
    assert tried(Case(1, "x", lambda: None)).outcome == WRONG


def test_the_table_counts_every_case_once():
    case = Case(3, "x", lambda: None, right=(RESULT,))
    lines = attack.table([(case, tried(case))]).split("\n")
    assert lines[0].split()[-8:] == ["point", "tried", "clear", "line", "result", "traceback", "wrong", "lost"]
    assert lines[3].split()[-6:] == ["1", "0", "1", "0", "0", "0"] == lines[-1].split()[-6:]


@pytest.mark.slow
@pytest.mark.skipif("LAB_ATTACK" not in os.environ, reason="takes minutes: `make attack` runs it, and the whole set")
def test_a_random_sample_of_bad_inputs_is_one_line_or_a_result_and_loses_nothing():
    """Another sample at each run; a failure prints its seed."""
    seed = random.SystemRandom().randrange(10_000)
    words = [sys.executable, ROOT / "tests/support/attack.py", "--sample", str(SAMPLE), "--seed", str(seed)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(words, env=env, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, f"--sample {SAMPLE} --seed {seed}:\n{run.stdout}{run.stderr[-2000:]}"
    in_all = re.search(r"^in all +(.*)$", run.stdout, re.MULTILINE)
    assert in_all and in_all[1].split()[0] == str(SAMPLE) and in_all[1].split()[3:] == ["0", "0", "0"]
