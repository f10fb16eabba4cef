"""The three tables that the 2023 lab asked for."""

from collections.abc import Mapping

from labkit.decoding.config import FILTERS
from labkit.errors import LabError
from labkit.results.best import intervals_of
from labkit.results.report import markdown_table
from labkit.results.row import Row, in_words, label, tuned_or_not
from labkit.storage import shipped

COLUMNS: dict[str, dict[str, str]] = shipped(__file__, "board.toml")["original"]  # {table: {field: title}}
TOLD = ("bleu", "inform", "success")


def original_table(table: str, rows: list[Row], before: Mapping[str, str] | None = None) -> str:
    """The rows that belong into one of the tables, as Markdown.

    Args:
        before: {field: title} of columns to put before the table's own.

    Raises:
        LabError: there is no such table.
    """
    if table not in COLUMNS:
        raise LabError(f"no table {table!r}", "", f"choose one of {', '.join(COLUMNS)}")
    titles = {**(before or {}), **COLUMNS[table]}
    shown = []
    for row in rows:
        if _table_of(row) == table:
            full = {**row, **_in_words(row)}
            shown.append({title: _field(full, field) for field, title in titles.items()})
    return markdown_table(list(titles.values()), shown)


def _table_of(row: Row) -> str:
    if row.get("task") == "speed":
        return "speed"
    return tuned_or_not(row)


def _field(row: Row, name: str) -> object:
    """A field of a row, `training.max_steps` inside another; "" where it has none."""
    found: object = row
    for part in name.split("."):
        if not isinstance(found, dict):
            return ""
        found = found.get(part)
    return "" if found is None else found


def _in_words(row: Row) -> dict[str, str]:
    """Cells of these tables that need more than one field."""
    task = row.get("task")
    dialogues = row.get("dialogues")
    corpus = row.get("corpus")
    split = row.get("split")
    where = f"{task}: {dialogues} dialogues of {corpus} {split}"
    return {
        "llm": f"{label(row)} ({where})",
        "params": _decoding(row),
        "metrics": ", ".join(_metrics(row)),
    }


def _metrics(row: Row) -> list[str]:
    told = []
    intervals = intervals_of(row)
    for name in TOLD:
        if row.get(name) is None:
            continue
        text = f"{name} {row[name]:.1f}"
        if name in intervals:
            low, high = intervals[name]
            text += f" [{low:.1f}, {high:.1f}]"
        told.append(text)
    richness = row.get("richness") or {}
    for name, value in richness.items():
        if value is not None:
            told.append(f"{name} {value:.4g}")
        break  # the first says enough
    return told


def _decoding(row: Row) -> str:
    """The decoding settings that have an effect."""
    chosen = row.get("decoding") or {}
    names = {"strategy", "max_new_tokens"}
    for name, off in FILTERS.items():
        if chosen.get(name, off) != off:
            names.add(name)
    strategy = chosen.get("strategy")
    if strategy == "beam":
        names.add("num_beams")
    if strategy == "contrastive":
        names.add("penalty_alpha")
    return str(in_words(chosen, names))
