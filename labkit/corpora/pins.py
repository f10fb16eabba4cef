"""The pinned files of MultiWOZ 2.2: which content, of which commit, in which place."""

import os
from typing import NotRequired, TypedDict

from labkit.errors import LabError
from labkit.storage import read_json, shipped

PINS_ACTION = (
    'write {"test/dialogues_001.json": {"repository", "commit", "path", "blob"}, …}, or unset LAB_MULTIWOZ_PINS'
)


class Pin(TypedDict):
    """What a file has to be: `path` in a repository at a commit, its git blob id, and its size in bytes if known."""

    repository: str
    commit: str
    path: str
    blob: str
    size: NotRequired[int]


def pins() -> dict[str, Pin]:
    """{place in the corpus folder: what is to be there}; mwzeval's database, for scoring.

    LAB_MULTIWOZ_PINS names another such file, for a mirror (LAB_MULTIWOZ_URL) that holds another version.

    Raises:
        LabError: that file does not hold such pins, or a place is outside the corpus folder.
    """
    file = os.environ.get("LAB_MULTIWOZ_PINS")
    if not file:
        return shipped(__file__, "pins.json")
    raw = read_json(file)
    return checked_pins(raw, file)


def checked_pins(raw: object, file: str) -> dict[str, Pin]:
    """The pins of a file, each with its fields and with a place below the corpus folder.

    Raises:
        LabError: they are not.
    """
    source = f"LAB_MULTIWOZ_PINS, file {file}"
    if not isinstance(raw, dict) or not raw:
        found = f"it holds {raw!r:.80}, not places and their pins"
        raise LabError(source, found, PINS_ACTION)
    for place, pin in raw.items():
        if not _is_below(place):
            found = f"the place {place!r:.120} is not a path below the corpus folder"
            raise LabError(source, found, PINS_ACTION)
        _check_pin(pin, f"{source}, {place}")
    return raw


def _check_pin(pin: object, where: str) -> None:
    if not isinstance(pin, dict):
        kind = type(pin).__name__
        raise LabError(where, f"the pin is of type {kind}, not dict", PINS_ACTION)
    for name in ("repository", "commit", "path", "blob"):
        value = pin.get(name)
        is_text = isinstance(value, str) and value.isprintable()
        if not is_text or not value:
            found = f"the field {name!r} is {value!r:.80}, no text"
            raise LabError(where, found, PINS_ACTION)
    size = pin.get("size", 0)
    if not isinstance(size, int):
        found = f"the field 'size' is {size!r:.80}, no number of bytes"
        raise LabError(where, found, PINS_ACTION)


def _is_below(place: str) -> bool:
    """A relative path of plain names, on every system: no `..`, no drive, nothing absolute."""
    if not place.isprintable():
        return False
    for part in place.split("/"):
        if part in ("", ".", ".."):
            return False
        if "\\" in part or ":" in part:  # Windows' separator and drives
            return False
    return True


def pinned_source() -> str:
    """Repositories and commits, for the results board and the marker COMPLETE."""
    sources = set()
    for pin in pins().values():
        repository = pin["repository"]
        commit = pin["commit"][:7]
        sources.add(f"{repository}@{commit}")
    return " + ".join(sorted(sources))
