"""From an answer to a verdict: right, wrong and why, not attempted, or raised and where."""

import dis
import linecache
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from io import StringIO
from types import CodeType, FrameType

import labkit.notebook.exercises.attempt as limits
from labkit.notebook.exercises.answers import Unreadable, Wrong, shown
from labkit.notebook.exercises.attempt import Attempt, Blank, Raised, TooLong, code_of, quiet, time_limit
from labkit.notebook.exercises.catalogue import Exercise, find
from labkit.notebook.exercises.isolation import LEFT_BEHIND, Announce, Died, NotInAFork, TimeUp, isolated

RIGHT = "right"
WRONG = "wrong"
BLANK = "not attempted"
RAISED = "your code raised"
_TO_DO = "Replace the `...` by your answer and run the cell again."
_LONGEST = 4000  # characters of a message
_SHAPES = re.compile(r"matmul|shape|broadcast|core dimension|size mismatch|must match the size", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """The outcome (RIGHT, WRONG, BLANK, RAISED) and what to say about it."""

    outcome: str
    message: str


def judge(id: str, answer: object) -> Verdict:
    """The verdict on an answer, without showing or recording it; it comes within the limit, whatever the answer does.

    Raises:
        LabError: there is no such exercise.
    """
    task = find(id)
    if _is_simple(answer):
        return _judge_here(task, answer, lambda call: None)
    _ = task.checker  # imported here, so that no fork has to do it again
    work = partial(_as_texts, task, answer)
    try:
        outcome, message = isolated(work, limits.SECONDS)
    except TimeUp as stopped:
        return Verdict(RAISED, _stopped(stopped.call))
    except Died as died:
        return Verdict(RAISED, _ended(died))
    return Verdict(outcome, message)


def _is_simple(answer: object) -> bool:
    """A number, a text or nothing: it has no code of its own that could run."""
    return answer is None or answer is ... or type(answer) in (str, int, float, bool)


def _as_texts(task: Exercise, answer: object, announce: Announce) -> tuple[str, str]:
    verdict = _judge_here(task, answer, announce)
    return verdict.outcome, verdict.message


def _judge_here(task: Exercise, answer: object, announce: Announce) -> Verdict:
    """The verdict, in this process and this thread; half an emoji in it becomes a question mark."""
    if task.kind != "function":
        verdict = _judge_value(task, answer)
    elif _is_unanswered(answer):
        verdict = Verdict(BLANK, _TO_DO)
    elif not callable(answer):
        advice = f"`check({task.id!r}, name_of_your_function)`"
        verdict = Verdict(WRONG, f"Give the function itself, without calling it: {advice}.")
    else:
        verdict = _judge_function(task, Attempt(answer, announce))
    readable = verdict.message.encode("utf-8", "replace").decode()
    return Verdict(verdict.outcome, readable[:_LONGEST])


def _is_unanswered(answer: object) -> bool:
    """It is, or holds, None or `...`; or it is a text without a letter, such as "?"."""
    if type(answer) is str:
        return not re.search(r"\w", answer)
    parts = answer if type(answer) is tuple else (answer,)
    return any(part is None or part is ... for part in parts)


def _judge_value(task: Exercise, answer: object) -> Verdict:
    """The verdict on a letter, a number or a tuple of what was measured and what was answered."""
    if _is_unanswered(answer):
        return Verdict(BLANK, _TO_DO)
    try:
        return Verdict(RIGHT, task.checker(answer) or "")
    except Wrong as wrong:
        return Verdict(WRONG, str(wrong))
    except BaseException as error:
        _ask_for_this_process(error)
        return Verdict(WRONG, f"I could not read what you gave: {shown(answer)} ({_words(error)}).")


def _judge_function(task: Exercise, attempt: Attempt) -> Verdict:
    try:
        message = task.checker(attempt) or ""
        return Verdict(RIGHT, message + _about_input(attempt))
    except Wrong as wrong:
        return Verdict(WRONG, str(wrong) + _after_a_wrong_value(attempt))
    except Blank:
        return Verdict(BLANK, "The function returns nothing yet: write its body, then run the cell again.")
    except TooLong:
        return Verdict(RAISED, _stopped(attempt.call()))
    except Raised as raised:
        return _verdict_on_error(attempt, raised.__cause__ or raised)
    except BaseException as error:
        _ask_for_this_process(error)
        if _own_lines(error, attempt.function):  # a generator runs while the checker reads it
            return _verdict_on_error(attempt, error)
        why = f"The call was: {attempt.call()} ({_words(error)})."
        unreadable = Unreadable(attempt.returned, why)
        return Verdict(WRONG, str(unreadable) + _after_a_wrong_value(attempt))


def _verdict_on_error(attempt: Attempt, error: BaseException) -> Verdict:
    _ask_for_this_process(error)
    if "ellipsis" in _words(error):
        return Verdict(BLANK, "There is still a `...` to replace in your function.")
    message = _words(error) + _place(error, attempt.function)
    message += f"\nThe call was: {attempt.call()}."
    message += _about_shapes(error)
    message += _printed(attempt)
    return Verdict(RAISED, message)


def _ask_for_this_process(error: BaseException) -> None:
    """CUDA, and gradients after a first training, refuse to work in a fork; both say so.

    Raises:
        NotInAFork: this is such an error.
    """
    if isinstance(error, RuntimeError) and "fork" in _words(error):
        raise NotInAFork


# --- messages ---------------------------------------------------------------------------------------------------------


def _words(error: BaseException) -> str:
    """The kind of error and what it says, also where an error's own `str` fails."""
    try:
        text = str(error)
    except Exception:
        text = "(its str raises an error)"
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _after_a_wrong_value(attempt: Attempt) -> str:
    """What else is worth knowing of the call that returned it."""
    return _about_input(attempt) + _line_of_return(attempt) + _printed(attempt)


def _place(error: BaseException, function: Callable) -> str:
    own_lines = _own_lines(error, function)
    if not own_lines:
        return ", while your answer was checked"
    last = own_lines[-1]
    return f", in line {last.lineno} of your cell: `{last.line}`"


def _stopped(call: str) -> str:
    seconds = limits.SECONDS
    stopped = f"Your code ran longer than {seconds:g} s and was stopped: does its loop end?"
    return stopped + _during(call)


def _ended(died: Died) -> str:
    ended = f"Your code ended its Python process ({died.how}). Return a value in its place."
    return ended + _during(died.call)


def _during(call: str) -> str:
    if not call:
        return ""
    return f"\nThe call was: {call}."


def _about_input(attempt: Attempt) -> str:
    if not attempt.changed_its_input:
        return ""
    return "\nYour function changes its input in place. The caller still needs it: work on a copy."


def _printed(attempt: Attempt) -> str:
    if not attempt.printed:
        return ""
    return f"\nThat call printed: {attempt.printed}"


def _about_shapes(error: BaseException) -> str:
    if isinstance(error, ValueError | RuntimeError) and _SHAPES.search(_words(error)):
        return "\nCompare the shapes of that call: a product [a, b] @ [b, c] needs the same b twice."
    return ""


def _own_lines(error: BaseException, function: Callable) -> list[traceback.FrameSummary]:
    """The lines of the student's own file that an error went through, the last one where it arose."""
    code = code_of(function)
    if code is None:
        return []
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if frame.filename == code.co_filename]


