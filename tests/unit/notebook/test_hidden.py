"""No solution is given away, neither in what students open nor in what a checker says. Hints are asked for."""

import re
from pathlib import Path

import nbformat
import proofs
import pytest

from labkit.course.release import solution_lines
from labkit.notebook.exercises import every_exercise

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "solutions").glob("*.ipynb"))
STUDENT = sorted((ROOT / "notebooks").glob("*.ipynb"))


def bare(text):
    """Without spaces, quotes of either kind and Markdown's marks, so that another layout hides nothing."""
    return re.sub(r"[\s\"'`*]", "", text)


def secrets():
    """What solution blocks hold: whole lines, and what stands behind `return` or `=`, if it is more than a name."""
    lines = {line for path in SOURCES for line in solution_lines(path)}
    parts = {re.sub(r"^(return|[\w, \[\]]+ [-+*/]?=) ", "", line) for line in lines}
    return {
        bare(text) for text in lines | parts if len(bare(text)) > 14 and not text.startswith(("#", "from", "import"))
    }


SECRETS = secrets()


def found_in(text):
    text = bare(text)
    return [secret for secret in SECRETS if secret in text]


def test_the_search_knows_the_solutions_and_finds_one():
    assert len(SECRETS) > 50
    assert found_in("so you write `return W + alpha / r * (B @ A)` and are done")
    assert found_in('sum(turn.speaker == "bot"\n  for turn in dialogue.turns)')


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDENT, ids=lambda path: path.stem)
def test_no_solution_in_any_cell_or_attachment_of_a_student_notebook(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert found_in(cell.source) == [], cell.id
        assert not cell.get("outputs")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_explanations_of_solutions_stay_in_the_source(path):
    student = next(other for other in STUDENT if other.name == path.name).read_text(encoding="utf-8")
    for cell in nbformat.read(path, as_version=4).cells:
        if "solution" in cell.metadata.get("tags", ()):
            assert cell.id not in re.findall(r'"id": "([^"]+)"', student)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("id", every_exercise())
def test_no_solution_in_what_a_checker_says(id):
    """To wrong, right and blank answers; a line that the student wrote is theirs."""
    task = every_exercise()[id]
    answers = [*proofs.RIGHT_ANSWERS[id], *(wrong for wrong, _ in proofs.WRONG_ANSWERS[id]), None]
    said = [proofs.judge_here(id, answer).message.split("\nThat value came from")[0] for answer in answers]
    said += [task.title, task.question, *(task.choices or {}).values()]
    assert [(text, found_in(text)) for text in said if found_in(text)] == []


@pytest.mark.parametrize("path", STUDENT, ids=lambda path: path.stem)
def test_a_picture_says_in_words_what_it_shows_and_weighs_little(path):
    for cell in nbformat.read(path, as_version=4).cells:
        for name, data in cell.get("attachments", {}).items():
            (alt,) = re.findall(rf"!\[(.*?)\]\(attachment:{name}\)", cell.source)
            assert len(alt.split()) >= 15 and len(data["image/png"]) < 20_000 and "stand-in" in cell.source
