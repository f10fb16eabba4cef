"""Every question and task of the 2023 lab has its place, and the place exists."""

import pytest
import questions

from labkit.notebook.exercises import every_exercise

AS = {"exercise", "measured question", "open task"}


@pytest.mark.parametrize("question", questions.QUESTIONS, ids=lambda question: question["ask"])
def test_the_place_of_a_question_exists(question):
    if not questions.notebook(question["notebook"]):
        pytest.skip(f"no notebook {question['notebook']} in this clone")
    known = set(questions.cells(question["notebook"])) | set(every_exercise())
    assert question["at"] and set(question["at"]) <= known and question["as"] in AS


def test_what_the_2023_lab_asked_for_is_all_there():
    """By the words of its README; one of these missing is a question dropped."""
    asked = " ".join(question["ask"].lower() for question in questions.QUESTIONS)
    wanted = "largest batch, longest reply, fixed seed, without tuning, which modules, number of steps, learning rate"
    wanted += (
        ", given length, grow with size, three sizes, largest model, instruction, callback, from scratch, tag spans"
    )
    wanted += ", dialogue state, hub, training iterations per second, more than 16 gb"
    assert [words for words in wanted.split(", ") if words not in asked] == []


def test_an_exercise_is_an_exercise_and_an_open_task_says_where_its_row_goes():
    for question in questions.QUESTIONS:
        has_exercise = any(place[0].isdigit() for place in question["at"])
        assert has_exercise or question["as"] != "exercise", question["ask"]


def test_the_readme_has_this_table():
    readme = (questions.ROOT / "README.md").read_text(encoding="utf-8")
    if "| 2023 | question or task |" not in readme:
        pytest.skip("the README has no table of the questions yet")
    assert questions.table() in readme
