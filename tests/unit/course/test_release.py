"""Sources → student notebooks: no solution leaks, the same bytes every time, nothing of a run stays."""

import nbformat
import pytest

from labkit.course import release as module
from labkit.course.release import release, strip, without_solution
from labkit.errors import LabError

CODE = "def f(x):\n    ### BEGIN SOLUTION\n    secret = x + 1\n    return secret\n    ### END SOLUTION\n\nf(1)"


@pytest.fixture
def folders(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# Title", id="title"),
        nbformat.v4.new_code_cell('REPOSITORY = ""  # where from\nimport labkit', id="setup"),
        nbformat.v4.new_code_cell(CODE, id="task", metadata={"tags": ["exercise"], "collapsed": True}),
        nbformat.v4.new_markdown_cell("the secret explained", id="why", metadata={"tags": ["solution"]}),
    ]
    cells[2].update(outputs=[nbformat.v4.new_output("stream", text="2")], execution_count=3)
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {"x": 1}, "colab": {"name": "x"}})
    (tmp_path / "solutions").mkdir()
    nbformat.write(notebook, tmp_path / "solutions" / "0_test.ipynb")
    return tmp_path / "solutions", tmp_path / "notebooks"


def test_student_notebook_has_no_solution_no_outputs_no_widget_state(folders):
    (path,) = release(*folders)
    text, notebook = path.read_text(), nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "secret" not in text and "SOLUTION" not in text and "widgets" not in text and "colab" not in text
    assert [cell.id for cell in notebook.cells] == ["title", "setup", "task"]  # ids are kept
    task = notebook.cells[2]
    assert task.source == "def f(x):\n    ...  # your code here\n\nf(1)"
    assert task.outputs == [] and task.execution_count is None and task.metadata == {"tags": ["exercise"]}
    assert notebook.metadata.kernelspec.name == "python3"  # without it JupyterLab asks before it opens


def test_release_is_deterministic_and_writes_only_what_changed(folders):
    (path,) = release(*folders)
    first = path.read_bytes()
    assert release(*folders) == [] and path.read_bytes() == first
    path.unlink()
    assert release(*folders) == [path] and path.read_bytes() == first


def test_check_names_stale_and_orphaned_notebooks_and_writes_nothing(folders):
    (path,) = release(*folders)
    assert release(*folders, check=True) == []
    path.write_text("{}")
    (folders[1] / "9_orphan.ipynb").write_text("{}")
    with pytest.raises(LabError, match=r"0_test\.ipynb, 9_orphan\.ipynb"):
        release(*folders, check=True)
    assert path.read_text() == "{}"


def test_no_sources_is_one_clear_line(tmp_path):
    with pytest.raises(LabError, match="root of the repository"):
        release(tmp_path, tmp_path)


def test_repository_is_written_into_sources_so_that_check_still_holds(folders):
    release(*folders, repository="someone/lab", ref="v1")
    assert 'REPOSITORY = "git+https://github.com/someone/lab@v1"  # where from' in strip_sources(folders[1])
    assert release(*folders, check=True) == []
    release(*folders, repository="https://example.org/lab.whl")
    assert 'REPOSITORY = "https://example.org/lab.whl"' in strip_sources(folders[1])


def strip_sources(folder):
    return "\n".join(cell.source for cell in nbformat.read(folder / "0_test.ipynb", as_version=4).cells)


@pytest.mark.parametrize(
    "code, student",
    [
        ("### BEGIN SOLUTION\na = 1\n### END SOLUTION", "a = ...  # your code here"),
        ("### BEGIN SOLUTION\na = [\n  1,\n]\n### END SOLUTION\nb", "a = ...  # your code here\nb"),
        ("### BEGIN SOLUTION\na = 1\nb = 2\n### END SOLUTION", "...  # your code here"),
        ("### BEGIN SOLUTION\n%timeit f()\n### END SOLUTION", "...  # your code here"),
        ("if x:\n\t### BEGIN SOLUTION\n\tg()\n\t### END SOLUTION", "if x:\n\t...  # your code here"),
        ("### BEGIN SOLUTION\n### END SOLUTION", "...  # your code here"),
        ("plain", "plain"),
        ("### BEGIN SOLUTION\na\n### END SOLUTION\nb\n### BEGIN SOLUTION\nc\n### END SOLUTION", None),
    ],
)
def test_blocks(code, student):
    student = student or "...  # your code here\nb\n...  # your code here"
    assert without_solution(code) == student


