"""An answer as text, for the report that a student hands in. None of the student's code runs for it."""

import inspect
from contextlib import suppress
from types import FunctionType

from labkit.shown import readable

LONGEST = 4000  # characters of an answer that are kept
_SIMPLE = (str, int, float, bool, type(None))
_HOLDERS = (tuple, list, set, frozenset)


def given(answer: object) -> str:
    """The source of a function, a simple value as Python writes it, of anything else its type."""
    if type(answer) is FunctionType:
        return _cut(_source(answer))
    return _cut(_as_python(answer))


def _source(function: FunctionType) -> str:
    with suppress(OSError, TypeError, ValueError, SyntaxError):
        return inspect.getsource(function.__code__)
    return f"a function named {function.__name__}"


def _as_python(value: object) -> str:
    """Exact built-in types only: the `repr` of a student's class is the student's code."""
    try:
        return _written(value)
    except (ValueError, RecursionError):  # a number of more than some thousand digits; a tuple in a tuple in a tuple …
        return f"a {type(value).__name__} that is too large to write"


def _written(value: object) -> str:
    if type(value) in _SIMPLE:
        return repr(value)
    if type(value) in _HOLDERS and all(type(part) in _SIMPLE for part in value):  # type: ignore[attr-defined]
        return repr(value)
    if type(value) is tuple:
        parts = [_as_python(part) for part in value]
        return f"({', '.join(parts)})"
    return f"a {type(value).__name__}"


def _cut(text: str) -> str:
    text = readable(text)
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 1]}…"
