"""Every command in the documentation is run, or parsed where it trains, downloads or takes minutes.

Run here: doctor, release --check, slurm, data-card (on MiniWOZ). Parsed here with labkit's own parser, and run in tiny
form by test_cli.py and test_finetuning.py: finetune, generate, evaluate, compare, merge. Parsed only: pretrain, bench,
preflight (test_pretrain.py and test_preflight.py call the functions). Targets of make run dry; conda's file is read.
"""

import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import pytest

from labkit import cli

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "labkit").rglob("*.md"))]
PAGES = [*PAGES, *sorted((ROOT / "tests").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
RUN = ("labkit doctor", "labkit release --check", "labkit slurm", "labkit data-card")


def commands():
    """Each command once: fenced ones as they stand, inline ones that begin with make or labkit."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for _, language, block in FENCE.findall(text):
            if language in ("sh", "bash", ""):
                lines = re.sub(r"\\\n\s*", "", block).split("\n")
                found |= {re.sub(r"\s+#.*", "", line).strip(): page.name for line in lines if language or _is(line)}
        inline = re.findall(r"`((?:make|labkit) [^`\n]+)`", FENCE.sub("", text))
        found |= {command: page.name for command in inline if "…" not in command}
    return {command: page for command, page in found.items() if command}


def _is(line):
    return line.strip().startswith(("labkit ", "make ", "pip ", "conda "))


COMMANDS = commands()


def words(command):
    """Words without variables set before, brackets of what is optional, and pipes."""
    split = shlex.split(command.split("|")[0].replace("[", "").replace("]", ""))
    return split[next(i for i, word in enumerate(split) if "=" not in word) :]


def each_command():
    """The data card of a whole corpus takes seconds."""
    for command in COMMANDS:
        yield pytest.param(command, marks=pytest.mark.slow if command.startswith("labkit data-card") else ())


@pytest.mark.parametrize("command", list(each_command()))
def test_every_command_can_be_run(command, tmp_path, monkeypatch, capsys):
    program, *rest = words(command)
    if program == "make":
        named = ["DEVICE_PYTHON=python3", "PYTHON=python3"]  # else make asks torch for a GPU, and looks for a Python
        told = ["make", "-n", *named, *rest]
        run = subprocess.run(told, cwd=ROOT, capture_output=True, text=True)
        return _passed(run.returncode == 0, run.stderr)
    if program == "git":
        return _passed(rest[0] == "clone", "only a clone is asked for")
    if program == "conda":
        return _passed((ROOT / rest[-1]).is_file(), f"no {rest[-1]}")
    if program == "python":
        return _passed((ROOT / rest[0]).is_file(), f"no {rest[0]}")
    assert program == "labkit", f"{COMMANDS[command]}: how is this tested? {command}"
    assert rest[0] in cli.TABLE["commands"]
    if len(rest) > 1:
        assert cli.parsed(rest).command == rest[0]
    if command.startswith(RUN) and (len(rest) > 1 or rest == ["doctor"]):
        monkeypatch.setenv("LAB_HOME", str(tmp_path))
        monkeypatch.chdir(ROOT if "release" in rest else tmp_path)
        assert cli.main([word for word in rest if word != "FOLDER"]) == 0
        assert capsys.readouterr().out


def _passed(condition, why):
    assert condition, why


def test_the_commands_are_found():
    """A test that collects nothing would pass for ever."""
    assert (
        len(COMMANDS) > 25 and {"make lab", "labkit doctor", "conda env create -f environment.yml"} <= COMMANDS.keys()
    )
    assert any(command.startswith("labkit finetune --model $G --bits 4") for command in COMMANDS)


def test_every_subcommand_is_on_the_page_of_commands():
    page = (ROOT / "labkit" / "course" / "commands.md").read_text(encoding="utf-8")
    assert [name for name in cli.TABLE["commands"] if f"labkit {name}" not in page] == []


def test_code_in_pages_is_python():
    blocks = [
        block
        for page in PAGES
        for _, language, block in FENCE.findall(page.read_text(encoding="utf-8"))
        if language == "python"
    ]
    assert blocks
    for block in blocks:
        compile(textwrap.dedent(block), "page", "exec")


def test_the_readme_gets_a_newcomer_running_on_one_screen():
    """The first command and the course stand within 45 lines, and the whole is a map, not a manual."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").split("\n")
    assert "make lab" in "\n".join(lines[:12]) and "4_clustering" in "\n".join(lines[:30])
    assert next(i for i, line in enumerate(lines) if line == "## Map") < 45


def test_the_citation_file_is_valid_and_says_the_version():
    import yaml

    import labkit

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == labkit.__version__ and cited["license"] == "MIT"
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()


def test_pages_name_no_machine_and_no_secret():
    for page in PAGES:
        assert not re.search(
            r"hf_[A-Za-z0-9]{20,}|/home/\w|/root/|/work/|/Users/\w", page.read_text(encoding="utf-8")
        ), page


def test_the_pages_ship_with_the_package():
    """The link of an error's card must lead somewhere after `pip install`, too."""
    import tomllib

    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    assert {"**/*.md", "**/*.toml", "**/*.json"} <= set(data["labkit"])
