"""What was read from a file is checked where it is read: an error names the file, dialogue, turn and field.

Values come from JSON, so they may be of any type, and text may hold half an emoji, which no tokenizer takes.
"""

import re
from typing import NoReturn, TypeVar

from labkit.errors import LabError

T = TypeVar("T")
MEND = "mend the corpus file, or fetch it again"
LONGEST = 80  # characters of a value that a message shows
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def refuse(place: str, found: str) -> NoReturn:
    """Raise the one line for a value that cannot be used."""
    raise LabError(place, found, MEND)


def brief(text: str) -> str:
    """A text of the file for a message: on one line, without control characters, and not longer than LONGEST."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    if text.isprintable():
        return text
    return repr(text)[1:-1]  # with escapes, without the quotes


def typed(value: object, kind: type[T], place: str, what: str) -> T:
    """The value, which has to be of the type; text is checked as `text` does, and true is no number.

    Raises:
        LabError: it is of another type; `place` and `what` begin the message.
    """
    if type(value) is kind and (kind is not str or value.isascii()):
        return value  # nearly all
    is_kind = isinstance(value, kind)
    if isinstance(value, bool):
        is_kind = kind is bool
    if not is_kind:
        found = type(value).__name__
        expected = kind.__name__
        refuse(place, f"{what} is of type {found}, not {expected}")
    if isinstance(value, str):
        check_characters(value, place, what)
    return value


def text(value: object, place: str, what: str) -> str:
    """The value, which has to be text that can be written to a file.

    Raises:
        LabError: it is no text, or it holds half an emoji.
    """
    return typed(value, str, place, what)


def texts(values: object, place: str, what: str) -> list[str]:
    """The value, which has to be a list of texts."""
    for value in typed(values, list, place, what):
        text(value, place, f"an item of {what}")
    return values


def check_characters(value: str, place: str, what: str) -> None:
    """Refuse a lone surrogate: half of a pair of \\ud83d-like escapes, which is no character.

    Raises:
        LabError: there is one; its position is named.
    """
    if value.isascii():  # a flag of the string, so this costs nothing
        return
    lone = LONE_SURROGATE.search(value)
    if lone:
        code = ord(lone[0])
        start = lone.start()
        refuse(place, f"{what} holds half an emoji (the lone surrogate \\u{code:04x}) at character {start}")


def check_all_characters(value: object, place: str, what: str) -> None:
    """`check_characters` for every text in a value that may be nested.

    Raises:
        LabError: half an emoji in one of them.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            check_characters(item, place, what)
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())


def member(raw: object, name: str, kind: type[T], place: str) -> T:
    """A field of a JSON object, checked for its type.

    Raises:
        LabError: `raw` is no object, the field is missing, or it has another type.
    """
    if not isinstance(raw, dict):
        typed(raw, dict, place, f"what should hold the field {name!r}")
    if name not in raw:
        refuse(place, f"the field {name!r} is missing")
    value = raw[name]
    if type(value) is kind and (kind is not str or value.isascii()):
        return value  # nothing to say: most fields, so no message is put together
    return typed(value, kind, place, f"the field {name!r}")


def members(value: object, place: str, what: str) -> dict[str, object]:
    """The value, which has to be a JSON object; its names are checked for half emojis."""
    for name in typed(value, dict, place, what):
        text(name, place, f"a name in {what}")
    return value
