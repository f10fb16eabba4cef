"""One spelling for belief states and for what the database is searched with.

How names, foods and times are misspelled in the corpus is data: spellings.json. The definitions are those of Nekvinda &
Dušek (2021), "Shades of BLEU, Flavours of Success: The Case of MultiWOZ".
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from labkit.corpora.types import State
from labkit.storage import shipped

SPELLINGS: dict[str, dict[str, str]] = shipped(__file__, "spellings.json")
TABLE_OF = {  # slot -> the table of SPELLINGS that its values are looked up in
    "name": "name",
    "destination": "name",
    "departure": "name",
    "food": "food",
    "type": "type",
    "parking": "present",
    "internet": "present",
}
TIME_SLOTS = ("arrive", "leave", "arriveby", "leaveat", "time")
SHORT_NAMES = {"arriveby": "arrive", "leaveat": "leave"}
LONGEST_HOUR = 9  # digits; a longer number is no hour, and int() refuses to read thousands of digits

_BEFORE_TIME = re.compile(r"^(?:by.?)?(?:after\s*)?(?:afer\s*)?")


def normalise_state(state: Mapping[str, Mapping[str, str]]) -> State:
    """Slot names and values in one spelling; domains as they are, in their order."""
    result: State = {}
    for domain, slots in state.items():
        result[domain] = {}
        for name, value in slots.items():
            slot = slot_name(name)
            result[domain][slot] = slot_value(slot, value)
    return result


@lru_cache(maxsize=2**12)
def slot_name(name: str) -> str:
    """The short name of a slot or of a database column: `arriveBy` → `arrive`, `price range` → `pricerange`."""
    name = name.lower().replace(" ", "")
    return SHORT_NAMES.get(name, name)


@lru_cache(maxsize=2**16)
def slot_value(slot: str, value: str) -> str:
    """The value in the spelling of the database.

    >>> slot_value("name", "Nando's"), slot_value("leave", "after 5:15 pm"), slot_value("parking", "free")
    ('nandos', '17:15', 'yes')
    """
    if slot in TIME_SLOTS:
        return clock(value.strip().lower())
    if slot not in TABLE_OF:
        return value
    table = TABLE_OF[slot]
    if table in ("name", "food"):
        value = value.strip().lower()
    if table == "name":
        value = value.replace(" & ", " and ")
        value = value.replace("&", " and ")
        value = value.replace(" '", "'")
    return SPELLINGS[table].get(value, value)


def clock(text: str) -> str:
    """A time as HH:MM where it can be read as one, else as it is: `by 9:05` → `09:05`, `5 pm` → `17:00`."""
    spelled = _spelled_time(text)
    if spelled:
        return spelled
    text = _BEFORE_TIME.sub("", text)
    text = _without_ending(text, "am", "a.m.")
    is_afternoon = text.endswith(("pm", "p.m."))
    text = _without_ending(text, "pm", "p.m.")
    hour, colon, rest = text.partition(":")
    if is_afternoon and ":" not in rest and _is_hour(hour.strip()):
        afternoon_hour = int(hour) + 12
        return f"{afternoon_hour}:{rest if colon else '00'}"
    if not text:
        return "00:00"
    if text.endswith((".", ",", "?")):
        text = text[:-1]
    return _padded(text)


def _spelled_time(text: str) -> str | None:
    """The time of a spelling that the tables have, whole or as the beginning of the text."""
    if SPELLINGS["time"].get(text):
        return SPELLINGS["time"][text]
    for beginning, time in SPELLINGS["time_beginning"].items():
        if text.startswith(beginning):
            return time
    return None


def _is_hour(text: str) -> bool:
    return text.isdecimal() and len(text) <= LONGEST_HOUR


def _without_ending(text: str, *endings: str) -> str:
    for ending in endings:
        if text.endswith(ending):
            text = text.removesuffix(ending).strip()
    return text


def _padded(text: str) -> str:
    """Digits, with or without a colon, as HH:MM."""
    if text.isdigit():
        if len(text) == 4:
            return f"{text[:2]}:{text[2:]}"
        return f"{text.zfill(2)}:00"
    if ":" in text:
        text = text.replace(" ", "")
    if len(text) == 4 and text[1] == ":":
        hour, minute, *_ = text.split(":")
        return f"{hour.zfill(2)}:{minute}"
    return text
