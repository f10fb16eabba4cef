"""Is what scoring gets of the type that it should be? Corpus files are checked when they are read: labkit.corpora.

A corpus or predictions can also be made in memory; then this is the first check.
"""

from typing import TypeVar

from labkit.errors import LabError

Kind = TypeVar("Kind")
KINDS = {str: "text", list: "a list", dict: "an object", int: "a whole number"}
SHOWN = 40  # characters of a wrong value that an error quotes


def typed(value: object, kind: type[Kind], action: str, *place: str) -> Kind:
    """The value itself, if it is of the kind.

    Args:
        action: what to do when it is of another kind.
        place: where it stands, from the outside to the inside, e.g. "dialogue pmul1, turn 0", "response".

    Raises:
        LabError: it is of another kind; the place, the value and its type are named.
    """
    if isinstance(value, kind):
        return value
    found = f"{quoted(value)} is of type {type(value).__name__}, not {KINDS.get(kind, kind.__name__)}"
    raise LabError(printable(", ".join(place)), found, action)


def quoted(value: object) -> str:
    """The beginning of a value as text in quotation marks, for an error; never an error itself.

    `str` fails for a whole number of more than 4,300 digits and for what is nested a thousand levels deep.
    """
    try:
        text = str(value)
    except (ValueError, RecursionError):
        text = "…"
    return repr(text[:SHOWN])  # which also escapes half emojis: no screen can show them


def printable(text: str) -> str:
    """The text with half emojis (lone surrogates) as escapes: neither a file nor a screen takes them otherwise.

    >>> printable("half \\ud83d an emoji") == "half \\\\ud83d an emoji"
    True
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
