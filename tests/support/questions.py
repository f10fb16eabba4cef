"""The questions of the 2023 lab and their places (labkit/course/questions.toml) as a table for the README, printed by
`python tests/support/questions.py`.
"""

import re
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
MAP = tomllib.loads((ROOT / "labkit/course/questions.toml").read_text(encoding="utf-8"))
QUESTIONS, LEFT_OUT = MAP["question"], MAP["left_out"]


def notebook(number):
    """The path of a source notebook, or None where this clone hasn't got it."""
    return next(iter((ROOT / "solutions").glob(f"{number}_*.ipynb")), None)


def cells(number):
    """{cell id: the heading that it stands under}."""
    headings, under = {}, ""
    for cell in nbformat.read(notebook(number), as_version=4).cells:
        found = re.findall(r"^#+ (.*)", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []
        headings[cell.id] = found[0] if cell.source.startswith("#") and found else under
        under = found[-1] if found else under
    return headings


def table():
    """Markdown: task, question, notebook, section or exercise, and what it is."""
    lines = ["| 2023 | question or task | notebook | where | as |", "|---|---|---|---|---|"]
    for question in QUESTIONS:
        number = question["notebook"]
        headings = cells(number) if notebook(number) else {}
        where = [f"exercise {at}" if at[0].isdigit() else f"“{headings.get(at, at)}”" for at in question["at"]]
        where = list(dict.fromkeys(where))
        file = notebook(number).name if notebook(number) else f"{number}"
        cell = f"[{number}](notebooks/{file})"
        lines.append(f"| {question['task']} | {question['ask']} | {cell} | {', '.join(where)} | {question['as']} |")
    left = [f"{left['ask']}: {left['why']}." for left in LEFT_OUT]
    return "\n".join([*lines, "", "Not here: " + " ".join(left)])


if __name__ == "__main__":
    print(table())
