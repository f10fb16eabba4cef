"""Every checker is proved, in one shape for all notebooks: right answers written in two ways pass, plausible wrong ones
get their message, and a student's blank, raising or endless code ends in a message, never in a traceback.

The answers stand in `tests/support/proofs_N.py`; an exercise that no table proves fails here. The first right and the
first wrong answer are judged as a student's is, in a process of its own; that takes ten times as long as the check, so
the others are judged in this process, and `make test-long` compares both for all of them.
"""

from contextlib import suppress

import pytest
from proofs import RIGHT_ANSWERS, WRONG_ANSWERS, judge_here

from labkit.notebook.exercises import BLANK, RAISED, RIGHT, WRONG, every_exercise, judge
from labkit.notebook.exercises.catalogue import retired_exercises

EXERCISES = every_exercise() | retired_exercises()  # an earlier version's notebooks still check the latter
FUNCTIONS = [id for id, task in EXERCISES.items() if task.kind == "function"]

every = pytest.mark.parametrize("id", EXERCISES)
function = pytest.mark.parametrize("id", FUNCTIONS)


def first_of_a_notebook(test):
    """The others in `make test-long`: each call waits until its time is up."""
    notebooks = [id.partition(".")[0] for id in FUNCTIONS]
    cases = []
    for n, id in enumerate(FUNCTIONS):
        is_first = notebooks.index(notebooks[n]) == n
        cases.append(id if is_first else pytest.param(id, marks=pytest.mark.long))
    return pytest.mark.parametrize("id", cases)(test)


def each(answers):
    """One test for each answer of a table, with the function that judges it."""
    cases = []
    for id, some in answers.items():
        for n, answer in enumerate(some):
            how, marks = (judge_here, ()) if n else (judge, pytest.mark.slow)
            cases.append(pytest.param(how, id, answer, id=f"{id}-{n}", marks=marks))
    return pytest.mark.parametrize(("judge", "id", "answer"), cases)


@every
def test_every_exercise_has_two_right_answers_and_three_wrong_ones(id):
    assert len(RIGHT_ANSWERS.get(id, ())) >= 2 and len(WRONG_ANSWERS.get(id, ())) >= 3


def test_no_table_proves_an_exercise_that_is_gone():
    assert set(RIGHT_ANSWERS) | set(WRONG_ANSWERS) == set(EXERCISES)


@each(RIGHT_ANSWERS)
def test_right(judge, id, answer):
    verdict = judge(id, answer)
    assert verdict.outcome == RIGHT and verdict.message, verdict
    assert "in place" not in verdict.message  # a checker's own object may look changed: a copied method is another one


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@each(WRONG_ANSWERS)
def test_wrong_and_why(judge, id, answer):
    wrong, words = answer
    verdict = judge(id, wrong)
    assert verdict.outcome == WRONG and words in verdict.message, verdict


@every
@pytest.mark.parametrize("blank", [None, ..., ({}, ...)], ids=["None", "dots", "dots in a tuple"])
def test_blank_answer(id, blank):
    assert judge_here(id, blank).outcome == BLANK


@pytest.mark.slow
@every
def test_blank_answer_in_a_process_of_its_own(id):
    assert judge(id, ...).outcome == BLANK


def released(*_):
    """What a student finds."""
    ...  # your code here


def begun(*args):
    half = len(args)
    half + 1
    ...  # your code here


@function
def test_function_that_does_nothing_is_blank_not_wrong(id):
    for blank in (released, begun, lambda *_: None, lambda *_: ..., lambda *_: ... + 1):
        assert judge_here(id, blank).outcome == BLANK


@function
def test_forgotten_return_is_said(id):
    def forgetful(*args):
        result = list(args)
        result.append(1)

    assert judge_here(id, forgetful).outcome == WRONG and "return" in judge_here(id, forgetful).message


def raising(*_):
    return {}["missing key"]


@function
def test_raising_code_gets_its_own_line_and_no_traceback(id):
    verdict = judge_here(id, raising)
    assert verdict.outcome == RAISED and "KeyError" in verdict.message and '{}["missing key"]' in verdict.message


@pytest.mark.slow
@first_of_a_notebook
def test_endless_loop_is_stopped_even_where_it_catches_everything(id, monkeypatch):
    monkeypatch.setattr("labkit.notebook.exercises.attempt.SECONDS", 0.05)

    def endless(*_):
        while True:
            with suppress(Exception):
                sum(range(1000))

    verdict = judge(id, endless)
    assert verdict.outcome == RAISED and "was stopped" in verdict.message


@function
def test_a_wrong_value_gets_the_line_that_returned_it(id):
    def astray(*args):
        if args:
            nowhere = object()
            return nowhere
        return None

    verdict = judge_here(id, astray)
    assert verdict.outcome == RAISED or f"line {astray.__code__.co_firstlineno + 3} of your cell" in verdict.message
    assert verdict.outcome == RAISED or "`return nowhere`" in verdict.message


@function
def test_nonsense_results_are_no_crash_of_the_checker(id):
    for nonsense in ("a text", {"a": 1}, [[1], [2, 3]], float("nan"), object()):
        assert judge_here(id, lambda *_, value=nonsense: value).outcome in (WRONG, RAISED)
    assert judge_here(id, 3).outcome == WRONG  # the function was called instead of given


@pytest.mark.parametrize("id", [id for id, task in EXERCISES.items() if task.choices])
def test_every_choice_is_explained_and_all_but_one_are_wrong(id):
    verdicts = [judge(id, letter) for letter in EXERCISES[id].choices]
    assert sorted(verdict.outcome for verdict in verdicts) == sorted([RIGHT] + [WRONG] * (len(verdicts) - 1))
    assert len({verdict.message for verdict in verdicts}) == len(verdicts)
    assert all(len(verdict.message.split()) >= 8 for verdict in verdicts)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_answer_gets_the_same_verdict_in_a_process_of_its_own():
    right = [(id, answer) for id, answers in RIGHT_ANSWERS.items() for answer in answers]
    wrong = [(id, answer) for id, answers in WRONG_ANSWERS.items() for answer, _ in answers]
    differ = [(id, answer) for id, answer in right + wrong if judge(id, answer) != judge_here(id, answer)]
    assert not differ