@pytest.mark.parametrize(
    "code",
    [
        "### BEGIN SOLUTION\nx",
        "x\n### END SOLUTION",
        "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
        "### END SOLUTION\n### BEGIN SOLUTION",
        "x = 1  ### BEGIN SOLUTION\ny\n### END SOLUTION",
        "x = 1  ### BEGIN SOLUTION",
    ],
)
def test_unbalanced_markers_name_notebook_and_cell(folders, code):
    source = folders[0] / "0_test.ipynb"
    notebook = nbformat.read(source, as_version=4)
    notebook.cells[2].source = code
    nbformat.write(notebook, source)
    with pytest.raises(LabError, match=r"0_test\.ipynb, cell 3 \(task\)"):
        release(*folders)
    assert not folders[1].exists()  # nothing half-released


def test_strip_keeps_tags_only():
    cell = nbformat.v4.new_code_cell("x", metadata={"execution": {"shell": "1"}, "tags": ["skip-execution"]})
    notebook = strip(nbformat.v4.new_notebook(cells=[cell]))
    assert notebook.cells[0].metadata == {"tags": ["skip-execution"]} and notebook.metadata == module.METADATA


def test_a_cell_that_is_folded_away_stays_so_and_nothing_else_of_a_front_end_does():
    folded = {"cellView": "form", "jupyter": {"source_hidden": True, "outputs_hidden": False}, "trusted": True}
    shown = {"cellView": "code", "jupyter": {"source_hidden": False}}
    cells = [nbformat.v4.new_code_cell("x", metadata=metadata) for metadata in (folded, shown, {})]
    notebook = strip(nbformat.v4.new_notebook(cells=cells))
    kept = [cell.metadata for cell in notebook.cells]
    assert kept == [{"cellView": "form", "jupyter": {"source_hidden": True}}, {}, {}]


def test_one_setting_gives_every_notebook_and_the_readme_badges_with_alt_text(folders):
    (folders[0].parent / "README.md").write_text("# Lab\n<!-- badges -->\nold\n<!-- /badges -->\nrest\n")
    release(*folders)  # no repository yet: nothing to open
    assert "![" not in strip_sources(folders[1])
    assert (folders[0].parent / "README.md").read_text() == "# Lab\n<!-- badges -->\n<!-- /badges -->\nrest\n"
    release(*folders, repository="some.one/lab-x", ref="v1/rc")
    cells = nbformat.read(folders[1] / "0_test.ipynb", as_version=4).cells
    assert [cell.id for cell in cells][:2] == ["title", "badges"]  # below the title, which stays the first heading
    place = "some.one/lab-x/blob/v1/rc/notebooks/0_test.ipynb)"
    assert f"(https://colab.research.google.com/github/{place}" in cells[1].source
    assert f"(https://kaggle.com/kernels/welcome?src=https://github.com/{place}" in cells[1].source
    assert (
        "(https://mybinder.org/v2/gh/some.one/lab-x/v1%2Frc?urlpath=lab/tree/notebooks/0_test.ipynb)" in cells[1].source
    )
    assert cells[1].source.count("[![Open 0_test in ") == 3
    readme = (folders[0].parent / "README.md").read_text()
    assert f"| 0_test | {cells[1].source} |" in readme and readme.endswith("<!-- /badges -->\nrest\n")
    assert "badges" not in (folders[0] / "0_test.ipynb").read_text()  # generated, not in the source
    assert release(*folders, check=True) == release(*folders) == []
    (folders[0].parent / "README.md").write_text(readme.replace("v1/rc", "v0"))
    with pytest.raises(LabError, match=r"README\.md"):
        release(*folders, check=True)


def test_an_address_that_is_not_on_github_has_no_badges(folders):
    release(*folders, repository="https://example.org/lab.whl")
    assert "![" not in strip_sources(folders[1])


def test_a_repository_in_a_text_cell_or_set_twice_breaks_the_notebook(folders):
    """It was replaced in the JSON text: in any cell, and up to the first quotation mark."""
    source = folders[0] / "0_test.ipynb"
    notebook = nbformat.read(source, as_version=4)
    notebook.cells[0].source = '# Title\nREPOSITORY = ""'
    nbformat.write(notebook, source)
    for repository in ('file://we"ird\\x', "file://é", 'file://"', "me/lab"):
        release(*folders, repository=repository)
        cells = nbformat.read(source, as_version=4).cells
        assert cells[0].source == '# Title\nREPOSITORY = ""'
        given = {}
        exec(cells[1].source.split("\n")[0], given)
        assert given["REPOSITORY"] == ("git+https://github.com/me/lab@main" if repository == "me/lab" else repository)


def test_metadata_of_text_cells_stay(folders):
    """nbconvert's preprocessor clears those of code cells only; and an empty list of tags is left by front ends."""
    source = folders[0] / "0_test.ipynb"
    notebook = nbformat.read(source, as_version=4)
    notebook.cells[0].metadata = {"editable": False, "tags": []}
    nbformat.write(notebook, source)
    (path,) = release(*folders)
    assert nbformat.read(path, as_version=4).cells[0].metadata == {}
