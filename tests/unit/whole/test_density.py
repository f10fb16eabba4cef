"""Plain code: how much stands on a line, held by ceilings. There is no bound on the number of lines."""

import ast
import statistics
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "labkit").rglob("*.py"))
MOST_IN_ALL = 5.5  # syntax nodes (expressions and statements) for a line of code; the field has 3.4 to 5.5
MOST_IN_A_MODULE = 7.0
FEWEST_LINES = 20  # of a module that is measured alone: shorter ones are mostly imports or one formula
LONGEST_FILE = 300  # lines of code
MOST_ANY = 60
MOST_POSITIONAL = 5
DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def tree(source: str) -> ast.Module:
    """The syntax tree of a source, which several tests walk over."""
    return ast.parse(source)


def code_lines(source: str) -> int:
    """Lines without blank ones, comments and docstrings: explaining costs nothing."""
    documented = set()
    for node in ast.walk(tree(source)):
        if isinstance(node, DEFINITIONS) and ast.get_docstring(node, clean=False) is not None:
            documented.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    count = 0
    for number, line in enumerate(source.splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#") and number not in documented:
            count += 1
    return count


def nodes(source: str) -> int:
    return sum(isinstance(node, ast.expr | ast.stmt) for node in ast.walk(tree(source)))


@pytest.fixture(scope="module")
def figures():
    """{file: (nodes, lines of code)}."""
    counted = {}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        counted[path.relative_to(ROOT).as_posix()] = (nodes(text), code_lines(text))
    return counted


def test_a_line_holds_one_thing(figures):
    all_nodes = sum(n for n, _ in figures.values())
    all_lines = sum(lines for _, lines in figures.values())
    print(f"labkit: {all_nodes / all_lines:.2f} nodes a line in {all_lines} lines of code")
    dense = {name: n / lines for name, (n, lines) in figures.items() if lines >= FEWEST_LINES}
    for name in sorted(dense, key=dense.get, reverse=True)[:10]:
        print(f"  {dense[name]:.2f}  {name}")
    assert all_nodes / all_lines <= MOST_IN_ALL
    assert not {name: round(value, 2) for name, value in dense.items() if value > MOST_IN_A_MODULE}


def test_a_file_has_one_subject_and_can_be_read_in_one_go(figures):
    assert not {name: lines for name, (_, lines) in figures.items() if lines > LONGEST_FILE}


def test_the_median_function_is_short():
    lengths = []
    for path in SOURCES:
        for node in ast.walk(tree(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                lengths.append(node.end_lineno - node.lineno + 1)
    print(f"median function: {statistics.median(lengths)} lines of {len(lengths)} functions")
    assert statistics.median(lengths) <= 12


def test_what_is_passed_by_place_can_be_remembered():
    """At most five positional parameters; the others have names."""
    long = []
    for path in SOURCES:
        for node in ast.walk(tree(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
                if len(names) > MOST_POSITIONAL:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not long


def test_any_is_rare_and_has_a_reason():
    """`Any` switches the types off: each one stands beside a comment that says why."""
    uses = []
    silent = []
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        for node in ast.walk(tree(source)):
            if isinstance(node, ast.Name) and node.id == "Any":
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                uses.append(place)
                near = lines[max(0, node.lineno - 2) : node.lineno + 1]
                if not any("#" in line for line in near):
                    silent.append(place)
    print(f"Any stands {len(uses)} times")
    assert not silent
    assert len(uses) < MOST_ANY


@pytest.mark.parametrize("source", ["x = [f(a) for a in b]", '"""Only a docstring."""', "# only a comment\nx = 1\n\n"])
def test_the_counter_counts_code_only(source):
    assert code_lines(source) <= 1
