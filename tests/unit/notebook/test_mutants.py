"""A checker that a wrong program gets past teaches the wrong thing: mutants of every solution are given to it."""

import warnings

import mutants
import numpy as np
import pytest

from labkit.notebook.exercises import every_exercise


def test_every_function_exercise_has_a_solution_and_random_inputs():
    functions = {id for id, task in every_exercise().items() if task.kind == "function" and not task.is_open}
    assert functions == {solution.id for solution in mutants.solutions()}
    assert functions <= set(mutants.INPUTS), "mutants.INPUTS needs a function draw -> arguments for these exercises"


@pytest.mark.long
@pytest.mark.slow
def test_95_percent_of_the_mutants_that_change_behaviour_are_rejected(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = mutants.survey()
    counted, through = sum(row.mutants for row in rows), sum(len(row.through) for row in rows)
    rejected = (
        f"{counted - through} of {counted} mutants that change behaviour are rejected: {1 - through / counted:.1%}"
    )
    with capsys.disabled():
        print(f"\n{rejected}")
    assert through <= 0.05 * counted, [(row.id, row.through) for row in rows if row.through]
    assert all(row.mutants >= 3 and len(row.through) <= 0.2 * row.mutants for row in rows)
    unfair = [(row.id, row.unfair) for row in rows if row.unfair]
    assert sum(len(some) for _, some in unfair) <= 0.02 * counted, f"a checker too strict, or INPUTS too poor: {unfair}"


def test_a_mutant_is_one_change_and_the_docstring_is_none():
    (solution,) = mutants.solutions(["2.2"])
    changed = [change for change, _ in mutants.mutants(solution.function)]
    assert "return W - alpha / r * (B @ A)" in changed and "return W + alpha * r * (B @ A)" in changed
    assert not any('"""' in change for change in changed)
    assert len(changed) == len(set(changed))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ([np.ones(2)], [[1, 1.0]], True),
        ([float("nan")], [float("nan")], True),
        ([KeyError], [KeyError], True),
        ([KeyError], [ValueError], False),
        ([np.ones(2)], [np.ones(3)], False),
        (["a"], ["a", "a"], False),
    ],
)
def test_what_counts_as_the_same_behaviour(one, other, equal):
    assert mutants.same(one, other) is equal
