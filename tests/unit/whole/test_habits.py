"""Workflows, hooks, editor and container settings: none can run here, so their form and what they call is checked."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from labkit.course import strip

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCHEMAS = {
    **dict.fromkeys(WORKFLOWS, "vendor.github-workflows"),
    ROOT / ".github" / "ISSUE_TEMPLATE" / "problem.yml": "vendor.github-issue-forms",
    ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml": "vendor.github-issue-config",
    ROOT / "CITATION.cff": "vendor.citation-file-format",
}
EVERY = [
    *(path for path in SCHEMAS if path.suffix == ".yml"),
    ROOT / ".pre-commit-config.yaml",
    ROOT / ".devcontainer" / "devcontainer.json",
    ROOT / ".editorconfig",
]
OURS = pytest.mark.skipif(not WORKFLOWS, reason="a copy without the repository's hidden folders")
pytestmark = OURS


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_a_workflow_is_refused_by_github(path):
    checker = pytest.importorskip("check_jsonschema.cli")
    flags = ["--builtin-schema", SCHEMAS[path], "--default-filetype", "yaml"]
    run = CliRunner().invoke(checker.main, [*flags, str(path)])
    assert run.exit_code == 0, run.output


def steps() -> Iterator[tuple[str, str]]:
    """(where, command) of everything that a workflow, a hook or a container runs."""
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items():
            for step in job["steps"]:
                if "run" in step:
                    yield f"{path.name} {name}", step["run"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    for repo in hooks["repos"]:
        assert repo["repo"] == "local"  # others would be cloned from a host
        for hook in repo["hooks"]:
            yield f"hook {hook['id']}", hook["entry"]
    yield "devcontainer", json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())["postCreateCommand"]


@pytest.mark.parametrize("where, command", list(steps()))
def test_a_step_is_no_make_target_and_cannot_be_repeated_at_home(where, command):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    made = re.fullmatch(r"make ([\w-]+)( \w+=\S+)*", command)
    assert made and made[1] in targets, command


def test_an_action_may_write_that_need_not():
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        writes = workflow["permissions"] == {"contents": "write"}
        assert writes == (path.stem == "badges") and (writes or workflow["permissions"] == {"contents": "read"})
        for job in workflow["jobs"].values():
            assert job["timeout-minutes"] <= 90


def test_a_python_that_pyproject_allows_is_not_tested():
    matrix = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]["units"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={matrix['python'][0]}"


def test_a_problem_is_reported_without_the_doctor():
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/problem.yml").read_text(encoding="utf-8"))
    (doctor,) = [field for field in form["body"] if field.get("id") == "doctor"]
    assert "labkit doctor --json doctor.json" in doctor["attributes"]["description"]
    assert doctor["validations"]["required"]


def test_a_setting_names_a_host():
    """Actions and images are named without one; the address of the commits' author is no host."""
    for path in EVERY:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://|\w\.(com|org|io|net|dev)\b", text), path


def test_the_editor_breaks_lines_where_ruff_does():
    editor = (ROOT / ".editorconfig").read_text(encoding="utf-8")
    line_length = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["line-length"]
    assert f"max_line_length = {line_length}" in editor and "end_of_line = lf" in editor


def test_notebooks_in_the_tree_are_not_stripped():
    paths = sorted([*ROOT.glob("solutions/*.ipynb"), *ROOT.glob("notebooks/*.ipynb")])
    assert paths
    for path in paths:
        notebook = strip.strip(strip.nbformat.read(path, as_version=4))
        assert strip.notebook_text(notebook) == path.read_text(encoding="utf-8"), path.name


def test_strip_leaves_an_output_or_writes_what_was_clean(tmp_path, capsys):
    source = sorted(ROOT.glob("solutions/*.ipynb"))[0].read_bytes()
    clean, run = tmp_path / "clean.ipynb", tmp_path / "run.ipynb"
    clean.write_bytes(source)
    notebook = strip.nbformat.reads(source.decode(), as_version=4)
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    code.update(execution_count=3, outputs=[strip.nbformat.v4.new_output("stream", text="2")])
    strip.nbformat.write(notebook, run)
    written = clean.stat().st_mtime_ns
    assert strip.main([str(clean), str(run)]) == 1 and capsys.readouterr().out == f"stripped {run}\n"
    assert run.read_bytes() == source and clean.stat().st_mtime_ns == written
    assert strip.main([str(clean), str(run)]) == 0
