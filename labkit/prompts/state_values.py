"""The values that a belief state may have: by the schema, by the database, and by what was said."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from labkit.corpora.types import Corpus, Dialogue, Entity, Service, State
from labkit.errors import LabError
from labkit.prompts.text import NOT_SAID, one_line

DONT_CARE = "dontcare"
REQUESTED = {  # slots of the schema that a user asks for: the bot tells them, and no state has them
    "address",
    "phone",
    "postcode",
    "ref",
    "entrancefee",
    "openhours",
    "trainid",
    "price",
    "duration",
}
TIMED = {"leaveat", "arriveby", "booktime"}  # slots whose values are clock times
COUNTED = {
    "day",
    "bookday",
    "bookpeople",
    "bookstay",
}  # … whose values are said as written, or as a number word
NAMED = {"name", "departure", "destination", *TIMED, *COUNTED}  # … that nobody leaves to the bot
NUMBERS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8"}
CLOCK = re.compile(r"\b\d{1,2}:\d\d\b")
LONGEST_RUN = 6  # words of a value that was said
AROUND_WORDS = " .,?!:;\"()[]'"
SYNTAX = re.compile(r"[;|=]")  # a value that holds one of these could not be read back


@dataclass(frozen=True)
class SlotValues:
    """The values of a slot that the schema and the database know; of an open slot there may be others."""

    known: frozenset[str]
    is_open: bool


Slots = dict[str, dict[str, SlotValues]]  # {domain: {slot: its values}}


@dataclass(frozen=True)
class Heard:
    """What a belief state can be made of: all that was said, this turn's words last, and the state before the turn."""

    texts: tuple[str, ...]
    before: State

    @classmethod
    def of(cls, dialogue: Dialogue, turn: int) -> "Heard":
        """Up to a user turn, that turn included; both speakers' words."""
        texts = tuple(said.utterance for said in dialogue.turns[: 2 * turn + 1])
        before = dialogue.turns[2 * turn - 2].state if turn else {}
        return cls(texts, before)


def slots_of(corpus: Corpus) -> Slots:
    """The slots that a belief state can have by a corpus' schema, with the values of the schema and the database.

    Raises:
        LabError: the corpus has no schema.
    """
    if not corpus.schema:
        raise LabError(f"{corpus.name} has no schema", "no grammar without one", "put schema.json into its folder")
    slots: Slots = {}
    for service in corpus.schema:
        domain = str(service["service_name"])
        entities = corpus.database.get(domain, [])
        of_domain = _slots_of(service, domain, entities if isinstance(entities, list) else [])
        if of_domain:
            slots[domain] = of_domain
    return slots


def _slots_of(service: Service, domain: str, entities: list[Entity]) -> dict[str, SlotValues]:
    slots = {}
    for slot in service.get("slots", []):
        name = str(slot["name"]).partition("-")[2].lower()
        is_requested = name in REQUESTED or (domain, name) == ("taxi", "type")  # of a taxi, the bot tells the type
        if is_requested:
            continue
        listed = slot.get("possible_values") or []
        texts = {DONT_CARE, *map(str, listed), *_column(entities, name)}
        known = frozenset(text for text in texts if is_writable(text))
        is_open = not (listed and slot.get("is_categorical"))
        slots[name] = SlotValues(known, is_open)
    return slots


def _column(entities: list[Entity], slot: str) -> Iterator[str]:
    """The texts in the database's column of a slot, which it may spell `leaveAt` or `price range`."""
    for entity in entities:
        for column, value in entity.items():
            if column.lower().replace(" ", "") == slot and isinstance(value, str):
                yield one_line(value).lower()


def is_writable(value: str) -> bool:
    """Whether a value, written in a state line, is read back as it was."""
    return bool(value) and value == one_line(value) and not SYNTAX.search(value)


def is_spelt(value: str, letters: frozenset[str] | None) -> bool:
    """Whether a value needs no other letters."""
    return letters is None or letters.issuperset(value)


def said_slots(slots: Slots, heard: Heard, *, changes: bool) -> Slots:
    """The slots of a dialogue with those values only that somebody could mean; slots without one are left out.

    An open value has to be known to the database, or a clock time, and to be said; so has a day or a number. Of
    `changes` a slot some of whose values were said in this turn takes one of these, and one that has a value gets no
    other that was said before.
    """
    anywhere: set[str] = set()
    for names in slots.values():
        anywhere.update(*(values.known for values in names.values() if values.is_open))
    narrowed: Slots = {}
    for domain, names in slots.items():
        held = heard.before.get(domain, {}) if changes else {}
        for slot, values in names.items():
            known = values.known - {DONT_CARE}
            candidates = known or frozenset(anywhere - {DONT_CARE})  # a taxi goes to places that other domains know
            if slot in TIMED:
                candidates = frozenset(time for text in heard.texts for time in CLOCK.findall(text))
            now = _said_of(candidates, heard.texts[-1:])
            meant = now
            if not (now and changes):
                has_to_be_said = values.is_open or slot in COUNTED
                meant = _not_said_now(slot, candidates, heard, has_to_be_said=has_to_be_said, is_held=slot in held)
            if meant:
                narrowed.setdefault(domain, {})[slot] = SlotValues(meant, is_open=False)
    return narrowed


def _not_said_now(
    slot: str, candidates: frozenset[str], heard: Heard, *, has_to_be_said: bool, is_held: bool
) -> frozenset[str]:
    """The values that a slot can get although none of them was said in this turn."""
    meant = candidates
    if has_to_be_said:
        meant = frozenset() if is_held else _said_of(candidates, heard.texts)
    if is_held:
        meant |= {NOT_SAID}
    return meant if slot in NAMED else meant | {DONT_CARE}


def _said_of(values: frozenset[str], texts: tuple[str, ...]) -> frozenset[str]:
    """Those of some values that are among the words of some texts."""
    said = _said_in(texts)
    return frozenset(value for value in values if plain(value) in said)


def is_said(value: str, text: str) -> bool:
    """Whether a value is among the words of a text.

    >>> is_said("2", "for two people"), is_said("concerthall", "I like concert halls."), is_said("oxmoor", "To Oxmoor!")
    (True, True, True)
    """
    return bool(_said_of(frozenset([value]), (text,)))


@lru_cache(maxsize=2**8)
def _said_in(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset().union(*(_said(text) for text in texts))


@lru_cache(maxsize=2**12)
def _said(text: str) -> frozenset[str]:
    said = {plain(run) for run in runs_of(text)}
    numbers = {number for word, number in NUMBERS.items() if word in said}
    return frozenset(said | numbers)


@lru_cache(maxsize=2**14)
def plain(words: str) -> str:
    """Without what a user may leave out or add: spaces, and the s of a plural."""
    return words.lower().replace(" ", "").removesuffix("s")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without what stands around them."""
    return [word.strip(AROUND_WORDS) for word in text.lower().split()]


@lru_cache(maxsize=2**12)
def runs_of(text: str) -> tuple[str, ...]:
    """The runs of words in a text that could be a value, in lower case."""
    words = words_of(text)
    runs = []
    for first in range(len(words)):
        last = min(first + LONGEST_RUN, len(words))
        for end in range(first + 1, last + 1):
            runs.append(one_line(" ".join(words[first:end])))
    return tuple(run for run in runs if is_writable(run))
