"""The results board: one store for all notebooks and the command line, a row for every evaluated run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from labkit.errors import LabError
from labkit.machine.paths import lab_home
from labkit.results import lines
from labkit.results.best import Ranking, looks_at_test
from labkit.results.original import original_table
from labkit.results.page import page, sorting_key
from labkit.results.report import markdown_table
from labkit.results.row import SCORES, Row, in_words, is_number, model_name
from labkit.shown import Shown
from labkit.storage import gc_paused, writable_file, write_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

AnyRow = TypeVar("AnyRow", bound=Mapping[str, object])

SETTING = ("task", "model", "stand_in", "adapter", "bits", "corpus", "split", "dialogues", "decoding", "training")
MEASURED = (
    *SCORES,
    "interactive",
    "strict",
    "joint_accuracy",
    "span_f1",
    "intervals",
    "seconds",
    "speed",
    "device",
    "seed",
    "time",
)
COLUMNS = (*SETTING, *MEASURED)
OTHER_SCORES = dict.fromkeys(("joint_accuracy", "span_f1", "interactive", "strict"))  # of rows of other tasks, in views
SETTINGS = ("decoding", "training")
SCALARS = (str, int, float)
CSV = (".csv", ".txt")


class Board:
    """Rows in `results.jsonl` of the lab's output folder; each is one run, none is ever changed."""

    def __init__(self, home: Path | str | None = None):
        self.path = Path(home or lab_home()) / "results.jsonl"

    def check_writable(self) -> None:
        """Ask, before hours of work, whether a row can be added after them.

        Raises:
            LabError: the folder cannot be written.
        """
        writable_file(self.path)

    def add(self, row: AnyRow) -> AnyRow:
        """Append a row; it is on the disk when this returns. Several notebooks may write at once.

        Raises:
            LabError: the disk is full or the folder cannot be written; earlier rows are as they were. Or JSON cannot
                hold the row.
        """
        from filelock import FileLock

        line = lines.as_line(self._kept(row))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"), open(self.path, "ab", buffering=0) as file:
                lines.append(file, line)
        except OSError as error:
            raise LabError(f"cannot write {self.path}", str(error), "free space or set LAB_HOME") from error
        return row

    def rows(self, **having: object) -> list[Row]:
        """The rows that have these values, oldest first.

        What is no row (a line that a killed writer left unfinished) and values of a wrong type are left out, and said.
        """
        with gc_paused():
            return [lines.with_own_settings(row) for row in self._rows(**having)]

    def _rows(self, **having: object) -> list[Row]:
        """Rows that share settings: nothing may change these."""
        found = lines.read_rows(self.path)
        for name, value in having.items():
            found = [row for row in found if row.get(name) == value]
        places: dict[str, str] = {}
        for row in found:
            adapter = row.get("adapter")
            if adapter:
                if adapter not in places:
                    places[adapter] = self._adapter_folder(adapter)
                row["adapter"] = places[adapter]
        return found

    def looks_at_test(self) -> dict[str, tuple[int, int]]:
        """How often each corpus' test split was looked at: {corpus: (rows with a score on it, different runs)}."""
        return looks_at_test(self.rows())

    def table(self, sort: str = "time", *, descending: bool = True, **having: object) -> "pd.DataFrame":
        """The rows as a table, e.g. `table("success", corpus="miniwoz")`; `having` keeps rows with these values.

        Raises:
            LabError: there is no such column to sort by.
        """
        import pandas as pd

        with gc_paused():
            rows = self._flat_rows(**having)
            columns = self._columns(rows)
            _check_column(sort, columns)
            place = columns.index(sort)
            cells = _cells(rows, columns)
            keys = [sorting_key(line[place]) for line in cells]
            order = sorted(range(len(keys)), key=keys.__getitem__, reverse=descending)
            table = pd.DataFrame(cells, columns=columns)
            return table.iloc[order].reset_index(drop=True)

    def html(self, sort: str = "time") -> Shown:
        """The board to look at, one table a corpus and split; a click on a heading sorts it.

        Scores and what differs are in sight, all columns can be unfolded; intervals stand below the scores. A run that
        was repeated stands there once; above the tables stands how often the test split was looked at, and stand-ins.

        Raises:
            LabError: there is no such column to sort by.
        """
        with gc_paused():
            rows = self._flat_rows()
            columns = [name for name in self._columns(rows) if name != "intervals"]
            _check_column(sort, columns)
            return page(rows, columns, sort)

    def csv(self, path: Path | str | None = None) -> str | None:
        """All that the rows hold, one column a field (`decoding.top_p`), into a file (whole or not at all) or as text.

        Raises:
            LabError: the file cannot be written, or is there and no .csv.
        """
        import pandas as pd

        if path is not None:
            writable_file(path, kinds=CSV)
        rows = [_flattened(self._kept(row)) for row in self.rows()]
        columns = dict.fromkeys(name for row in rows for name in row)
        text = pd.DataFrame(rows, columns=list(columns)).to_csv(index=False, lineterminator="\n")
        if path is None:
            return text
        write_text(path, text)
        return None

    def original(self, table: str) -> str:
        """Rows for one of the three tables that the 2023 lab asked for, as Markdown; a stand-in is named in them.

        Args:
            table: "speed" (an iteration is a step in training, a reply in inference), "untuned" or "tuned".

        Raises:
            LabError: there is no such table.
        """
        return original_table(table, [{**row, "model": _name(row)} for row in self.rows()])

    def markdown(self, sort: str = "time") -> str:
        """The table as Markdown, for a report or a README."""
        table = self.table(sort).astype(object).fillna("")
        return markdown_table(list(table.columns), table.to_dict("records"))

    def figure(self, **having: object) -> "go.Figure":
        """BLEU, Inform and Success of every run as dots with their intervals, a line a run; stand-ins are named."""
        from labkit.results.dots import dot_plot

        return dot_plot(self._flat_rows(**having))

    def _flat_rows(self, **having: object) -> list[Row]:
        """The rows as views show them: names in place of paths, and scores of other tasks beside the four."""
        rows = self._rows(**having)
        places: dict[str, str] = {}
        names: dict[str | None, str | None] = {}
        for row in rows:
            adapter = row.get("adapter")
            if adapter:
                if adapter not in places:
                    places[adapter] = self._kept(row)["adapter"]
                row["adapter"] = places[adapter]
            model = row.get("model")
            if model not in names:
                names[model] = _name(row)
            row["model"] = names[model]
            row.update(OTHER_SCORES)
            if row.get("dst"):
                row["joint_accuracy"] = row["dst"].get("joint_accuracy")
            if row.get("spans"):
                row["span_f1"] = row["spans"].get("f1")
            if "conversation" in row:
                row["interactive"] = _conversation_share(row, "success")
                row["strict"] = _conversation_share(row, "strict_success")
        return rows

    def _columns(self, rows: Sequence[Row]) -> list[str]:
        if any(row.get("failed") for row in rows):
            return [*COLUMNS, "failed"]
        return list(COLUMNS)

    def _kept(self, row: AnyRow) -> AnyRow:
        """A row as it is written and shown: an adapter in the lab's folder is named from there, so that it can move."""
        adapter = row.get("adapter")
        if not isinstance(adapter, str | Path) or not adapter:
            return row
        path = Path(adapter)
        home = self.path.parent.absolute()
        if not path.is_absolute() or not path.is_relative_to(home):
            return row
        return {**row, "adapter": str(path.relative_to(home))}

    def _adapter_folder(self, adapter: str) -> str:
        """The adapter's folder, wherever the board is now; one outside of the lab's folder as it was given."""
        inside = self.path.parent / adapter
        try:
            is_there = inside.is_dir()
        except (OSError, ValueError):  # a name too long, or with a NUL
            is_there = False
        return str(inside) if is_there else adapter


