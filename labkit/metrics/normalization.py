"""One spelling for replies and belief states, so that systems with different conventions can be compared.

The definitions are those of Nekvinda & Dušek (2021), "Shades of BLEU, Flavours of Success: The Case of MultiWOZ". How
names, foods and times are misspelled in the corpus is data: spellings.json.
"""

import re
from functools import lru_cache

from sacremoses import MosesDetokenizer, MosesTokenizer

from labkit.corpora.slots import CLASS_OF
from labkit.corpora.types import State
from labkit.storage import shipped

SPELLINGS: dict[str, dict[str, str]] = shipped(__file__, "spellings.json")
TABLE_OF = dict.fromkeys(("name", "destination", "departure"), "name") | {"food": "food", "type": "type"}
TABLE_OF |= {"parking": "present", "internet": "present"}
TIME_SLOTS = ("arrive", "leave", "arriveby", "leaveat", "time")
_PLACEHOLDER = re.compile(r"\[([\w\s]+)\](?:-?e?s)?")  # with a plural ending: "[restaurant_name]s"
# Moses leaves a word as it is wherever it stands, and moves a mark to the word before it.
_WORD, _MARK = re.compile(r"[A-Za-z0-9-]+[.,?!]?"), re.compile(r"[.,?!]")
_FREE_OF_CONTEXT = re.compile(r"(?!\s*,)(?:[A-Za-z0-9\s.,?!:;%/-]|(?<=[A-Za-z])'(?=[A-Za-z]))*")
_TOKENIZER, _DETOKENIZER = MosesTokenizer(lang="en"), MosesDetokenizer(lang="en")


@lru_cache(maxsize=2**17)
def normalise_reply(text: str) -> tuple[str, tuple[str, ...]]:
    """(lower-case reply with class names for placeholders, names of placeholders that no class has).

    >>> normalise_reply("There are [value_choice] [restaurant_food] places , how about [hotel_name]s ?")[0]
    'there are COUNT FOOD places, how about NAME?'
    """
    text = text.lower()
    unknown = tuple(name for name in _PLACEHOLDER.findall(text) if name not in CLASS_OF)
    text = _PLACEHOLDER.sub(lambda match: CLASS_OF.get(match[1], ""), text)
    return respaced(text.replace("-s", "").replace("-ly", "")), unknown


def respaced(text: str) -> str:
    """What Moses tokenisation and then detokenisation give: `12:30 , ok` → `12: 30, ok`.

    Without quotes, brackets and currency signs, what becomes of a word doesn't depend on its neighbours, so that the
    text is put together from words seen before. All other text goes through sacremoses as a whole.
    """
    if _FREE_OF_CONTEXT.fullmatch(text):
        return "".join(map(_respaced_word, text.split())).strip()
    return _moses(text)


@lru_cache(maxsize=2**16)
def _respaced_word(word: str) -> str:
    """A word as it stands in a text, with the space before it if it keeps one."""
    if _WORD.fullmatch(word):
        return f" {word}"
    return word if _MARK.fullmatch(word) else _moses(f"x {word} x")[1:-2]


def _moses(text: str) -> str:
    return _DETOKENIZER.detokenize(_TOKENIZER.tokenize(text))


def normalise_state(state: State) -> State:
    """Slot names and values in one spelling; domains as they are, in their order."""
    return {d: {(slot := slot_name(s)): slot_value(slot, v) for s, v in slots.items()} for d, slots in state.items()}


@lru_cache(maxsize=2**12)
def slot_name(name: str) -> str:
    """The short name of a slot or of a database column: `arriveBy` → `arrive`, `price range` → `pricerange`."""
    name = name.lower().replace(" ", "")
    return {"arriveby": "arrive", "leaveat": "leave"}.get(name, name)


@lru_cache(maxsize=2**16)
def slot_value(slot: str, value: str) -> str:
    """The value in the spelling of the database.

    >>> slot_value("name", "Nando's"), slot_value("leave", "after 5:15 pm"), slot_value("parking", "free")
    ('nandos', '17:15', 'yes')
    """
    table = TABLE_OF.get(slot, "")
    if slot in TIME_SLOTS:
        return clock(value.strip().lower())
    if table in ("name", "food"):
        value = value.strip().lower()
    if table == "name":
        value = value.replace(" & ", " and ").replace("&", " and ").replace(" '", "'")
    return SPELLINGS[table].get(value, value) if table else value


def clock(text: str) -> str:
    """A time as HH:MM where it can be read as one, else as it is: `by 9:05` → `09:05`, `5 pm` → `17:00`."""
    beginnings = (time for beginning, time in SPELLINGS["time_beginning"].items() if text.startswith(beginning))
    if spelled := SPELLINGS["time"].get(text) or next(beginnings, None):
        return spelled
    text = re.sub(r"^(?:by.?)?(?:after\s*)?(?:afer\s*)?", "", text)
    text = _without(text, "am", "a.m.")
    afternoon, text = text.endswith(("pm", "p.m.")), _without(text, "pm", "p.m.")
    hour, colon, rest = text.partition(":")
    if afternoon and ":" not in rest and hour.strip().isdecimal():
        return f"{int(hour) + 12}:{rest if colon else '00'}"
    return _digits(text[:-1] if text.endswith((".", ",", "?")) else text) if text else "00:00"


def _without(text: str, *endings: str) -> str:
    for ending in endings:
        text = text.removesuffix(ending).strip() if text.endswith(ending) else text
    return text


def _digits(text: str) -> str:
    """Digits, with or without a colon, as HH:MM."""
    if text.isdigit():
        return f"{text[:2]}:{text[2:]}" if len(text) == 4 else f"{text.zfill(2)}:00"
    text = text.replace(" ", "") if ":" in text else text
    hour, *rest = text.split(":")
    return f"{hour.zfill(2)}:{rest[0]}" if len(text) == 4 and text[1] == ":" else text


@lru_cache(maxsize=2**14)
def minutes(time: str) -> int:
    """Minutes since midnight of a text that begins with HH:MM, 0 of any other."""
    match = re.match(r"([0-9]{2}):([0-9]{2,})", time)
    return int(match[1]) * 60 + int(match[2]) if match else 0
