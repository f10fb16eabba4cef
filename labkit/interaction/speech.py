"""How the user's acts become sentences: by MiniWOZ's grammar, or plainly where neither grammar nor corpus has words."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from labkit.corpora.miniwoz.grammar import pick
from labkit.corpora.miniwoz.wording import Say, Utterance, Voice, nouns, phrases
from labkit.corpora.types import Span, Values
from labkit.interaction.progress import UserAct
from labkit.interaction.wishes import DONT_CARE
from labkit.storage import Json, shipped

PLAIN: Json = shipped(__file__, "sentences.toml")  # {"say": {slot: sentence}, "ask": …, "search": …}
VENUES = ("restaurant", "hotel", "attraction")
WORDED = {  # {kind of act: rule of MiniWOZ's phrase file, without the domain before it}
    "open": "open",
    "give": "give",
    "correct": "give",
    "relax": "relax",
    "book": "book",
    "detail": "detail",
}
CORRECTED = ("food", "pricerange", "area", "type", "stars", "day")  # slots that the rule "correct" has words for
RETRIED = ("booktime", "bookday", "bookstay")


@dataclass(frozen=True)
class Said:
    """A user's sentence, and where its values stand."""

    text: str
    spans: tuple[Span, ...] = ()

    def then(self, other: "Said") -> "Said":
        """This and then the other, as one turn."""
        if not self.text:
            return other
        shift = len(self.text) + 1
        moved = [Span(one.act, one.slot, one.value, one.start + shift, one.end + shift) for one in other.spans]
        return Said(f"{self.text} {other.text}", (*self.spans, *moved))


class Speaker(Protocol):
    """One user's way to speak."""

    def say(self, act: UserAct, is_first: bool) -> Said:
        """The sentence of an act; `is_first`: it opens the conversation."""
        ...


class PlainSpeaker:
    """One fixed sentence for each slot: nobody speaks like that, and everybody understands it."""

    def __init__(self, rng: Random):
        self.rng = rng

    def say(self, act: UserAct, is_first: bool) -> Said:
        """The sentences of all its slots, one after the other."""
        name = f"{act.domain.capitalize()}-Inform"
        said = Said("")
        if act.kind == "open":
            said = Said(PLAIN["open"][act.domain])
        for slot, value in act.values.items():
            if slot in act.same:
                sentence = PLAIN["same"][slot].format(other=act.same[slot])
                said = said.then(Said(sentence))
            else:
                said = said.then(plain_sentence(name, slot, value))
        if act.asks:
            names = _listed([PLAIN["nouns"][slot] for slot in act.asks])
            said = said.then(Said(PLAIN["ask"].format(what=names)))
        if act.kind in ("search", "close"):
            sentence = pick(self.rng, PLAIN[act.kind])
            said = said.then(Said(sentence.format(domain=act.domain)))
        return said


def plain_sentence(act: str, slot: str, value: str) -> Said:
    """One slot in one sentence, with the value where `{value}` stands in sentences.toml."""
    if value == DONT_CARE:
        return Said(PLAIN["dontcare"].format(what=PLAIN["nouns"][slot]))
    if value in ("yes", "no") and slot in PLAIN[value]:
        return Said(PLAIN[value][slot])
    before, after = PLAIN["say"][slot].split("{value}")
    span = Span(act, slot, value, len(before), len(before) + len(value))
    return Said(before + value + after, (span,))


def _listed(words: Sequence[str]) -> str:
    """ "phone number, address and postcode"."""
    *others, last = words
    if not others:
        return last
    return f"{', '.join(others)} and {last}"


class GrammarSpeaker:
    """MiniWOZ's own users: the rules of its phrase file, in one voice for the whole conversation."""

    def __init__(self, rng: Random):
        self.rng = rng
        self.voice = Voice("user", rng, lower=0.3, bare=0.2)
        self.plain = PlainSpeaker(rng)

    def say(self, act: UserAct, is_first: bool) -> Said:
        """A wording of the act; plain sentences where the rule leaves out a value."""
        rule = self._rule(act)
        if not rule:
            return self.plain.say(act, is_first)
        uttered = self.voice.turn([self._part(act, rule, is_first)])
        said = _annotated(uttered)
        found = {span.slot for span in said.spans}
        spoken = {slot for slot, value in act.values.items() if value != DONT_CARE and slot not in act.same}
        if spoken <= found:
            return said
        return self.plain.say(act, is_first)

    def _rule(self, act: UserAct) -> str:
        """The rule of the phrase file for an act, "" where it has none."""
        if act.kind in ("close", "dontcare"):
            return act.kind
        if act.kind == "ask":
            return "askref" if act.asks == ("ref",) else "ask"
        if act.kind == "open" and "name" in act.values and act.domain in VENUES:
            return f"{act.domain}_named"
        slots = tuple(act.values)
        if len(slots) == 1 and act.kind == "correct" and slots[0] in CORRECTED:
            return "correct"
        if act.kind == "retry" and slots[0] in RETRIED:
            return "retry"
        if act.kind == "relax" and act.domain not in VENUES:
            return f"{act.domain}_give"
        rule = f"{act.domain}_{WORDED.get(act.kind, '')}"
        return rule if rule in phrases()["user"].rules else ""

    def _part(self, act: UserAct, rule: str, is_first: bool) -> Say:
        flags = {"_domain": act.domain}
        if is_first:
            flags["_first"] = ""
        for slot, other in act.same.items():
            flags[f"_same{slot}"] = ""
            flags["_other"] = other
        asked = act.asks or tuple(slot for slot, value in act.values.items() if value == DONT_CARE)
        if asked:
            flags["_what"] = nouns(self.rng, asked)
        kind = "Request" if act.asks else "Inform"
        name = "general-thank" if act.kind == "close" else f"{act.domain.capitalize()}-{kind}"
        return Say(name, rule, act.values, act.asks, flags)


def _annotated(uttered: Utterance) -> Said:
    spans = []
    for act, slot, value, start, end in uttered.spans:
        if not slot.startswith("_"):
            spans.append(Span(act, slot, value, start, end))
    return Said(uttered.text, tuple(spans))


def spoken_values(act: UserAct) -> Values:
    """The values of an act that can be found again in its words: not a reference, not "any will do"."""
    return {slot: value for slot, value in act.values.items() if slot not in act.same and value != DONT_CARE}