def _line_of_return(attempt: Attempt) -> str:
    """The student's line that a wrong value was returned from, where the function has more than one `return`.

    The call is run once more and followed.
    """
    code = code_of(attempt.function)
    if code is None or len(_lines_with_return(code)) < 2:
        return ""
    number = _last_line(attempt, code)
    line = linecache.getline(code.co_filename, number).strip()
    if not line:
        return ""
    return f"\nThat value came from line {number} of your cell: `{line}`. Look there, and at what leads to it."


def _lines_with_return(code: CodeType) -> set[int | None]:
    found: set[int | None] = set()
    for step in dis.get_instructions(code):
        if step.opname in ("RETURN_VALUE", "RETURN_CONST") and step.positions is not None:
            found.add(step.positions.lineno)
    return found


def _last_line(attempt: Attempt, code: CodeType) -> int:
    """The line that the function returned from in its last call; 0 where the call does not come to an end this time."""
    if LEFT_BEHIND:  # CPython 3.11 loops for ever in a profiled call while another thread has not heard its TooLong
        return 0
    lines = [0]

    def note_return(frame: FrameType, event: str, argument: object) -> None:
        if event == "return" and frame.f_code is code:
            lines.append(frame.f_lineno)

    before = sys.getprofile()
    sys.setprofile(note_return)
    try:
        with suppress(BaseException), quiet(StringIO()), time_limit(limits.SECONDS):
            attempt.function(*deepcopy(attempt.arguments))
            return lines[-1]
    finally:
        sys.setprofile(before)
    return 0
