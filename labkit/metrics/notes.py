"""What a reader of scores has to know: what was left out, what is odd, and which states were used."""

from collections.abc import Iterator, Sequence

from labkit.metrics.checks import printable
from labkit.metrics.prepared import Prepared, Unknown, place_of

SHOWN_NAMES = 5  # of unknown names, in a note


def notes(prepared: Prepared) -> Iterator[str]:
    """The notes of an evaluation, one sentence each; all can be printed."""
    return map(printable, _notes(prepared))


def _notes(prepared: Prepared) -> Iterator[str]:
    yield from _coverage(prepared)
    yield from _empty(prepared)
    yield from _told("unknown slot names were taken out", prepared.unknown)
    goals = prepared.gold.corpus.goals
    without_goal = sum(key not in goals for key in prepared.predictions)
    if without_goal:
        yield f"{without_goal} dialogue(s) have no goal, or the corpus has no database: no Inform and Success for them"
    if prepared.has_states:
        yield from _told("unknown slot names in belief states match nothing", _unknown_slots(prepared))
    else:
        yield "not every reply has a predicted belief state: the annotated states are used, which is optimistic"


def _coverage(prepared: Prepared) -> Iterator[str]:
    gold = prepared.gold
    predicted = prepared.predictions
    if gold.corpus.stand_in:
        yield f"{gold.corpus.name} is a stand-in: these scores cannot be compared with published ones"
    if len(predicted) < len(gold.dialogues):
        yield f"scored over the {len(predicted)} dialogues predicted, of {len(gold.dialogues)} in {gold.split}"
    short = []
    for key, turns in predicted.items():
        n_bot_turns = len(gold.dialogues[key].bot_turns)
        if len(turns) < n_bot_turns:
            short.append(key)
    if short:
        yield f"{len(short)} dialogue(s) end early (first: {short[0]}): scored over the replies that are there"


def _empty(prepared: Prepared) -> Iterator[str]:
    empty = []
    for key, replies in prepared.replies.items():
        for number, reply in enumerate(replies):
            if not reply:
                empty.append(place_of(key, number))
    if empty:
        yield f"{len(empty)} empty replies (first: {empty[0]})"


def _unknown_slots(prepared: Prepared) -> list[Unknown]:
    """The slots of predicted states that neither the schema nor the placeholders have."""
    unknown = []
    for key, states in prepared.states.items():
        for number, state in enumerate(states):
            for domain, slots in state.items():
                for slot in slots:
                    if slot not in prepared.gold.slots:
                        unknown.append(Unknown(f"{domain} {slot}", key, number))
    return unknown


def _told(what: str, unknown: Sequence[Unknown]) -> Iterator[str]:
    """A note on unknown names, if there are any."""
    if unknown:
        names = sorted({one.name for one in unknown})
        shown = ", ".join(names[:SHOWN_NAMES])
        first = unknown[0]
        yield f"{what}: {shown} (first: {place_of(first.key, first.turn)})"
