"""The boards of a class in one: whose machine, which settings, which scores."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.results.best import has_score, repeats
from labkit.results.lines import checked_rows, read_rows
from labkit.results.original import COLUMNS, original_table
from labkit.results.row import Row, in_words, model_name, tuned_or_not
from labkit.shown import readable

if TYPE_CHECKING:
    import plotly.graph_objects as go

BOARD = "results.jsonl"
STUDENT = {"student": "student"}
SPEEDS = {"steps_per_second": "steps learnt per second", "replies_per_second": "replies per second"}
LINE = 26  # pixels a student
AROUND = 150  # pixels for title, axes and legend


@dataclass(frozen=True)
class Pool:
    """Rows of all boards, each with its `student`; and what was left out, a line a file."""

    rows: list[Row]
    left_out: list[str]

    @property
    def students(self) -> list[str]:
        """In the order of the files."""
        return list(dict.fromkeys(row["student"] for row in self.rows))


def pool(paths: Sequence[Path]) -> Pool:
    """Read boards: `results.jsonl` files, what `board.csv` writes, or folders that hold such files.

    A student is called as the file, or as its folder where the file is called as every board is. What is no board is
    left out, with one line that says why.

    Raises:
        LabError: there is no board at all.
    """
    rows: list[Row] = []
    left_out = []
    taken: Counter[str] = Counter()
    for path in _files(paths):
        try:
            found = _rows(path)
        except LabError as error:
            left_out.append(readable(str(error)))
            continue
        name = _student(path)
        taken[name] += 1
        student = name if taken[name] == 1 else f"{name} ({taken[name]})"
        for row in found:
            rows.append({**row, "student": student})
    if not rows:
        found_instead = "; ".join(left_out[:3]) or f"no file {BOARD}"
        raise LabError("no board to pool", found_instead, f"name the students' {BOARD}, or a folder with them")
    return Pool(rows, left_out)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            boards = {*path.rglob(BOARD), *path.glob("*.jsonl"), *path.glob("*.csv")}
            yield from sorted(boards)
        else:
            yield path


def _student(path: Path) -> str:
    is_named_alike = path.stem == "results"
    name = path.absolute().parent.name if is_named_alike else path.stem
    return readable(name)


def _rows(path: Path) -> list[Row]:
    """The rows of one file.

    Raises:
        LabError: it cannot be read, or holds no row.
    """
    if not path.is_file():
        raise LabError(f"left out {path}", "there is no such file", "check the name")
    rows = _rows_of_csv(path) if path.suffix == ".csv" else read_rows(path)
    known = [row for row in rows if row.get("task")]
    if not known:
        raise LabError(f"left out {path}", "it holds no row of a results board", "ask for the file again")
    for row in known:
        if row.get("model"):
            row["model"] = model_name(row["model"])
    return known


def _rows_of_csv(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [json.dumps(_nested(cells)).encode() for cells in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error) as error:
        raise LabError(f"left out {path}", str(error), "ask for the file again") from error
    return checked_rows(lines, path)


def _nested(cells: dict[str | None, str]) -> dict[str, object]:
    """{"decoding.top_p": "0.9"} is {"decoding": {"top_p": 0.9}}: what `Board.csv` wrote. Empty cells are left out."""
    row: dict[str, object] = {}
    for name, text in cells.items():
        if not name or not isinstance(text, str) or text in ("", "nan"):
            continue
        *outer, last = name.split(".")
        place: object = row
        for part in outer:
            place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = _value(text)
    return row


def _value(text: str) -> object:
    as_json = {"True": "true", "False": "false"}.get(text, text)
    try:
        return json.loads(as_json)
    except (ValueError, RecursionError):
        return text


# --- tables -----------------------------------------------------------------------------------------------------------


def tables(pooled: Pool) -> dict[str, str]:
    """The three tables of the 2023 lab, filled by the class: {name: Markdown}; a run that was repeated stands once."""
    once = [row for row, _ in repeats(pooled.rows)]
    return {name: original_table(name, once, before=STUDENT) for name in COLUMNS}


def as_csv_rows(pooled: Pool) -> list[dict[str, object]]:
    """A flat row for each run: who, where, with which settings, and the scores."""
    fields = ("student", "task", "model", "adapter", "stand_in", "corpus", "split", "dialogues", "device")
    scores = ("bleu", "inform", "success", "combined", "perplexity", "seconds")
    flat = []
    for row in pooled.rows:
        cells: dict[str, object] = {name: row.get(name) for name in (*fields, *scores)}
        for name in ("decoding", "training", "speed"):
            cells[name] = in_words(row.get(name))
        flat.append(cells)
    return flat


# --- figures ----------------------------------------------------------------------------------------------------------


def figures(pooled: Pool) -> "list[go.Figure]":
    """The machines' speeds, and for each corpus and split the scores: a line a student, a dot a run."""
    shown = []
    if any(row.get("speed") for row in pooled.rows):
        shown.append(_speeds(pooled))
    scored = [row for row, _ in repeats(pooled.rows) if has_score(row)]
    places = dict.fromkeys((str(row.get("corpus")), str(row.get("split"))) for row in scored)
    for corpus, split in places:
        here = [row for row in scored if (str(row.get("corpus")), str(row.get("split"))) == (corpus, split)]
        shown.append(_scores(here, f"Scores of the class: {corpus}, {split} split"))
    return shown


