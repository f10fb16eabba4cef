"""Tables in Markdown, the one place that writes them."""

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
