"""Read what a student gave, in whatever type it comes, and show it in a message.

A checker raises `Wrong` with a message that teaches, and `Unreadable` where it cannot compare the answer at all.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import suppress

import numpy as np

_LETTER = re.compile(r"[\W_]*([a-z])[\W_]*")  # one letter, with brackets, quotes or a full stop around it
_UNREADABLE = "I could not read what you returned"


class Wrong(Exception):
    """What a checker raises: what was expected, in words, with the case that showed it; never the answer."""


class Unreadable(Wrong):
    """The answer is of a kind that cannot be compared with the right one."""

    def __init__(self, answer: object, why: str):
        super().__init__(f"{_UNREADABLE}: {shown(answer)}. {why}")


def shown(value: object, width: int = 160) -> str:
    """A value as a message shows it: its `repr`, cut to `width` characters, also where its `repr` fails."""
    try:
        text = repr(value)
    except BaseException:  # a hostile class may raise anything
        return f"a {type(value).__name__} whose repr raises an error"
    if len(text) > width:
        return text[: width - 1] + "…"
    return text


def times(count: int, thing: str) -> str:
    """A count with its noun: "1 turn", "2 turns"."""
    if count == 1:
        return f"1 {thing}"
    return f"{count:,} {thing}s"


def plain(value: object) -> object:
    """A tensor or an array of one element as a Python number; anything else as it is."""
    item = getattr(value, "item", None)
    if callable(item):
        with suppress(TypeError, ValueError):
            return item()
    return value


def number(answer: object, name: str) -> float:
    """A student's number as a float, whatever kind of number it is (NumPy, torch, Fraction, bool, a text).

    Raises:
        Wrong: it is none.
    """
    scalar = plain(answer)
    try:
        return float(scalar)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        pass
    advice = " Python writes decimals with a point." if _has_decimal_comma(scalar) else ""
    raise Wrong(f"{name} should be a number; you gave {shown(answer)}.{advice}") from None


def truth(answer: object) -> bool:
    """A student's True or False, numpy's and torch's too.

    Raises:
        Wrong: it is neither.
    """
    value = plain(answer)
    if value is not True and value is not False:
        raise Wrong(f"Return True or False; you gave {shown(value)}.")
    return value


def _has_decimal_comma(answer: object) -> bool:
    """4,127 is a tuple in Python."""
    if isinstance(answer, str):
        return bool(re.fullmatch(r"\s*\d+,\d+\s*", answer))
    return isinstance(answer, tuple) and len(answer) == 2


def whole_number(answer: object) -> int | None:
    """A student's whole number, whatever kind of number it is (2, 2.0, a tensor, a Fraction); None where it is none."""
    scalar = plain(answer)
    if isinstance(scalar, str | bytes):
        return None
    try:
        value = float(scalar)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return int(value) if value.is_integer() else None


def letter(answer: object, letters: Collection[str]) -> str:
    """The letter of a multiple-choice answer; case, brackets, quotes and full stops around it do not matter.

    Raises:
        Wrong: it is no letter, or none of these.
    """
    match = _LETTER.fullmatch(str(answer).lower())
    if match is None or match[1] not in letters:
        choices = ", ".join(letters)
        raise Wrong(f"Answer with one letter out of {choices}; you gave {shown(answer)}.")
    return match[1]


def array(answer: object, shape: tuple[int, ...], what: str) -> np.ndarray:
    """The student's value as an array of floats of this shape; a list, a tensor or a generator is as good as an array.

    Raises:
        Unreadable: it does not hold numbers.
        Wrong: it has another shape.
    """
    values = _floats(answer, what)
    if values.shape == shape:
        return values
    if shape == ():
        raise Wrong(f"Expected {what}, not an array; yours has shape {values.shape}.")
    raise Wrong(f"Expected {what}, an array of shape {shape}; yours has shape {values.shape}.")


def _floats(answer: object, what: str) -> np.ndarray:
    if isinstance(answer, Iterator):
        answer = list(answer)
    if isinstance(answer, list | tuple):
        readable: object = [_without_gradient(part) for part in answer]
    else:
        readable = _without_gradient(answer)
    if _holds_none(readable):
        raise Unreadable(answer, f"Expected {what}: there is a None where a number should be.")
    try:
        return np.asarray(readable, dtype=float)
    except (TypeError, ValueError):
        kind = type(answer).__name__
        reason = f"Expected {what} as numbers, all rows of one length; you gave a {kind}."
        raise Unreadable(answer, reason) from None


def _without_gradient(value: object) -> object:
    """A torch tensor as an array; anything else as it is."""
    if hasattr(value, "detach"):
        return value.detach().cpu().double().numpy()
    return value


def _holds_none(value: object) -> bool:
    """NumPy would read None as NaN without a word."""
    if value is None:
        return True
    return isinstance(value, list) and any(part is None for part in value)
