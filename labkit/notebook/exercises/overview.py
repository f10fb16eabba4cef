"""How far a student is: a table of all exercises, and the count after a check."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from labkit.machine.paths import lab_home
from labkit.notebook.exercises.catalogue import Exercise, every_exercise, order
from labkit.notebook.exercises.record import Entry, recorded
from labkit.shown import Shown
from labkit.storage import write_text

_MARKS = {"right": "✓", "not attempted": "○", "wrong": "✗"}  # ⚠ for anything else
_COLUMNS = ["id", "exercise", "state", "tries", "hints", "solution"]


def progress(save: Path | str | None = None) -> Shown:
    """How far you are: a bar, what waits to be gone on with, a row an exercise; saved as .csv or Markdown, too."""
    import pandas

    from labkit.results.report import markdown_table

    done = recorded()
    tasks = every_exercise()
    solved = sum(_is_solved(done, id) for id in tasks)
    rows = []
    for id, task in tasks.items():
        rows.append(_row(task, done.get(id, {})))
    table = pandas.DataFrame(rows, columns=_COLUMNS)
    markdown = markdown_table(_COLUMNS, rows)
    if save is not None:
        as_csv = str(save).endswith(".csv")
        text = table.to_csv(index=False) if as_csv else f"{markdown}\n"
        write_text(save, text)
    total = len(tasks)
    label = f"{solved} of {total} exercises solved"
    for waiting in _what_waits(done):
        label += f". {waiting}"
    label += f". {_grapes(done)}"
    bar = f'<label>{escape(label)} <progress value="{solved}" max="{total}"></progress></label>'
    rows_of_html = table.to_html(index=False, justify="left")
    folded = f"<details><summary>all exercises</summary>{rows_of_html}</details>"
    return Shown(bar + folded, f"{label}\n{markdown}")


def after_a_right_answer(task: Exercise) -> str:
    """ "3 of 7 in this notebook are right. Next: 1.4 · Top-k filter 🍇" """
    done = recorded()
    total = 0
    before = []  # unsolved exercises of this notebook
    after = []
    for other in every_exercise().values():
        if other.notebook != task.notebook:
            continue
        total += 1
        if not _is_solved(done, other.id):
            place = after if order(other.id) > order(task.id) else before
            place.append(other)
    waiting = after + before
    right = total - len(waiting)
    counted = f"{right} of {total} in this notebook are right."
    if not waiting:
        return counted
    following = waiting[0]
    return f"{counted} Next: {following.id} · {following.title} {following.grapes}"


def _grapes(done: Mapping[str, Entry]) -> str:
    """What was won so far: an exercise is worth a grape a level, and those of the bonus tier come on top."""
    won = {False: 0, True: 0}  # by whether it is a bonus
    offered = {False: 0, True: 0}
    for task in every_exercise().values():
        offered[task.bonus] += task.level
        if _is_solved(done, task.id):
            won[task.bonus] += task.level
    main = f"{won[False]} of {offered[False]}"
    bonus = f"{won[True]} of {offered[True]}"
    return f"Grapes: {main}, and {bonus} in the bonus tier"


def _is_solved(done: Mapping[str, Entry], id: str) -> bool:
    return done.get(id, {}).get("outcome") == "right"


def _row(task: Exercise, entry: Entry) -> dict[str, object]:
    outcome = str(entry.get("outcome", "not attempted"))
    return {
        "id": task.id,
        "exercise": task.title,
        "state": f"{_MARKS.get(outcome, '⚠')} {outcome}",
        "tries": entry.get("tries", 0),
        "hints": entry.get("hints", 0),
        "solution": "seen" if entry.get("solution") else "",
    }


def _what_waits(done: Mapping[str, Entry]) -> list[str]:
    """What a dropped session left: the next exercise, and trainings that go on where they stopped."""
    waiting = []
    open_ones = [id for id in every_exercise() if not _is_solved(done, id)]
    if open_ones:
        waiting.append(f"Next: {open_ones[0]}")
    runs = sorted((lab_home() / "adapters").glob("*/run.json"))
    unfinished = []
    for run in runs:
        if not run.with_name("result.json").is_file():
            unfinished.append(run.parent.name)
    if unfinished:
        names = ", ".join(unfinished)
        waiting.append(f"Unfinished training, run its cell again and it goes on: {names}")
    return waiting
