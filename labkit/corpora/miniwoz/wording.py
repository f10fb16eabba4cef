"""How an act becomes an utterance: a part of a turn, worded by a rule of the phrase file in the speaker's own style."""

from collections.abc import Iterable, Mapping
from functools import cache
from random import Random
from typing import Any, NamedTuple

from labkit.corpora.miniwoz.database import DAYS
from labkit.corpora.miniwoz.grammar import Filled, Grammar, pick, sentence_case
from labkit.storage import shipped

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
PROPER = ("name", "address", "departure", "destination")
SMALL_WORDS = ("and", "of", "the", "del", "du", "by", "on", "at", "in")


class Say(NamedTuple):
    """A part of a turn: an act ("" for small talk), the rule that words it, its values, and the slots it asks for."""

    act: str
    rule: str
    values: Mapping[str, str] = {}
    asks: tuple[str, ...] = ()
    flags: Mapping[str, str] = {}  # what the rule's conditions look at, beside the values


@cache
def phrases() -> dict[str, Any]:
    """The phrase file; "user" and "bot" are grammars."""
    raw = shipped(__file__, "phrases.toml")
    return raw | {speaker: Grammar(raw[speaker]) for speaker in ("user", "bot")}


def nouns(rng: Random, slots: Iterable[str]) -> str:
    """The slots' names in a question: "phone number, address and postcode"."""
    *most, last = [pick(rng, phrases()["nouns"][slot]) for slot in slots]
    return f"{', '.join(most)} and {last}" if most else last


def title_case(name: str) -> str:
    """A name with capitals; the length stays the same."""
    words = enumerate(name.split(" "))
    return " ".join(word if n and word in SMALL_WORDS else word[:1].upper() + word[1:] for n, word in words)


class Voice:
    """A speaker in one dialogue: "user" or "bot", some of whom write everything in lower case."""

    def __init__(self, speaker: str, rng: Random, lower: float, bare: float = 0.0):
        self.speaker, self.rng = speaker, rng
        self.lower, self.bare = rng.random() < lower, rng.random() < bare  # bare: without the last full stop
        self.grammar: Grammar = phrases()[speaker]
        self.grammar.remembered.clear()

    def turn(self, parts: list[Say]) -> dict[str, Any]:
        """What the parts say together: utterance, acts {act: [[slot, value]]}, spans as in span_info."""
        utterance, acts, spans = "", {}, []
        for part in parts:
            text, filled = self._word(part, last=part is parts[-1])
            start = len(utterance) + bool(utterance)
            utterance = f"{utterance} {text}".lstrip()
            found = [(one.slot.removesuffix("2"), one.value, start + one.start, start + one.end) for one in filled]
            said = part.values.items() if self.speaker == "user" else [one[:2] for one in found]
            if part.act:
                pairs = acts.setdefault(part.act, [])
                told = map(list, (*said, *((slot, "?") for slot in part.asks)))
                pairs += [pair for pair in told if pair not in pairs]
                spans += [[part.act, *one] for one in found]
        acts = {act: pairs or [["none", "none"]] for act, pairs in acts.items()}
        return {"speaker": self.speaker, "utterance": utterance, "acts": acts, "spans": spans}

    def _word(self, part: Say, last: bool) -> tuple[str, list[Filled]]:
        """The wording of a part; one that leaves out what the user has to say is drawn again."""
        said = {slot: value for slot, value in part.values.items() if f"_same{slot}" not in part.flags}
        given = {slot: self._spoken(slot, value) for slot, value in said.items() if value != "dontcare"}
        needed = set(given) if self.speaker == "user" else set()
        given |= {f"_one{slot}": "" for slot, value in said.items() if value == "1"} | dict(part.flags)
        for _ in range(20):
            text, spans = self.grammar.expand(part.rule, self.rng, given)
            if needed <= {span.slot for span in spans}:
                break
        text += "." if text[-1:].isalnum() and not (last and self.bare) else ""
        text = text.lower() if self.lower else sentence_case(text)
        return text, [span._replace(value=text[span.start : span.end]) for span in spans]

    def _spoken(self, slot: str, value: str) -> str:
        options = phrases()["spoken"].get(slot if value == "yes" else value, [value])
        if slot in ("bookpeople", "bookstay") and value in "12345678" and self.rng.random() < 0.25:
            options = [NUMBERS[int(value)]]
        value = pick(self.rng, options) if self.speaker == "user" else options[0]
        return title_case(value) if slot.removesuffix("2") in PROPER or value in DAYS else value
