"""What holds for labkit as a whole: it is cheap to import, its imports go one way, and no code from outside is run."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "labkit").rglob("*.py"))
HEAVY = {"torch", "transformers", "plotly", "umap", "datasets", "pandas", "sklearn", "peft", "numba", "matplotlib"}


def python(*arguments, cwd=ROOT, env=None):
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, env=env)


def test_nothing_imports_a_test():
    """A script of tests/support took a function from a test; the test moved, and CI failed."""
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong += [f"{path.relative_to(ROOT)}:{node.lineno} {name}" for name in names if name.startswith("test_")]
    assert not wrong


def test_every_public_function_and_class_says_what_it_is_for():
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if not ast.get_docstring(node) and "exercises/notebook" not in path.as_posix()  # those are checkers
    ]
    assert not silent


@pytest.mark.parametrize(
    "module", ["labkit", "labkit.lab", "labkit.prompts", "labkit.corpora", "labkit.cli", "labkit.decoding"]
)
def test_import_is_cheap(module):
    """torch, transformers and plotly take seconds to import; a notebook's first cell must not wait for them."""
    run = python("-c", f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})")
    assert run.returncode == 0, run.stderr
    assert not HEAVY & set(run.stdout.split())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "PASSIVE"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
        ({"COLAB_RELEASE_TAG": "release-colab"}, "None"),
        ({"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}, "None"),
    ],
)
def test_two_notebooks_at_once_are_not_several_times_slower(given, expected):
    """torch's threads spun on the cores of the other notebook: tests/benchmarks/side_by_side.py. A user's word goes.

    On a machine of its own a notebook's threads spin, as torch has it.
    """
    ours = ("OMP_WAIT_POLICY", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    run = python("-c", "import labkit, os; print(os.environ.get('OMP_WAIT_POLICY'))", env={**env, **given})
    assert run.stdout.strip() == expected, run.stderr


@pytest.mark.slow
def test_every_public_name_can_be_imported():
    run = python("-c", "import labkit; print([getattr(labkit, name) for name in labkit.__all__])")
    assert run.returncode == 0, run.stderr


def test_labkit_runs_as_a_module_from_any_folder(tmp_path):
    run = python("-m", "labkit", "--help", cwd=ROOT)
    assert run.returncode == 0 and "doctor" in run.stdout


def test_imports_go_one_way():
    """The layers of the design (pyproject.toml), checked by import-linter."""
    linter = pytest.importorskip("importlinter.cli", reason="import-linter is a development dependency")
    assert linter.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_code_from_outside(path):
    """Neither code from the Hub nor pickles, which can hold code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("eval", "exec", "torch.load", "pickle.load", "pickle.loads")
            given = {(keyword.arg, ast.unparse(keyword.value)) for keyword in node.keywords}
            assert not given & {("trust_remote_code", "True"), ("allow_pickle", "True"), ("use_safetensors", "False")}
        if isinstance(node, ast.Import):
            assert not {"pickle", "dill", "joblib"} & {alias.name for alias in node.names}


def test_constraints_name_no_local_builds_and_no_hosts():
    """2.13.0+cpu can be had for some machines only; an address or a path would be one machine's own."""
    pins = [
        line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    assert pins and all(line.count("==") == 1 and not set("+@/ ") & set(line) for line in pins)
