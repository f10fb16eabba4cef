"""Utterances and belief states as text: placeholders for values, and back."""

import re
from collections.abc import Mapping

from labkit.corpora.slots import placeholder
from labkit.corpora.types import State, Turn

MARKED = re.compile(r"\[(?:[\w ]*_)?([\w ]+)\]")  # a placeholder; its group is the slot


def delexicalise(turn: Turn, domain: str = "") -> str:
    """The utterance with every annotated value replaced by its placeholder, on one line.

    `domain` stands in where an act names none ("Booking-Book"). "dontcare" is a value but no text, and stays out.
    """
    pieces = []
    end = 0
    for span in turn.spans:
        overlaps = span.start < end
        if overlaps or span.value == "dontcare":
            continue
        names_none = span.domain in ("booking", "general")
        owner = domain if names_none else span.domain
        before = turn.utterance[end : span.start]
        pieces.append(before)
        pieces.append(placeholder(owner, span.slot))
        end = span.end
    pieces.append(turn.utterance[end:])
    return one_line("".join(pieces))


def lexicalise(reply: str, entity: Mapping[str, object], state: Mapping[str, str] | None = None) -> str:
    """Fill the placeholders of a reply from a database entity, then from the belief state; for reading only."""
    values: dict[str, str] = {}
    for source in (state or {}, entity):
        for key, value in source.items():
            values[_slot(key)] = str(value)

    def fill(found: re.Match[str]) -> str:
        return values.get(_slot(found[1]), found[0])

    return MARKED.sub(fill, reply)


def _slot(name: str) -> str:
    """One spelling for what placeholders, databases and states call differently."""
    name = name.lower().replace(" ", "")
    name = name.removeprefix("book")
    other_names = {"reference": "ref", "arrive": "arriveby", "leave": "leaveat"}
    return other_names.get(name, name)


def one_line(text: str) -> str:
    """A turn is one line of the prompt: line breaks and runs of spaces become one space."""
    return " ".join(text.split())


def state_text(state: State) -> str:
    """`restaurant food=italian; area=centre | hotel stars=4`, domains and slots in alphabetical order."""
    parts = []
    for domain, slots in sorted(state.items()):
        if slots:
            pairs = [f"{slot}={value}" for slot, value in sorted(slots.items())]
            listed = "; ".join(pairs)
            parts.append(f"{domain} {listed}")
    return " | ".join(parts)


NOT_SAID = "none"  # what is written for a slot that leaves the state


def state_changes(before: State, after: State) -> State:
    """What a turn changed: the slots that are new or have a new value, and NOT_SAID for those that are gone."""
    changes: State = {}
    for domain in {**before, **after}:
        old = before.get(domain, {})
        new = after.get(domain, {})
        changed = {slot: value for slot, value in new.items() if old.get(slot) != value}
        changed.update({slot: NOT_SAID for slot in old if slot not in new})
        if changed:
            changes[domain] = changed
    return changes


def changed_state(before: State, changes: State) -> State:
    """The state after some changes; `before` stays as it is.

    >>> changed_state({"hotel": {"area": "north", "stars": "4"}}, {"hotel": {"stars": "none", "type": "hotel"}})
    {'hotel': {'area': 'north', 'type': 'hotel'}}
    """
    after: State = {}
    for domain in {**before, **changes}:
        slots = {**before.get(domain, {}), **changes.get(domain, {})}
        kept = {slot: value for slot, value in slots.items() if value != NOT_SAID}
        if kept:
            after[domain] = kept
    return after


def parse_state(text: str) -> State:
    """The belief state that a model wrote; what does not parse is left out, since a model may write anything."""
    state: State = {}
    for part in text.split("|"):
        domain, _, slots = part.strip().partition(" ")
        values = _parse_slots(slots)
        if domain and values:
            state[domain] = values
    return state


def _parse_slots(text: str) -> dict[str, str]:
    values = {}
    for pair in text.split(";"):
        slot, _, value = pair.partition("=")
        slot = slot.strip()
        value = value.strip()
        if slot and value:
            values[slot] = value
    return values
