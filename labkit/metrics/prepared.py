"""Predictions beside the gold of their dialogues, both checked and normalised: what every score is computed from."""

from typing import NamedTuple

from labkit.corpora.types import Predictions, State
from labkit.errors import LabError
from labkit.metrics.checks import printable
from labkit.metrics.gold import Gold
from labkit.metrics.normalization import normalise_reply, normalise_state
from labkit.metrics.predictions import checked


class Unknown(NamedTuple):
    """A name that scoring does not know, and where it stands."""

    name: str
    key: str  # of the dialogue
    turn: int  # number of the bot turn, from 0


class Prepared:
    """Predictions on a split, normalised, by dialogue key: `replies`, `references` and `states`, one a bot turn.

    Raises:
        LabError: malformed predictions or none, or dialogues or turns that the split doesn't have.
    """

    def __init__(self, predictions: Predictions, gold: Gold):
        self.predictions = checked(predictions)
        self.gold = gold
        _check_coverage(self.predictions, gold)
        self.has_states = _every_turn_has(self.predictions, "state")
        self.has_active = _every_turn_has(self.predictions, "active_domains")
        self.replies: dict[str, list[str]] = {}
        self.references: dict[str, list[str]] = {}
        self.states: dict[str, list[State]] = {}
        self.unknown: list[Unknown] = []  # placeholders that no class has
        for key in self.predictions:
            self._normalise(key)

    def _normalise(self, key: str) -> None:
        turns = self.predictions[key]
        n_turns = len(turns)
        replies = []
        for number, turn in enumerate(turns):
            reply, unknown_names = normalise_reply(turn["response"])
            replies.append(reply)
            for name in unknown_names:
                unknown = Unknown(name=f"[{name}]", key=key, turn=number)
                self.unknown.append(unknown)
        self.replies[key] = replies
        references = self.gold.references(key)
        self.references[key] = references[:n_turns]
        if self.has_states:
            self.states[key] = [normalise_state(turn["state"]) for turn in turns]
        else:
            states = self.gold.states(key)
            self.states[key] = states[:n_turns]

    @property
    def texts(self) -> list[str]:
        """All normalised replies, dialogue after dialogue."""
        texts = []
        for replies in self.replies.values():
            texts.extend(replies)
        return texts


def place_of(key: str, turn: int) -> str:
    """How notes and errors name a bot turn."""
    return printable(f"dialogue {key}, turn {turn}")


def _every_turn_has(predictions: Predictions, name: str) -> bool:
    return all(name in turn for turns in predictions.values() for turn in turns)


def _check_coverage(predictions: Predictions, gold: Gold) -> None:
    """Raise LabError unless there are predictions, and each is for a bot turn that the split has."""
    if not any(predictions.values()):
        raise LabError("there are no predictions", "", f"predict some dialogues of the split {gold.split!r}")
    for key in predictions:
        if key not in gold.dialogues:
            found = f"the split {gold.split!r} of {gold.corpus.name} has no such dialogue"
            action = "check the corpus, the split and the spelling of the ids"
            raise LabError(printable(f"dialogue {key}"), found, action)
    for key, turns in predictions.items():
        n_bot_turns = len(gold.dialogues[key].bot_turns)
        if len(turns) > n_bot_turns:
            found = f"the dialogue has only {n_bot_turns} system turns, and {len(turns)} were predicted"
            raise LabError(place_of(key, n_bot_turns), found, "predict one reply for each system turn")
