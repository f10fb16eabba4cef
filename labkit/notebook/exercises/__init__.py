"""Exercises: check an answer, ask for a hint, unfold the solution.

Checkers of notebook N are in `notebookN.py`, in its table CHECKERS; titles, hints and multiple-choice questions in
`exercises.toml`; `catalogue` puts them together.

A checker is a plain function. It gets the student's answer, raises `Wrong` with a message that teaches, and otherwise
returns what is worth knowing about the right answer. A student's function comes as an `Attempt`: a call has a time
limit and cannot change the checker's data. All of it is judged in a process of its own (`isolation`): what the function
does to variables of the notebook is not seen in the notebook.
"""

import re
from html import escape

from labkit.errors import LabError
from labkit.notebook.exercises.answers import Unreadable, Wrong
from labkit.notebook.exercises.catalogue import Exercise, every_exercise, find
from labkit.notebook.exercises.given import given
from labkit.notebook.exercises.judging import BLANK, RAISED, RIGHT, WRONG, Verdict, judge
from labkit.notebook.exercises.overview import after_a_right_answer, progress
from labkit.notebook.exercises.record import answer_id, note, recorded
from labkit.notebook.exercises.sources import solution_text
from labkit.shown import Shown, show

__all__ = [
    "BLANK",
    "RAISED",
    "RIGHT",
    "WRONG",
    "Exercise",
    "Unreadable",
    "Verdict",
    "Wrong",
    "check",
    "every_exercise",
    "hint",
    "judge",
    "progress",
    "solution",
]

_LOOK = {RIGHT: ("✓", "#009E73"), WRONG: ("✗", "#D55E00"), BLANK: ("○", "#888888"), RAISED: ("⚠", "#CC79A7")}


def check(id: str, answer: object = None) -> None:
    """Say whether an answer is right, wrong, not attempted, or raised; never raises, so the notebook runs on.

    Each call of the answer may take 5 seconds, all of them together a minute. Only an interrupt of the cell itself
    (Ctrl-C, the Stop button) goes through.
    """
    try:
        task = find(id)
    except LabError as error:
        _say("⚠ No such exercise", str(error))
        return
    try:
        verdict = judge(task.id, answer)
    except Exception as error:  # a fault of this package: it must not stop the notebook
        verdict = Verdict(RAISED, f"The check itself failed, please report it: {type(error).__name__}: {error}")
    unsaved = _noted(task.id, outcome=verdict.outcome)
    if verdict.outcome != BLANK and not unsaved:
        unsaved = _noted(answer_id(task.id), outcome=verdict.outcome, answer=given(answer))
    following = "" if unsaved or verdict.outcome != RIGHT else f"\n{after_a_right_answer(task)}"
    mark, colour = _LOOK[verdict.outcome]
    _say(f"{mark} {verdict.outcome.capitalize()} · {task.id} {task.title}", verdict.message + following, colour)
    if unsaved:
        _say("⚠ Progress not saved", unsaved)


def _noted(id: str, **news: object) -> str:
    """Keep what happened in an exercise. Returns why it could not be kept; empty where it was."""
    try:
        note(id, **news)
    except (LabError, OSError, ValueError) as error:
        return str(error)
    return ""


def hint(id: str) -> None:
    """One hint more at each call."""
    task = find(id)
    before = recorded().get(task.id, {}).get("hints", 0)
    given = min(int(str(before)) + 1, len(task.hints))
    unsaved = _noted(task.id, hints=given)
    lines = list(task.hints[:given])
    if given == len(task.hints):
        lines.append(f"That is the last hint; `labkit.solution({task.id!r})` comes next.")
    _say(f"Hint {given} of {len(task.hints)} · {task.id} {task.title}", "\n".join(lines))
    if unsaved:
        _say("⚠ Progress not saved", unsaved)


def solution(id: str) -> None:
    """Unfold the solution, from `solutions/` beside `notebooks/`, and say that it was unfolded."""
    task = find(id)
    text = solution_text(task.id)
    note(task.id, solution=True)
    _say(f"Solution unfolded · {task.id} {task.title}", "Your progress says that you looked. Run it, then change it.")
    show(Shown(f"<pre>{escape(text)}</pre>", text))


def _say(head: str, body: str, colour: str = "#0072B2") -> None:
    style = f"border-left:4px solid {colour};padding:.3em .8em;white-space:pre-line"
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(body))
    text = f"{head}\n{body}"
    try:
        show(Shown(f'<div style="{style}"><b>{escape(head)}</b>\n{marked}</div>', text))
    except UnicodeEncodeError:  # a terminal without ✓
        print(text.encode("ascii", "replace").decode())
