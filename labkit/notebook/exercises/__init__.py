"""Exercises: check an answer, ask for a hint, unfold the solution.

Checkers of notebook N are in `notebookN.py`; titles, hints and multiple-choice questions in `exercises.toml`.

A checker is a plain function. It gets the student's answer, raises `Wrong` with a message that teaches, and otherwise
returns what is worth knowing about the right answer. A student's function comes wrapped (`_attempt`): a call has a time
limit, cannot change the checker's data, and counts as not attempted while it returns nothing.
"""

import inspect
import linecache
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from html import escape
from importlib import import_module
from pkgutil import iter_modules
from types import FrameType
from typing import Any

from labkit.errors import LabError
from labkit.notebook.exercises.record import note, progress, recorded, solution_text
from labkit.shown import Shown, show
from labkit.storage import shipped

__all__ = ["check", "choice", "every_exercise", "exercise", "hint", "judge", "progress", "solution"]

RIGHT, WRONG, BLANK, RAISED = "right", "wrong", "not attempted", "your code raised"
_LOOK = {RIGHT: ("✓", "#009E73"), WRONG: ("✗", "#D55E00"), BLANK: ("○", "#888888"), RAISED: ("⚠", "#CC79A7")}
_SECONDS = 5.0  # for one call of a student's function


class Wrong(Exception):
    """What a checker raises: what was expected, in words, with the case that showed it; never the answer."""


class _Blank(Exception):
    """The student's function returns nothing yet."""


class _TooLong(BaseException):
    """Not an Exception, so that a student's `except Exception` does not swallow it."""


@dataclass(frozen=True)
class Verdict:
    """The outcome (RIGHT, WRONG, BLANK, RAISED) and what to say about it."""

    outcome: str
    message: str


@dataclass(frozen=True)
class Exercise:
    """One exercise; `kind` is function, choice or value. The notebook shows `question` and `choices` too."""

    id: str
    title: str
    checker: Callable[[Any], str | None]
    hints: Sequence[str] = ()
    kind: str = "function"
    question: str = ""
    choices: Mapping[str, str] | None = None


_Choices = Mapping[str, Sequence[str]]
_EXERCISES: dict[str, Exercise] = {}
_TEXTS = shipped(__file__, "exercises.toml")


def exercise(id: str) -> Callable:
    """Register the decorated function as a checker: of a function, or of a value (kind "value"; may be a tuple).

    Title, hints and kind are in `exercises.toml`.
    """

    def register(checker: Callable[[Any], str | None]) -> Callable:
        _EXERCISES[id] = Exercise(id, checker=checker, **_TEXTS[id])
        return checker

    return register


def number(answer: Any, name: str) -> float:
    """A student's number as a float, whatever kind it is of.

    Raises:
        Wrong: it is none.
    """
    try:
        return float(answer)
    except (TypeError, ValueError):
        raise Wrong(f"{name} should be a number; you gave {answer!r}.") from None


def choice(id: str, title: str, question: str, choices: _Choices, right: str, hints: Sequence[str] = ()) -> None:
    """Register a multiple-choice question; `choices` is {letter: (text, why it is right or wrong)}."""

    def checker(answer: Any) -> str:
        letter = str(answer).strip().lower()
        if letter not in choices:
            raise Wrong(f"Answer with one letter out of {', '.join(choices)}; you gave {answer!r}.")
        if letter != right:
            raise Wrong(choices[letter][1])
        return choices[letter][1]

    texts = {letter: text for letter, (text, _) in choices.items()}
    _EXERCISES[id] = Exercise(id, title, checker, hints, "choice", question, texts)


def find(id: str) -> Exercise:
    """The exercise with this id.

    Raises:
        LabError: there is no such exercise.
    """
    tasks = every_exercise()
    if str(id) not in tasks:
        raise LabError(f"no exercise {id!r}", "", f"choose one of {', '.join(tasks)}")
    return tasks[str(id)]


def every_exercise() -> dict[str, Exercise]:
    """All exercises of all notebooks by id, in order."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return dict(sorted(_EXERCISES.items(), key=lambda item: [int(part) for part in item[0].split(".")]))


def _attempt(function: Callable) -> Callable:
    """A student's function as a checker calls it."""

    def call(*args: Any) -> Any:
        call.args = args
        with _time_limit(_SECONDS):
            value = function(*deepcopy(args))
        if value is ... or (value is None and _is_empty(function)):
            raise _Blank
        if value is None:
            raise Wrong("Your function returned None: is a `return` missing?")
        return value

    return call


