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
    lines = [_line(header), "| " + " | ".join(rule) + " |"]
    lines += [_line(row) for row in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", r"\|").replace("\n", " ") for cell in cells]
    return "| " + " | ".join(escaped) + " |"


FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a text that begins so for a formula


def as_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV; a text that a spreadsheet would take for a formula gets a ' before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_harmless(value) for value in row])
    return text.getvalue()


def _harmless(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
