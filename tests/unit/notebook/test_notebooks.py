"""The notebooks as files: what students open is what the sources make, and holds nothing that it should not."""

import re
from pathlib import Path

import nbformat
import pytest

from labkit.course.release import leaked, release
from labkit.notebook.exercises import every_exercise

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "solutions").glob("*.ipynb"))
STUDENT = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHECK = re.compile(r'\bcheck\(\s*"([\w.]+)"')

each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
each = pytest.mark.parametrize("path", [*SOURCES, *STUDENT], ids=lambda path: f"{path.parent.name}-{path.stem}")


def read(path):
    return nbformat.read(path, as_version=4)


def code(path):
    return [cell.source for cell in read(path).cells if cell.cell_type == "code"]


def markdown(path):
    return [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]


def plain(text):
    """Without emphasis and line breaks, which a notebook may add."""
    return " ".join(re.sub(r"[*`]", "", text).split())


def test_every_notebook_has_its_source():
    assert [path.name for path in SOURCES] == [path.name for path in STUDENT]
    assert [path.name[0] for path in SOURCES] == list("0123456")


@pytest.mark.slow
def test_student_notebooks_are_what_release_makes():
    release(ROOT / "solutions", ROOT / "notebooks", check=True)


@each
def test_no_outputs_no_counts_no_widget_state_and_a_kernel(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None and cell.id


def test_the_first_code_cell_is_the_same_everywhere():
    assert len({code(path)[0] for path in [*SOURCES, *STUDENT]}) == 1
    assert "labkit.start()" in code(SOURCES[0])[0]


@each
def test_the_set_up_cell_is_folded_away_behind_a_line_that_says_what_it_does(path):
    cells = read(path).cells
    at = next(at for at, cell in enumerate(cells) if cell.id == "setup")
    assert cells[at].metadata == {"cellView": "form", "jupyter": {"source_hidden": True}}
    assert cells[at].source.startswith("# @title Set-up: ") and cells[at].source.count("\n") < 30
    assert cells[at - 1].source.startswith("## Set up\n\n") and "folded away" in cells[at - 1].source


@each_source
def test_no_line_of_a_solution_is_in_the_student_notebook(path):
    assert leaked(path, ROOT / "notebooks" / path.name) == []
    assert len(leaked(path, path)) > 2  # where the solution stands, it is found


@each_source
def test_every_exercise_has_a_check_a_solution_and_a_place_for_the_answer(path):
    number = path.name[0]
    expected = {id for id in every_exercise() if id.startswith(f"{number}.")}
    checked = CHECK.findall("\n".join(code(path)))
    assert len(expected) >= 2 and set(checked) == expected
    student = "\n".join(code(ROOT / "notebooks" / path.name))
    assert student.count("your code here") >= len(expected)


@each_source
def test_exercises_have_the_order_and_the_level_of_the_catalogue(path):
    """`Next: …` leads through a notebook from the top to the end; a grape a level stands in the heading."""
    number = path.name[0]
    tasks = {id: task for id, task in every_exercise().items() if task.notebook == number}
    assert CHECK.findall("\n".join(code(path))) == list(tasks)
    headings = re.findall(r"^### (?:Exercise|Your turn) ([\w.]+) · .*?(🍇.*)$", "\n".join(markdown(path)), re.MULTILINE)
    assert headings == [(id, task.grapes) for id, task in tasks.items()]


@each_source
def test_a_notebook_says_how_long_it_takes_in_minutes(path):
    assert re.search(r"\*\*Time\*\* \(an estimate\): \d+ minutes", markdown(path)[0])


@each_source
def test_questions_stand_in_the_notebook_as_the_checker_has_them(path):
    text = plain(" ".join(markdown(path)))
    for id, task in every_exercise().items():
        if id.startswith(f"{path.name[0]}.") and task.choices:
            assert plain(task.question) in text
            assert [choice for choice in task.choices.values() if plain(choice) not in text] == []


@each
def test_no_secret_and_no_path_of_one_machine(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"hf_[A-Za-z0-9]{20,}|/home/\w|/root/|/work/|/Users/\w", text)
    assert "trust_remote_code" not in "\n".join(code(path))


@pytest.mark.parametrize("number", ["3", "5", "6"])
def test_the_test_split_is_looked_at_in_one_cell_at_the_end(number):
    """What a student repeats is scored on dev: the best of many tries on test would look better than it is."""
    (path,) = [path for path in SOURCES if path.name.startswith(number)]
    looks = [cell.id for cell in read(path).cells if cell.cell_type == "code" and '"test"' in cell.source]
    assert looks == ["test-once"]


def test_every_sweep_of_notebook_3_is_scored_on_dev():
    (path,) = [path for path in SOURCES if path.name.startswith("3")]
    sweeps = [source for source in code(path) if "labkit.sweep(" in source]
    assert sweeps and all('"dev"' in source for source in sweeps)


@each_source
def test_a_second_axis_in_a_cell_has_ticks_of_its_own(path):
    """Without a tickmode plotly puts them where the left axis has its grid: 11.8, 50.3, 88.9."""
    for source in code(path):
        assert "yaxis2" not in source or "tickmode" in source


def test_every_open_question_has_one_place_for_its_answer_and_stands_there_in_the_same_words():
    from labkit.notebook.exercises.notes import guesses, open_questions

    all_code = "\n".join(source for path in SOURCES for source in code(path))
    assert sorted(re.findall(r'labkit\.note\("([^"]+)", ""\)', all_code)) == sorted(open_questions())
    assert sorted(re.findall(r'labkit\.guess\("([^"]+)", \.\.\.\)', all_code)) == sorted(guesses())
    assert sorted(re.findall(r'labkit\.guess\("([^"]+)", outcome=', all_code)) == sorted(guesses())
    for path in SOURCES:
        text = plain(" ".join(markdown(path)))
        for id, question in {**open_questions(), **guesses()}.items():
            assert not id.startswith(path.name[0]) or plain(question) in text, id


DRAWS = re.compile(
    r"\b(?:model_)?plots\.(?!live)\w+\(|_map\(|_graph\(|_plot\(|word_bars\(|cluster_cards\(|board\.figure\("
)
BY_HAND = {"sliders", "linked"}  # the map again, to be moved


@pytest.mark.parametrize("path", SOURCES[:6], ids=lambda path: path.stem)
def test_a_section_with_a_figure_says_what_one_should_see_in_it(path):
    """A student who sees another picture cannot know whether that is a result or a mistake: ranges, out of a run."""
    sections = [[]]
    for cell in read(path).cells:
        if cell.cell_type == "markdown" and re.search(r"^#+ ", cell.source, re.MULTILINE):
            sections.append([])
        sections[-1].append(cell)
    for section in sections:
        drawn = [cell.id for cell in section if cell.cell_type == "code" and DRAWS.search(cell.source)]
        told = [cell.source for cell in section if cell.id.endswith(("-seen", "-solution", "-why"))]
        assert set(drawn) <= BY_HAND or any(re.search(r"\d", text) for text in told), drawn


def test_one_dialogue_comes_back_in_the_same_view():
    told = {path.name[0]: sum("show_story(corpus, " in source for source in code(path)) for path in SOURCES}
    assert set("01235") <= {number for number, times in told.items() if times} and max(told.values()) == 1


def test_every_diagram_is_shown_once():
    from labkit.notebook.diagrams import names

    all_code = "\n".join(source for path in SOURCES for source in code(path))
    assert sorted(re.findall(r'labkit\.diagram\("(\w+)"\)', all_code)) == names()
