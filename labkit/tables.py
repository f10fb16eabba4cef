"""Tables in Markdown and for a spreadsheet, the one place that writes them."""

import csv
import io
from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: bool = False) -> str:
    """A table in Markdown, without a newline at its end.

    Args:
        rows: one text for each column; a `|` in it is escaped, and a line break becomes a space.
        numeric: put all columns but the first to the right.
    """
    rule = ["---"] * len(header)
    if numeric:
        rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [_line(header), _framed(rule)]
    for row in rows:
        lines.append(_line(row))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    escaped = []
    for cell in cells:
        on_one_line = cell.replace("\n", " ")
        escaped.append(on_one_line.replace("|", r"\|"))
    return _framed(escaped)


def _framed(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a text that begins so for a formula


def as_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV; a text that a spreadsheet would take for a formula gets a ' before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        cells = [_harmless(value) for value in row]
        writer.writerow(cells)
    return text.getvalue()


def _harmless(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
