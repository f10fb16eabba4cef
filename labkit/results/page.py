"""The board as HTML: one table a corpus and split, with scores and what differs in sight and the rest to unfold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from labkit import tables
from labkit.results.best import MEANING, Ranking, looks_in_words, repeats
from labkit.results.differs import common, differing, usual
from labkit.results.report import number
from labkit.results.row import Row, model_name
from labkit.shown import Shown, readable
from labkit.storage import shipped

TEXTS = shipped(__file__, "board.toml")
Place = tuple[object, object]  # corpus and split
MOST_TABLES = 200  # of a page; more is none that anybody reads
SHOWN = 200  # rows of a table; more is a page that nobody reads and no browser likes
SCORE_TITLES = {
    "bleu": "BLEU",
    "inform": "Inform",
    "success": "Success",
    "combined": "Combined",
    "joint_accuracy": "joint accuracy",
    "span_f1": "span F1",
    "perplexity": "perplexity",
}
SAME = ("model", "dialogues", "device")  # said once above a table where they are the same in all its rows


@dataclass(frozen=True)
class Section:
    """The rows on one split of one corpus, as they are shown."""

    rows: list[Row]
    times: list[int]  # how often each was run
    left_out: int
    place: str  # "miniwoz, dev split"
    differ: list[str]  # what tells each row from the others
    same: dict[str, object]
    usual: dict[str, str]  # of what differs, what most rows have


@dataclass(frozen=True)
class Column:
    """A column: its field in a row, its title, and a cell's text."""

    field: str
    title: str
    cell: Callable[[int], object]  # of the row number
    is_text: bool = True


def page(rows: Sequence[Row], full: Sequence[str], sort: str) -> Shown:
    """All rows as tables, with the sentences that belong to them.

    Args:
        rows: flat rows, see `Board.table`.
        full: the columns of the table to unfold.
        sort: the field to sort by, the highest first.
    """
    ranking = Ranking(rows)
    parts = []
    texts = []
    places = _by_place(rows)
    for (corpus, split), found in places[:MOST_TABLES]:
        section = _section(found, _place(corpus, split), sort)
        columns = _columns(section)
        parts.append(_table(section, columns, sort, ranking) + _unfolded(section, full))
        above = [_caption(section), _usual(section), _markdown(section, columns)]
        texts.append("\n\n".join(text for text in above if text))
    sentences = [_stand_ins(rows), looks_in_words(rows)]
    if any(row.get("intervals") for row in rows):
        sentences.append(MEANING)
    if len(places) > MOST_TABLES:
        sentences.append(f"Of {len(places):,} corpora and splits the first {MOST_TABLES} stand here; table() has all.")
    notes = [sentence for sentence in sentences if sentence]
    head = "".join(f"<p>{escape(readable(note))}</p>" for note in notes)
    html = f"<style>{TEXTS['style']}</style>{head}{''.join(parts)}"
    return Shown(html, "\n\n".join([*notes, *texts]) or "No results yet.")


def _by_place(rows: Sequence[Row]) -> list[tuple[Place, list[Row]]]:
    """The rows by corpus and split, the place that was met last first."""
    by_place: dict[Place, list[Row]] = {}
    for row in rows:
        by_place.setdefault((row.get("corpus"), row.get("split")), []).append(row)
    return list(reversed(by_place.items()))


def _place(corpus: object, split: object) -> str:
    words = []
    if corpus:
        words.append(str(corpus))
    if split:
        words.append(f"{split} split")
    return ", ".join(words) or "without a corpus"


def _section(found: Sequence[Row], place: str, sort: str) -> Section:
    """The rows of one place as they are shown: repeated runs once, sorted, the first `SHOWN`."""

    def by_score(run: tuple[Row, int]) -> tuple[bool, bool, float, str]:
        row, _ = run
        return sorting_key(row.get(sort))

    runs = repeats(found)
    runs.sort(key=by_score, reverse=True)
    rows = []
    times = []
    for row, n_times in runs[:SHOWN]:
        rows.append(row)
        times.append(n_times)
    return Section(
        rows=rows,
        times=times,
        left_out=len(runs) - len(rows),
        place=place,
        differ=differing(rows),
        same=common(rows, SAME),
        usual=usual(rows),
    )


def sorting_key(value: object) -> tuple[bool, bool, float, str]:
    """A key for values of any kind; with the highest first: numbers, then words, then what is not there."""
    is_number = isinstance(value, int | float)
    is_there = value is not None and value == value  # NaN is what pandas puts where nothing is
    if is_number and is_there:
        return is_there, is_number, value, ""
    return is_there, is_number, 0.0, str(value)


