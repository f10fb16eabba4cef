"""Utterances as rows of a table: what is embedded, and what the annotation says of it."""

from collections.abc import Iterable, Iterator
from typing import Any

import pandas

from labkit.corpora.types import Dialogue, Turn
from labkit.errors import LabError


def representations(dialogues: Iterable[Dialogue], window: str | int = "utterance") -> pandas.DataFrame:
    """A row per turn: text, utterance, speaker, dialogue_id, turn, domain, domains (of the dialogue), act, slots.

    `text` is what gets embedded: the turn ("utterance"), the turn before and it ("previous"), or n turns either side.
    `domain` is that of the turn's acts, else of the turn before; `act` is its main act without the domain.

    Raises:
        LabError: another window.
    """
    if not (window in ("utterance", "previous") or (isinstance(window, int) and window >= 0)):
        raise LabError("unknown window", repr(window), 'choose "utterance", "previous" or a number of turns')
    past, future = {"utterance": (0, 0), "previous": (1, 0)}.get(window, (window, window))
    return pandas.DataFrame([row for dialogue in dialogues for row in _rows(dialogue, past, future)])


def _rows(dialogue: Dialogue, past: int, future: int) -> Iterator[dict[str, Any]]:
    domain = "general"
    for i, turn in enumerate(dialogue.turns):
        domain, act, slots = _annotation(turn, domain)
        text = "\n".join(each.utterance for each in dialogue.turns[max(0, i - past) : i + future + 1])
        row = {"text": text, "utterance": turn.utterance, "speaker": turn.speaker, "dialogue_id": dialogue.dialogue_id}
        yield row | {"turn": i, "domain": domain, "domains": dialogue.services, "act": act, "slots": slots}


def _annotation(turn: Turn, domain: str) -> tuple[str, str, tuple[str, ...]]:
    """(domain, main act, slots); booking and general acts name no venue, so the domain of the turn before goes on."""
    names = [name.lower().split("-", 1) for name in turn.acts]
    venues = [name for name in names if name[0] not in ("booking", "general")]
    slots = dict.fromkeys(slot.lower() for pairs in turn.acts.values() for slot, _ in pairs if slot.lower() != "none")
    return (venues[0][0] if venues else domain), (venues or names or [["none"]])[0][-1], tuple(slots)
