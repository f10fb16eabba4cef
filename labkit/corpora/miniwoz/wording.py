"""How an act becomes an utterance: a part of a turn, worded by a rule of the phrase file in the speaker's own style."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, NamedTuple

from labkit.corpora.miniwoz.database import DAYS
from labkit.corpora.miniwoz.grammar import NOTHING, Filled, Grammar, pick, sentence_case
from labkit.storage import shipped

NUMBERS = {"1": "one", "2": "two", "3": "three", "4": "four", "5": "five", "6": "six", "7": "seven", "8": "eight"}
PROPER = ("name", "address", "departure", "destination")
SMALL_WORDS = ("and", "of", "the", "del", "du", "by", "on", "at", "in")
TRIES = 20  # wordings that are drawn until one says all that the user has to say


class Say(NamedTuple):
    """A part of a turn: an act ("" for small talk), the rule that words it, its values, and the slots it asks for."""

    act: str
    rule: str
    values: Mapping[str, str] = NOTHING
    asks: tuple[str, ...] = ()
    flags: Mapping[str, str] = NOTHING  # what the rule's conditions look at, beside the values


@dataclass
class Utterance:
    """What was said in a turn, and what it means."""

    speaker: str  # "user" or "bot"
    text: str = ""
    acts: dict[str, list[list[str]]] = field(default_factory=dict)  # {act: [[slot, value]]}
    spans: list[list[Any]] = field(default_factory=list)  # Any: [act, slot, value, start, end], as in span_info
    state: dict[str, dict[str, str]] = field(default_factory=dict)  # the belief state after it


@cache
def phrases() -> dict[str, Any]:  # Any: tables of words, and two grammars
    """The phrase file; "user" and "bot" are grammars."""
    raw = shipped(__file__, "phrases.toml")
    return raw | {speaker: Grammar(raw[speaker]) for speaker in ("user", "bot")}


def nouns(rng: Random, slots: Iterable[str]) -> str:
    """The slots' names in a question: "phone number, address and postcode"."""
    names = [pick(rng, phrases()["nouns"][slot]) for slot in slots]
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def title_case(name: str) -> str:
    """A name with capitals; the length stays the same."""
    words = name.split(" ")
    for number, word in enumerate(words):
        if number == 0 or word not in SMALL_WORDS:
            words[number] = word[:1].upper() + word[1:]
    return " ".join(words)


class Voice:
    """A speaker in one dialogue: "user" or "bot", some of whom write everything in lower case."""

    def __init__(self, speaker: str, rng: Random, lower: float, bare: float = 0.0):
        self.speaker = speaker
        self.rng = rng
        self.lower = rng.random() < lower
        self.bare = rng.random() < bare  # without the last full stop
        self.grammar = Grammar(phrases()[speaker].rules)  # its own: it remembers what this speaker said

    def turn(self, parts: list[Say]) -> Utterance:
        """What the parts say together."""
        said = Utterance(self.speaker)
        for part in parts:
            text, filled = self._word(part, last=part is parts[-1])
            if said.text:
                said.text += " "
            start = len(said.text)
            said.text += text
            if part.act:
                self._annotate(said, part, filled, start)
        for act, pairs in said.acts.items():
            if not pairs:
                said.acts[act] = [["none", "none"]]
        return said

    def _annotate(self, said: Utterance, part: Say, filled: list[Filled], start: int) -> None:
        """Add the part's act, its values and their spans; its wording begins at character `start` of the turn."""
        told = []
        for one in filled:
            slot = one.slot.removesuffix("2")  # the second of two names
            told.append([slot, one.value])
            said.spans.append([part.act, slot, one.value, start + one.start, start + one.end])
        if self.speaker == "user":  # who may say a value by reference, without a word of it
            told = [list(pair) for pair in part.values.items()]
        told += [[slot, "?"] for slot in part.asks]
        pairs = said.acts.setdefault(part.act, [])
        pairs += [pair for pair in told if pair not in pairs]

    def _word(self, part: Say, last: bool) -> tuple[str, list[Filled]]:
        """The wording of a part; one that leaves out what the user has to say is drawn again."""
        given, needed = self._given(part)
        for _ in range(TRIES):
            text, filled = self.grammar.expand(part.rule, self.rng, given)
            if needed <= {value.slot for value in filled}:
                break
        if text[-1:].isalnum() and not (last and self.bare):
            text += "."
        text = text.lower() if self.lower else sentence_case(text)
        return text, [value._replace(value=text[value.start : value.end]) for value in filled]

    def _given(self, part: Say) -> tuple[dict[str, str], set[str]]:
        """What the rule of a part is given: values in this speaker's words, and flags; and the slots it has to say."""
        given: dict[str, str] = {}
        ones: dict[str, str] = {}
        for slot, value in part.values.items():
            if f"_same{slot}" in part.flags:  # said by reference to another domain
                continue
            if value == "1":
                ones[f"_one{slot}"] = ""
            if value != "dontcare":
                given[slot] = self._spoken(slot, value)
        needed = set(given) if self.speaker == "user" else set()
        return {**given, **ones, **part.flags}, needed

    def _spoken(self, slot: str, value: str) -> str:
        """A value as this speaker says it; the bot says the first of its spellings."""
        options = phrases()["spoken"].get(slot if value == "yes" else value, [value])
        if slot in ("bookpeople", "bookstay") and value in NUMBERS and self.rng.random() < 0.25:
            options = [NUMBERS[value]]
        value = pick(self.rng, options) if self.speaker == "user" else options[0]
        is_name = slot.removesuffix("2") in PROPER or value in DAYS
        return title_case(value) if is_name else value
