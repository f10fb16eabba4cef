"""Dialogues of the simulator in other worlds: a restaurant becomes a workshop, a clinic or a library, a name another.

They hang together as MiniWOZ's do, so a model that reads them learns to ask for what has not been said yet. None is
about a lab domain, and what they talk about is drawn anew for every dialogue.
"""

import re
from collections.abc import Callable
from random import Random
from typing import Any

from labkit.corpora.miniwoz.goals import sample_tasks
from labkit.corpora.miniwoz.grammar import pick, shuffled
from labkit.corpora.miniwoz.simulator import Conversation
from labkit.storage import shipped

WORLDS: dict[str, Any] = shipped(__file__, "elsewhere.toml")
COMPASS = ("north", "south", "east", "west", "centre")
MADE_UP = {"name": "venue", "name2": "venue", "address": "street", "departure": "place", "destination": "place"}
BEFORE_CONSONANT = re.compile(r"\b([Aa])n(?= [^\WaeiouhAEIOUH])")


class World:
    """What stands for what in one dialogue; `make_up(rule)` invents a name by a rule of the phrase file."""

    def __init__(self, rng: Random, make_up: Callable[[str], str]):
        self.rng, self.make_up = rng, make_up
        skins = {domain: pick(rng, choices) for domain, choices in WORLDS["services"].items()}
        words = {"halderby": make_up("place")} | {w: o for skin in skins.values() for w, o in skin["words"].items()}
        self.words = {f"{word}s": f"{other}s" for word, other in words.items()} | words
        self.kinds = {domain: shuffled(rng, skin["kinds"]) for domain, skin in skins.items() if "kinds" in skin}
        areas = shuffled(rng, WORLDS["areas"]) if rng.random() < 0.5 else COMPASS
        self.values = {("area", side): area for side, area in zip(COMPASS, areas, strict=False)}
        longest_first = sorted(self.words, key=len, reverse=True)
        self.pattern = re.compile(rf"\b({'|'.join(longest_first)})\b", re.IGNORECASE)

    def dialogue(self) -> str:
        """`user> ` and `bot> ` lines; its goal is one of the training split's."""
        talk = Conversation(self.rng, sample_tasks(self.rng, "train")).run()
        return "".join(f"{turn['speaker']}> {self._translate(turn)}\n" for turn in talk.turns)

    def _translate(self, turn: dict[str, Any]) -> str:
        text, end = "", 0
        for act, slot, value, start, stop in sorted(turn["spans"], key=lambda span: span[3]):
            new = self._value(act.split("-")[0].lower(), slot, value.lower())
            new = new.lower() if new and turn["utterance"].islower() else new
            text += self._words(turn["utterance"][end:start]) + (new or self._words(value))
            end = stop
        return BEFORE_CONSONANT.sub(r"\1", text + self._words(turn["utterance"][end:]))

    def _words(self, text: str) -> str:
        def other(match: re.Match[str]) -> str:
            word = self.words[match[0].lower()]
            return word[:1].upper() + word[1:] if match[0][0].isupper() else word

        return self.pattern.sub(other, text)

    def _value(self, domain: str, slot: str, value: str) -> str:
        """What stands for the value, the same in the whole dialogue; "" if it stays."""
        kind = slot in ("food", "type") and domain in self.kinds
        if (slot, value) not in self.values and (kind or slot in MADE_UP):
            self.values[slot, value] = self.kinds[domain].pop() if kind else self.make_up(MADE_UP[slot])
        return self.values.get((slot, value), "")
