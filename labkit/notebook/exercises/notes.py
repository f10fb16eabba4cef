"""What nobody checks: answers to open questions, and guesses that are shown beside what came out.

Both are kept in the progress file, and `labkit report` prints them. The questions are in `open_questions.toml`.
"""

from functools import cache
from html import escape

import labkit.notebook.exercises.record as record
from labkit.errors import LabError
from labkit.notebook.exercises.answers import plain, shown
from labkit.shown import Shown, readable, show
from labkit.storage import shipped

LONGEST = 20_000  # characters of a note
_LONGEST_GUESS = 200
_HOW = "Put your guess in place of the `...`: it is shown beside the outcome."
_STYLE = "border-left:4px solid #CC79A7;padding:.3em .8em;white-space:pre-line"


@cache
def open_questions() -> dict[str, str]:
    """{id: question} of all notebooks, in order."""
    return shipped(__file__, "open_questions.toml")["notes"]


@cache
def guesses() -> dict[str, str]:
    """{id: what is to be guessed} of all notebooks, in order."""
    return shipped(__file__, "open_questions.toml")["guesses"]


def note(id: str, text: str = "") -> None:
    """Keep your answer to an open question for the report; without a text, show what you wrote.

    Args:
        id: as the notebook gives it, such as "4.a".
        text: your answer; a new one takes the place of the old.

    Raises:
        LabError: there is no such question, or the answer is no text.
    """
    question = _find(open_questions(), id, "open question")
    written = _text(text)
    if written:
        unsaved = _kept(id, note=written)
        head = "Noted" if not unsaved else "Not saved"
        _say(f"{head} · {id}", f"{question}\n{unsaved or written}")
        return
    before = _before(id, "note")
    _say(f"Open question · {id}", f"{question}\n{before or 'Nothing noted yet.'}")


def _text(text: object) -> str:
    if text is ...:
        return ""
    if not isinstance(text, str):
        raise LabError("a note is a text", f"a {type(text).__name__}", 'write it between quotation marks: "…"')
    if len(text) > LONGEST:
        raise LabError(f"a note has at most {LONGEST:,} characters", f"{len(text):,}", "shorten it")
    return readable(text).strip()


def guess(id: str, value: object = ..., *, outcome: object = ...) -> None:
    """Keep a guess before an experiment, or show it beside the outcome afterwards.

    Args:
        id: as the notebook gives it, such as "1.floor".
        value: your guess, a number or a word; `...` leaves it open.
        outcome: what came out. Given, nothing is kept: the two are shown side by side.

    Raises:
        LabError: there is nothing of this name to guess, or the guess is neither a number nor a text.
    """
    question = _find(guesses(), id, "guess")
    if outcome is not ...:
        _say(f"Guess and outcome · {id}", f"{question}\n{_side_by_side(_before(id, 'guess'), plain(outcome))}")
        return
    if value is ... or value == "":
        _say(
            f"Guess first · {id}", f"{question}\nPut your guess in place of the `...`; it is shown beside the outcome."
        )
        return
    unsaved = _kept(id, guess=_guessed(value))
    _say(f"Guess first · {id}", f"{question}\nYou guess {_as_text(value)}. {unsaved}".rstrip())


def _guessed(value: object) -> float | str:
    value = plain(value)
    if isinstance(value, str) and len(value) <= _LONGEST_GUESS:
        return readable(value).strip()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < 1e300:  # type: ignore[arg-type]  # NaN is not below
        raise LabError("a guess is a number or a short text", shown(value, 60), "write for example 30")
    return value  # type: ignore[return-value]


def _side_by_side(before: object, outcome: object) -> str:
    if before == "":
        return f"You made no guess. It is {_as_text(outcome)}."
    told = f"You guessed {_as_text(before)}. It is {_as_text(outcome)}"
    if isinstance(before, int | float) and isinstance(outcome, int | float):
        told += f": {_as_text(abs(outcome - before))} apart"
    return f"{told}."


def _as_text(value: object) -> str:
    value = plain(value)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


# --- the file ---------------------------------------------------------------------------------------------------------


def _find(known: dict[str, str], id: object, what: str) -> str:
    if type(id) is not str or id not in known:
        raise LabError(f"no {what} {shown(id, 40)}", "", f"choose one of {', '.join(known)}")
    return known[id]


def _kept(id: str, **news: object) -> str:
    """Keep it. Returns why it could not be kept; empty where it was."""
    try:
        record.note(id, **news)
    except (LabError, OSError, ValueError) as error:
        return str(error)
    return ""


def _before(id: str, field: str) -> object:
    """What was kept earlier; empty where nothing was, or where the file cannot be read."""
    try:
        kept = record.recorded().get(id, {}).get(field, "")
    except LabError:
        return ""
    return kept if isinstance(kept, str | int | float) else ""


def _say(head: str, body: str) -> None:
    html = f'<div style="{_STYLE}"><b>{escape(head)}</b>\n{escape(body)}</div>'
    show(Shown(html, f"{head}\n{body}"))
