"""Dialogues of the simulator in other worlds: a restaurant becomes a workshop, a clinic or a library, a name another.

They hang together as MiniWOZ's do, so a model that reads them learns to ask for what has not been said yet. None is
about a lab domain, and what they talk about is drawn anew for every dialogue.
"""

import re
from collections.abc import Callable, Iterable
from random import Random

from labkit.corpora.miniwoz.goals import sample_tasks
from labkit.corpora.miniwoz.grammar import capitalised, pick, shuffled
from labkit.corpora.miniwoz.simulator import simulate
from labkit.corpora.miniwoz.wording import Utterance
from labkit.storage import Json, shipped

WORLDS: Json = shipped(__file__, "elsewhere.toml")  # areas, and for each domain several services
COMPASS = ("north", "south", "east", "west", "centre")
MADE_UP = {  # {slot: rule of the phrase file}
    "name": "venue",
    "name2": "venue",
    "address": "street",
    "departure": "place",
    "destination": "place",
}
BEFORE_CONSONANT = re.compile(r"\b([Aa])n(?= [^\WaeiouhAEIOUH])")


class World:
    """What stands for what in one dialogue; `make_up(rule)` invents a name by a rule of the phrase file."""

    def __init__(self, rng: Random, make_up: Callable[[str], str]):
        self.rng = rng
        self.make_up = make_up
        services = {}
        for domain, choices in WORLDS["services"].items():
            services[domain] = pick(rng, choices)
        self.words = self._vocabulary(services.values())
        self.kinds: dict[str, list[str]] = {}  # {domain: what its kinds of things become}
        for domain, service in services.items():
            if "kinds" in service:
                self.kinds[domain] = shuffled(rng, service["kinds"])
        areas = COMPASS
        if rng.random() < 0.5:
            areas = shuffled(rng, WORLDS["areas"])
        self.values: dict[tuple[str, str], str] = {}  # {(slot, value): what stands for it}
        for side, area in zip(COMPASS, areas, strict=False):
            self.values["area", side] = area
        longest_first = sorted(self.words, key=len, reverse=True)
        any_word = "|".join(longest_first)
        self.pattern = re.compile(rf"\b({any_word})\b", re.IGNORECASE)

    def _vocabulary(self, services: Iterable[Json]) -> dict[str, str]:  # a service of elsewhere.toml
        """{word: what stands for it}, with their plurals."""
        words = {"halderby": self.make_up("place")}
        for service in services:
            words.update(service["words"])
        plurals = {}
        for word, other in words.items():
            plurals[f"{word}s"] = f"{other}s"
        return plurals | words

    def dialogue(self) -> str:
        """`user> ` and `bot> ` lines; its goal is one of the training split's."""
        tasks = sample_tasks(self.rng, "train")
        talk = simulate(self.rng, tasks)
        text = ""
        for turn in talk.turns:
            translated = self._translate(turn)
            text += f"{turn.speaker}> {translated}\n"
        return text

    def _translate(self, turn: Utterance) -> str:
        text = ""
        end = 0
        is_lower = turn.text.islower()
        in_order = sorted(turn.spans, key=lambda span: span[3])
        for act, slot, value, start, stop in in_order:
            domain, _ = act.lower().split("-")
            new = self._value(domain, slot, value.lower())
            if is_lower:
                new = new.lower()
            between = turn.text[end:start]
            text += self._words(between)
            text += new or self._words(value)
            end = stop
        rest = turn.text[end:]
        text += self._words(rest)
        return BEFORE_CONSONANT.sub(r"\1", text)

    def _words(self, text: str) -> str:
        def other(match: re.Match[str]) -> str:
            found = match[0]
            word = self.words[found.lower()]
            return capitalised(word) if found[0].isupper() else word

        return self.pattern.sub(other, text)

    def _value(self, domain: str, slot: str, value: str) -> str:
        """What stands for the value, the same in the whole dialogue; "" if it stays."""
        if (slot, value) in self.values:
            return self.values[slot, value]
        is_kind = slot in ("food", "type")
        if is_kind and domain in self.kinds:
            other = self.kinds[domain].pop()
        elif slot in MADE_UP:
            rule = MADE_UP[slot]
            other = self.make_up(rule)
        else:
            return ""
        self.values[slot, value] = other
        return other