def _scores(rows: Sequence[Row], title: str) -> "go.Figure":
    from labkit.figures import METRICS

    figure = _panels(list(METRICS.values()), title, len({row["student"] for row in rows}))
    for column, metric in enumerate(METRICS, start=1):
        for at, kind in enumerate(("untuned", "tuned")):
            some = [row for row in rows if row.get(metric) is not None and tuned_or_not(row) == kind]
            figure.add_scatter(**_dots(some, [row[metric] for row in some], kind, at), row=1, col=column)
            figure.data[-1].showlegend = column == 1 and bool(some)
        if metric != "bleu":
            figure.update_xaxes(range=[-3, 105], row=1, col=column)
    return figure


def _speeds(pooled: Pool) -> "go.Figure":
    measured = [row for row in pooled.rows if row.get("speed")]
    figure = _panels(list(SPEEDS.values()), "Machines of the class", len({row["student"] for row in measured}))
    for column, name in enumerate(SPEEDS, start=1):
        some = [row for row in measured if row["speed"].get(name)]
        figure.add_scatter(**_dots(some, [row["speed"][name] for row in some], "a run", 0), row=1, col=column)
        figure.update_xaxes(type="log", row=1, col=column)
    return figure.update_layout(showlegend=False)


def _dots(rows: Sequence[Row], values: Sequence[float], name: str, look: int) -> dict[str, object]:
    from labkit.figures import MARKERS, PALETTE, plain

    return {
        "x": list(values),
        "y": [plain(row["student"]) for row in rows],
        "text": [plain(_told(row)) for row in rows],
        "mode": "markers",
        "marker": {"symbol": MARKERS[2 * look], "size": 10, "color": PALETTE[look], "opacity": 0.7},
        "name": name,
        "hovertemplate": "%{y}: %{x}<br>%{text}<extra></extra>",
    }


def _told(row: Row) -> str:
    """What a dot is of."""
    words = [str(row.get("task")), str(row.get("model") or ""), str(row.get("device") or "")]
    if row.get("stand_in"):
        words.append("stand-in")
    settings = in_words(row.get("decoding"), ("strategy", "temperature", "top_p", "top_k"))
    if settings:
        words.append(str(settings))
    return readable(", ".join(word for word in words if word))[:200]


def _panels(titles: Sequence[str], title: str, n_students: int) -> "go.Figure":
    from plotly.subplots import make_subplots

    from labkit.figures import plain

    figure = make_subplots(cols=len(titles), shared_yaxes=True, horizontal_spacing=0.04)
    for column, text in enumerate(titles, start=1):
        figure.update_xaxes(title_text=text, row=1, col=column)
    figure.update_yaxes(type="category", autorange="reversed")
    height = AROUND + LINE * max(2, n_students)
    return figure.update_layout(template="lab", title=plain(title), height=height)
