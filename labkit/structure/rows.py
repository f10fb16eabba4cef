"""Utterances as rows of a table: what is embedded, and what the annotation says of it."""

from collections.abc import Iterable, Iterator
from typing import TypedDict

import pandas

from labkit.corpora.types import Dialogue, Turn
from labkit.errors import LabError
from labkit.structure.checks import refuse_surrogates

NO_VENUE = ("booking", "general")  # domains of acts that name no venue


class Row(TypedDict):
    """One turn as a row of the table."""

    text: str  # what is embedded
    utterance: str
    speaker: str
    dialogue_id: str
    turn: int  # its place in the dialogue, from 0
    domain: str  # of the turn's acts, else of the turn before
    domains: tuple[str, ...]  # of the dialogue
    act: str  # the main act, without its domain
    slots: tuple[str, ...]


def representations(dialogues: Iterable[Dialogue], window: str | int = "utterance") -> pandas.DataFrame:
    """A row per turn: text, utterance, speaker, dialogue_id, turn, domain, domains (of the dialogue), act, slots.

    `text` is what gets embedded: the turn ("utterance"), the turn before and it ("previous"), or n turns either side.
    `domain` is that of the turn's acts, else of the turn before; `act` is its main act without the domain.

    Raises:
        LabError: another window, or half an emoji in an id, a speaker, an utterance or the name of an act.
    """
    past, future = _turns_around(window)
    rows: list[Row] = []
    for dialogue in dialogues:
        for row in _rows(dialogue, past, future):
            _refuse_surrogates(row)
            rows.append(row)
    return pandas.DataFrame(rows, columns=list(Row.__annotations__))


def _turns_around(window: str | int) -> tuple[int, int]:
    """How many turns before and after a turn belong to its text."""
    if window == "utterance":
        return 0, 0
    if window == "previous":
        return 1, 0
    if isinstance(window, int) and not isinstance(window, bool) and window >= 0:
        return window, window
    raise LabError("unknown window", repr(window), 'choose "utterance", "previous" or a number of turns')


def _rows(dialogue: Dialogue, past: int, future: int) -> Iterator[Row]:
    domain = "general"
    for number, turn in enumerate(dialogue.turns):
        around = dialogue.turns[max(0, number - past) : number + future + 1]
        domain = _domain(turn, before=domain)
        yield Row(
            text="\n".join(each.utterance for each in around),
            utterance=turn.utterance,
            speaker=turn.speaker,
            dialogue_id=dialogue.dialogue_id,
            turn=number,
            domain=domain,
            domains=dialogue.services,
            act=_main_act(turn),
            slots=_slots(turn),
        )


def _refuse_surrogates(row: Row) -> None:
    """Name the field that holds half an emoji; `text` repeats utterances, each of which has a row of its own."""
    for name, value in row.items():
        if isinstance(value, str) and name != "text":
            refuse_surrogates(f"dialogue {row['dialogue_id']!a}, turn {row['turn']}, {name}", value)


def _domains_and_acts(turn: Turn) -> list[tuple[str, str]]:
    """(domain, act) of each act of the turn, lower case; an act without a domain is both."""
    pairs = []
    for name in turn.acts:
        domain, dash, act = name.lower().partition("-")
        pairs.append((domain, act if dash else domain))
    return pairs


def _venue_acts(turn: Turn) -> list[tuple[str, str]]:
    return [(domain, act) for domain, act in _domains_and_acts(turn) if domain not in NO_VENUE]


def _domain(turn: Turn, before: str) -> str:
    """The domain of the turn's first act about a venue; else that of the turn `before`, which goes on."""
    for domain, _ in _venue_acts(turn):
        return domain
    return before


def _main_act(turn: Turn) -> str:
    """The first act about a venue, else the first act, else "none"."""
    for _, act in _venue_acts(turn) or _domains_and_acts(turn):
        return act
    return "none"


def _slots(turn: Turn) -> tuple[str, ...]:
    """The names of the slots of all acts, lower case, each once, in the order in which they come."""
    names = {}
    for pairs in turn.acts.values():
        for slot, _ in pairs:
            if slot.lower() != "none":
                names[slot.lower()] = None
    return tuple(names)
