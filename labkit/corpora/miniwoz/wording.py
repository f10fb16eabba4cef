"""How an act becomes an utterance: a part of a turn, worded by a rule of the phrase file in the speaker's own style."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import NamedTuple

from labkit.corpora.miniwoz.database import DAYS
from labkit.corpora.miniwoz.grammar import NOTHING, Filled, Grammar, Values, capitalised, pick, sentence_case
from labkit.corpora.types import State
from labkit.storage import Json, shipped

NUMBERS = {
    "1": "one",
    "2": "two",
    "3": "three",
    "4": "four",
    "5": "five",
    "6": "six",
    "7": "seven",
    "8": "eight",
}
COUNTS = ("bookpeople", "bookstay")
PROPER = ("name", "address", "departure", "destination")
SMALL_WORDS = ("and", "of", "the", "del", "du", "by", "on", "at", "in")
TRIES = 20  # wordings that are drawn until one says all that the user has to say


class Say(NamedTuple):
    """A part of a turn: an act ("" for small talk), the rule that words it, its values, and the slots it asks for."""

    act: str
    rule: str
    values: Values = NOTHING
    asks: tuple[str, ...] = ()
    flags: Values = NOTHING  # what the rule's conditions look at, beside the values


def small_talk(rule: str) -> Say:
    """A part of a turn that means nothing for the task."""
    return Say(act="", rule=rule)


@dataclass
class Utterance:
    """What was said in a turn, and what it means."""

    speaker: str  # "user" or "bot"
    text: str = ""
    acts: dict[str, list[list[str]]] = field(default_factory=dict)  # {act: [[slot, value]]}
    spans: list[list[object]] = field(default_factory=list)  # [act, slot, value, start, end], as in span_info
    state: State = field(default_factory=dict)  # the belief state after it


@cache
def phrases() -> Json:  # tables of words, and two grammars
    """The phrase file; "user" and "bot" are grammars."""
    content = shipped(__file__, "phrases.toml")
    for speaker in ("user", "bot"):
        content[speaker] = Grammar(content[speaker])
    return content


def nouns(rng: Random, slots: Iterable[str]) -> str:
    """The slots' names in a question: "phone number, address and postcode"."""
    known = phrases()["nouns"]
    *first, last = [pick(rng, known[slot]) for slot in slots]
    if not first:
        return last
    return ", ".join(first) + f" and {last}"


def title_case(name: str) -> str:
    """A name with capitals; the length stays the same."""
    words = name.split(" ")
    for number, word in enumerate(words):
        is_small = number > 0 and word in SMALL_WORDS
        if not is_small:
            words[number] = capitalised(word)
    return " ".join(words)


class Voice:
    """A speaker in one dialogue: "user" or "bot", some of whom write everything in lower case."""

    def __init__(self, speaker: str, rng: Random, lower: float, bare: float = 0.0):
        self.speaker = speaker
        self.rng = rng
        self.lower = rng.random() < lower
        self.bare = rng.random() < bare  # without the last full stop
        rules = phrases()[speaker].rules
        self.grammar = Grammar(rules)  # its own: it remembers what this speaker said

    def turn(self, parts: list[Say]) -> Utterance:
        """What the parts say together."""
        said = Utterance(self.speaker)
        for part in parts:
            is_last = part is parts[-1]
            text, filled = self._word(part, is_last)
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
        for slot, value, begin, end in filled:
            slot = slot.removesuffix("2")  # the second of two names
            told.append([slot, value])
            first = start + begin
            stop = start + end
            said.spans.append([part.act, slot, value, first, stop])
        if self.speaker == "user":  # who may say a value by reference, without a word of it
            told = [[slot, value] for slot, value in part.values.items()]
        told += [[slot, "?"] for slot in part.asks]
        pairs = said.acts.setdefault(part.act, [])
        pairs += [pair for pair in told if pair not in pairs]

    def _word(self, part: Say, is_last: bool) -> tuple[str, list[Filled]]:
        """The wording of a part; one that leaves out what the user has to say is drawn again."""
        given, needed = self._given(part)
        for _ in range(TRIES):
            text, filled = self.grammar.expand(part.rule, self.rng, given)
            said = {value.slot for value in filled}
            if needed <= said:
                break
        ends_bare = is_last and self.bare
        if text[-1:].isalnum() and not ends_bare:
            text += "."
        text = text.lower() if self.lower else sentence_case(text)
        return text, [_as_written(value, text) for value in filled]

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
        needed = set()
        if self.speaker == "user":
            needed = set(given)
        return {**given, **ones, **part.flags}, needed

    def _spoken(self, slot: str, value: str) -> str:
        """A value as this speaker says it; the bot says the first of its spellings."""
        named = slot if value == "yes" else value
        spellings = phrases()["spoken"]
        options = spellings.get(named, [value])
        is_count = slot in COUNTS and value in NUMBERS
        if is_count and self.rng.random() < 0.25:
            options = [NUMBERS[value]]
        spoken = options[0]
        if self.speaker == "user":
            spoken = pick(self.rng, options)
        is_name = slot.removesuffix("2") in PROPER
        if is_name or spoken in DAYS:
            return title_case(spoken)
        return spoken


def _as_written(value: Filled, text: str) -> Filled:
    """The value with the capitals that it has in the text."""
    return value._replace(value=text[value.start : value.end])