def _is_empty(function: Callable) -> bool:
    with suppress(OSError, TypeError):
        if "your code here" in inspect.getsource(function):
            return True
    code = getattr(function, "__code__", None)
    return code is not None and len(code.co_code) == len((lambda: None).__code__.co_code)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Stop a loop that never ends; where there are no signals (Windows, another thread) there is no limit."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judge(id: str, answer: Any) -> Verdict:
    """The verdict on an answer, without showing or recording it."""
    task = find(id)
    parts = answer if isinstance(answer, tuple) else (answer,)
    if any(part is None or part is ... for part in parts):
        return Verdict(BLANK, "Replace the `...` by your answer and run the cell again.")
    if task.kind == "function" and not callable(answer):
        return Verdict(WRONG, f"Give the function itself, without calling it: `check({id!r}, name_of_your_function)`.")
    given = _attempt(answer) if task.kind == "function" else answer
    try:
        return Verdict(RIGHT, task.checker(given) or "")
    except Wrong as wrong:
        return Verdict(WRONG, f"{wrong}{_line(answer, given.args) if task.kind == 'function' else ''}")
    except _Blank:
        return Verdict(BLANK, "The function returns nothing yet: write its body, then run the cell again.")
    except _TooLong:
        return Verdict(RAISED, f"Your function ran longer than {_SECONDS:g} s and was stopped: does its loop end?")
    except Exception as error:
        if "ellipsis" in str(error):
            return Verdict(BLANK, "There is still a `...` to replace in your function.")
        return Verdict(RAISED, _where(error, answer))


def _line(function: Callable, args: Sequence[Any]) -> str:
    """The student's line that a wrong value was returned from: the call is run once more and followed."""
    code, lines, before = getattr(function, "__code__", None), [0], sys.gettrace()

    def follow(frame: FrameType, *_: Any) -> Callable | None:
        lines[0] = frame.f_lineno if frame.f_code is code else lines[0]
        return follow if frame.f_code is code else None

    sys.settrace(follow)
    try:
        with suppress(Exception, _TooLong), _time_limit(_SECONDS):
            function(*deepcopy(args))
    finally:
        sys.settrace(before)
    line = linecache.getline(code.co_filename, lines[0]).strip() if code else ""
    return (
        f"\nThat value came from line {lines[0]} of your cell: `{line}`. Look there, and at what leads to it."
        * bool(line)
    )


def _where(error: Exception, answer: Any) -> str:
    """The error and the student's own line that it came from."""
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    line = f", in line {own[-1].lineno} of your cell: `{own[-1].line}`" if own else ", while your answer was checked"
    return f"{type(error).__name__}: {error}{line}"


def check(id: str, answer: Any = None) -> None:
    """Say whether an answer is right, wrong, not attempted, or raised; never raises, so the notebook runs on."""
    try:
        verdict, title = judge(id, answer), find(id).title
    except LabError as error:
        return _say("⚠ No such exercise", str(error))
    mark, colour = _LOOK[verdict.outcome]
    _say(f"{mark} {verdict.outcome.capitalize()} · {id} {title}", verdict.message, colour)
    try:
        note(id, outcome=verdict.outcome)
    except (LabError, OSError) as error:
        _say("⚠ Progress not saved", str(error))


def hint(id: str) -> None:
    """One hint more at each call."""
    task = find(id)
    given = min(recorded().get(task.id, {}).get("hints", 0) + 1, len(task.hints))
    note(task.id, hints=given)
    after = "" if given < len(task.hints) else f"\nThat is the last hint; `labkit.solution({task.id!r})` comes next."
    _say(f"Hint {given} of {len(task.hints)} · {id} {task.title}", "\n".join(task.hints[:given]) + after)


def solution(id: str) -> None:
    """Unfold the solution, from `solutions/` beside `notebooks/`, and say that it was unfolded."""
    task = find(id)
    text = solution_text(task.id)
    note(task.id, solution=True)
    _say(f"Solution unfolded · {id} {task.title}", "Your progress says that you looked. Run it, then change it.")
    show(Shown(f"<pre>{escape(text)}</pre>", text))


def _say(head: str, body: str, colour: str = "#0072B2") -> None:
    style = f"border-left:4px solid {colour};padding:.3em .8em;white-space:pre-line"
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(body))
    show(Shown(f'<div style="{style}"><b>{escape(head)}</b>\n{html}</div>', f"{head}\n{body}"))


for _id, _texts in _TEXTS.items():
    if "choices" in _texts:
        choice(_id, **_texts)
