"""The results board: one store for all notebooks and the command line, a row for every evaluated run."""

import errno
import json
import os
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.machine.paths import lab_home
from labkit.results.original import _belongs, _in_words
from labkit.results.report import _html, markdown_table
from labkit.results.row import _ORIGINAL, _TEXTS, SCORES, _plain, _short, label
from labkit.shown import Shown

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = ("task", "model", "stand_in", "adapter", "bits", "corpus", "split", "dialogues", "decoding", "training")


COLUMNS += (*SCORES, "intervals", "seconds", "speed", "device", "seed", "time")


_HEAD = '<th scope="col"><button style="font:inherit;border:0;background:none;color:inherit" onclick="{}">'


class Board:
    """Rows in `results.jsonl` of the lab's output folder; each is one run, none is ever changed."""

    def __init__(self, home: Path | str | None = None):
        self.path = Path(home or lab_home()) / "results.jsonl"

    def add(self, row: dict[str, Any]) -> dict[str, Any]:
        """Append a row; it is on the disk when this returns. Several notebooks may write at once.

        Raises:
            LabError: the disk is full or the folder cannot be written; earlier rows are as they were.
        """
        from filelock import FileLock

        line = (json.dumps(self._kept(row), ensure_ascii=False, default=_plain) + "\n").encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"), open(self.path, "ab", buffering=0) as file:
                _append(file, line)
        except OSError as error:
            raise LabError(f"cannot write {self.path}", str(error), "free space or set LAB_HOME") from error
        return row

    def rows(self, **having: Any) -> list[dict[str, Any]]:
        """The rows that have these values, oldest first; a line that a killed writer left unfinished is said."""
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n") if self.path.is_file() else []
        rows = [_parsed(line) for line in lines if line]
        if torn := rows.count(None):
            print(f"results board: {torn} unfinished line(s) of an interrupted run skipped in {self.path}")
        rows = [row | {"adapter": _adapter(self.path, row)} for row in rows if row is not None]
        return [row for row in rows if all(row.get(name) == having[name] for name in having)]

    def _kept(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row as it is written and shown: an adapter in the lab's folder is named from there, so that it can move."""
        path, home = Path(row.get("adapter") or ""), self.path.parent.absolute()
        inside = path.is_absolute() and path.is_relative_to(home)
        return row | {"adapter": str(path.relative_to(home))} if inside else row

    def table(self, sort: str = "time", *, descending: bool = True, **having: Any) -> "pd.DataFrame":
        """The rows as a table, e.g. `table("success", corpus="miniwoz")`; `having` keeps rows with these values."""
        import pandas as pd

        rows = [self._kept(row) for row in self.rows(**having)]
        telling = {name: _telling([row.get(name) for row in rows]) for name in ("decoding", "training")}
        rows = [row | {"intervals": ", ".join(map(" ".join, _intervals(row, rows).items()))} for row in rows]
        columns = [*COLUMNS, *["failed"] * any(row.get("failed") for row in rows)]
        short = [{name: _short(row.get(name), telling.get(name)) for name in columns} for row in rows]
        return pd.DataFrame(short, columns=columns).sort_values(sort, ascending=not descending, ignore_index=True)

    def html(self, sort: str = "time") -> Shown:
        """The table to look at: a click on a heading sorts it, intervals stand below the scores; stand-ins named."""
        table = self.table(sort).astype(object).fillna("")
        near = [dict(part.split(" ", 1) for part in cell.split(", ") if part) for cell in table.pop("intervals")]
        head = "".join(f"{_HEAD.format(_TEXTS['sort'])}{escape(name)}</button></th>" for name in table)
        rows = zip(table.to_dict("records"), near, strict=True)
        body = "".join(f"<tr>{''.join(_html(row[name], under.get(name)) for name in row)}</tr>" for row, under in rows)
        shown = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return Shown(f'<div style="overflow-x:auto">{shown}</div>', self.markdown(sort))

    def csv(self, path: Path | str | None = None) -> str | None:
        """All that the rows hold, one column a field (`decoding.top_p`), into a file or as text."""
        import pandas as pd

        return pd.json_normalize([self._kept(row) for row in self.rows()]).to_csv(path, index=False)

    def original(self, table: str) -> str:
        """Rows for one of the three tables that the 2023 lab asked for, as Markdown; a stand-in is named in them.

        Args:
            table: "speed" (an iteration is a step in training, a reply in inference), "untuned" or "tuned".

        Raises:
            LabError: there is no such table.
        """
        import pandas as pd

        if table not in _ORIGINAL:
            raise LabError(f"no table {table!r}", "", f"choose one of {', '.join(_ORIGINAL)}")
        rows = [row | _in_words(row) for row in self.rows() if _belongs(row) == table]
        shown = pd.json_normalize(rows).reindex(columns=list(_ORIGINAL[table])).rename(columns=_ORIGINAL[table])
        return markdown_table(list(shown), shown.astype(object).fillna("").to_dict("records"))

    def markdown(self, sort: str = "time") -> str:
        """The table as Markdown, for a report or a README."""
        table = self.table(sort).astype(object).fillna("")
        return markdown_table(list(table.columns), table.to_dict("records"))

    def figure(self, **having: Any) -> "go.Figure":
        """BLEU, Inform and Success of every row as bars with their intervals; stand-ins are named as such."""
        from labkit.notebook import plots

        return plots.scores({label(row, index): row for index, row in enumerate(self.rows(**having), 1)})


def _append(file: Any, line: bytes) -> None:
    """Write and sync one line on a line of its own; on an error the file gets its old length back."""
    before = file.seek(0, os.SEEK_END)
    try:
        with open(file.name, "rb") as reader:
            torn = before and (reader.seek(before - 1), reader.read(1))[1] != b"\n"
        line = b"\n" * bool(torn) + line
        if file.write(line) < len(line):  # not buffered: what did not fit must not be written by close()
            raise OSError(errno.ENOSPC, "No space left on device")
        os.fsync(file.fileno())
    except OSError:
        os.truncate(file.name, before)
        raise


def _adapter(board: Path, row: dict[str, Any]) -> str | None:
    """The adapter's folder, wherever the board is now; one outside of the lab's folder as it was given."""
    inside = board.parent / (row.get("adapter") or "")
    return str(inside) if row.get("adapter") and inside.is_dir() else row.get("adapter")


def _parsed(line: str) -> dict[str, Any] | None:
    with suppress(json.JSONDecodeError):
        return json.loads(line)


def _telling(settings: list[Any]) -> set[str]:
    """Names of the settings that differ between rows; the others would only fill the table."""
    some = [setting for setting in settings if isinstance(setting, dict)]
    names = {name for setting in some for name in setting}
    return {name for name in names if len({str(setting.get(name)) for setting in some}) > 1} | {"strategy"}


def _intervals(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, str]:
    """95 % intervals {score: "10.3–12.1"}; "≈ best" where one reaches that of the best row on the same dialogues."""
    same = [other for other in rows if all(other.get(name) == row.get(name) for name in ("corpus", "split"))]
    parts = {}
    for name, (low, high) in (row.get("intervals") or {}).items():
        rivals = [other for other in same if name in (other.get("intervals") or {})]
        best = max(rivals, key=lambda other: other[name])
        near = " ≈ best" if high >= best["intervals"][name][0] else ""
        parts[name] = f"{low:.1f}–{high:.1f}" + (" best" if best is row else near) * (
            len({other[name] for other in rivals}) > 1
        )
    return parts