def _columns(section: Section) -> list[Column]:
    """Task, what differs, the model where it does, the scores that are there, and when."""
    rows = section.rows
    task = Column("task", "task", lambda n: _task(rows[n], section.times[n]))
    columns = [task]
    have_failed = any(row.get("failed") for row in rows)
    if have_failed or any(section.differ):
        differs = Column("", "what differs", lambda n: _differs(rows[n], section.differ[n]))
        columns.append(differs)
    if "model" not in section.same:
        model = Column("model", "model", lambda n: _model(rows[n], section))
        columns.append(model)
    for field, title in SCORE_TITLES.items():
        has_scores = any(row.get(field) is not None for row in rows)
        if has_scores:
            score = Column(field, title, lambda n, field=field: rows[n].get(field), is_text=False)
            columns.append(score)
    time = Column("time", "time", lambda n: _minute(rows[n]))
    columns.append(time)
    return columns


def _minute(row: Row) -> str:
    """2026-11-25T14:03:27+0000 → 2026-11-25 14:03"""
    stamp = str(row.get("time") or "")
    return stamp[:16].replace("T", " ")


def _task(row: Row, times: int) -> str:
    task = str(row.get("task") or "")
    if times > 1:
        return f"{task} (× {times})"
    return task


def _model(row: Row, section: Section) -> str:
    name = model_name(str(row.get("model") or ""))
    all_are = all(other.get("stand_in") for other in section.rows)
    if row.get("stand_in") and not all_are:
        return f"{name} (stand-in)"
    return name


def _differs(row: Row, words: str) -> str:
    parts = []
    if row.get("failed"):
        parts.append(f"failed: {row['failed']}")
    if words:
        parts.append(words)
    return "; ".join(parts)


def _stand_ins(rows: Sequence[Row]) -> str:
    """Said once, above all tables."""
    marks = [bool(row.get("stand_in")) for row in rows]
    if not any(marks):
        return ""
    if all(marks):
        return "All rows are of a stand-in model or corpus: compare the scores with nothing published."
    return "Rows of a stand-in model or corpus are marked “stand-in”: compare their scores with nothing published."


def _caption(section: Section) -> str:
    runs = "1 run" if len(section.rows) == 1 else f"{len(section.rows)} runs"
    words = [section.place, runs]
    if section.left_out:
        words[1] = f"the first {runs} of {len(section.rows) + section.left_out}; board.csv() has all"
    marks = [bool(row.get("stand_in")) for row in section.rows]
    for field, value in section.same.items():
        text = str(value)
        if field == "dialogues":
            text = f"{value} dialogues"
        elif field == "model":
            text = model_name(text)
            if all(marks):
                text += " (stand-in)"
        words.append(text)
    return readable(" · ".join(words))


def _usual(section: Section) -> str:
    """What a row has where its cell of what differs is silent."""
    if not section.usual:
        return ""
    told = ", ".join(f"{name}={value}" for name, value in section.usual.items())
    return readable(f"Where nothing else is said: {told}")


def _table(section: Section, columns: Sequence[Column], sort: str, ranking: Ranking) -> str:
    head = "".join(_heading(column, sort) for column in columns)
    body = []
    for n, row in enumerate(section.rows):
        near = ranking.near(row)
        cells = []
        for column in columns:
            value = column.cell(n)
            under = near.get(column.field, "")
            is_first = column.field == "task"
            cells.append(_cell(value, under, first=is_first))
        body.append(f"<tr>{''.join(cells)}</tr>")
    most = _usual(section)
    below = f"<br><small>{escape(most)}</small>" if most else ""
    caption = f"<caption>{escape(_caption(section))}{below}</caption>"
    table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="lab-board">{table}</div>'


def _heading(column: Column, sort: str) -> str:
    is_sorted = ' aria-sort="descending"' if column.field == sort else ""
    kind = ' data-kind="text"' if column.is_text and column.field != "time" else ""
    button = f'<button onclick="{escape(TEXTS["sort"])}">{escape(column.title)}</button>'
    return f'<th scope="col"{kind}{is_sorted}>{button}</th>'


def _cell(value: object, under: str, *, first: bool) -> str:
    """A cell with the value that it is sorted by, and its interval as small text."""
    text = ""
    order = ""
    if value is not None:
        text = escape(number(value))
        order = escape(readable(str(value)))
    if under:
        text += f"<br><small>{escape(under)}</small>"
    if first:
        return f'<th scope="row" data-value="{order}">{text}</th>'
    return f'<td data-value="{order}">{text}</td>'


def _unfolded(section: Section, full: Sequence[str]) -> str:
    """All columns of the same rows, folded away."""
    names = [name for name in full if any(row.get(name) is not None for row in section.rows)]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = []
    for row in section.rows:
        cells = "".join(f"<td>{escape(_full_cell(row.get(name)))}</td>" for name in names)
        body.append(f"<tr>{cells}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<details><summary>All columns</summary><div class="lab-board">{table}</div></details>'


def _full_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        value = ", ".join(f"{name}={setting}" for name, setting in value.items())
    return number(value)


def _markdown(section: Section, columns: Sequence[Column]) -> str:
    rows = []
    for n in range(len(section.rows)):
        values = [column.cell(n) for column in columns]
        rows.append(["" if value is None else number(value) for value in values])
    return tables.markdown_table([column.title for column in columns], rows)