def _conversation_share(row: Row, name: str) -> float | None:
    """A share in per cent of whole conversations (`labkit.converse`), if it is there."""
    share = row
    for step in ("conversation", "shares", name):
        share = share.get(step) if isinstance(share, dict) else None
    percent = share.get("percent") if isinstance(share, dict) else None
    return percent if is_number(percent) else None


def _name(row: Row) -> str | None:
    name = row.get("model")
    return model_name(name) if name else name


def _check_column(sort: str, columns: Sequence[str]) -> None:
    if sort not in columns:
        raise LabError(f"the board has no column {sort!r}", "", f"choose one of {', '.join(columns)}")


def _cells(rows: Sequence[Row], columns: Sequence[str]) -> list[list[object]]:
    """The table's cells, row by row; in the rows themselves words take the place of settings."""
    for name in SETTINGS:
        _tell_settings(rows, name)
    ranking = Ranking(rows)
    lines = []
    for row in rows:
        near = ranking.near(row)
        row["intervals"] = ", ".join([f"{name} {words}" for name, words in near.items()])
        for name in ("stand_in", "speed"):
            if name in row:
                row[name] = in_words(row[name])
        lines.append([row.get(name) for name in columns])
    return lines


def _tell_settings(rows: Iterable[Row], field: str) -> None:
    """Put words in the place of settings. Rows share them, so that each different one is looked at once."""
    different = {id(row[field]): row[field] for row in rows if row.get(field) is not None}
    names = _telling(different.values())
    words = {number: in_words(settings, names) for number, settings in different.items()}
    for row in rows:
        if row.get(field) is not None:
            row[field] = words[id(row[field])]


def _telling(some: Iterable[Row]) -> set[str]:
    """Names of the settings that differ, or that only some have: the others would only fill the table."""
    telling = {"strategy"}
    first: Row | None = None
    for settings in some:
        if first is None:
            first = settings
        if settings.keys() != first.keys():
            telling |= settings.keys() ^ first.keys()
        for name, value in settings.items():
            if name not in telling and value is not first[name] and not _look_alike(value, first[name]):
                telling.add(name)
    return telling


def _look_alike(value: object, other: object) -> bool:
    """Whether both are the same words in a table."""
    if type(value) is type(other) and type(value) in SCALARS and value == other and value:  # 0.0 == -0.0
        return True
    return _text(value) == _text(other)


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def _flattened(row: Row, before: str = "") -> Row:
    """A row with one level: {"decoding": {"top_p": 0.9}} is {"decoding.top_p": 0.9}."""
    flat: Row = {}
    for name, value in row.items():
        if isinstance(value, dict) and value:
            flat |= _flattened(value, f"{before}{name}.")
        else:
            flat[before + name] = value
    return flat
