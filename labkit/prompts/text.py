"""Utterances and belief states as text: placeholders for values, and back."""

import re
from typing import Any

from labkit.corpora.slots import placeholder
from labkit.corpora.types import State, Turn


def delexicalise(turn: Turn, domain: str = "") -> str:
    """The utterance with every annotated value replaced by its placeholder, on one line.

    `domain` stands in where an act names none ("Booking-Book"). "dontcare" is a value but no text, and stays out.
    """
    pieces, end = [], 0
    for span in turn.spans:
        if span.start < end or span.value == "dontcare":
            continue
        owner = span.domain if span.domain not in ("booking", "general") else domain
        pieces += [turn.utterance[end : span.start], placeholder(owner, span.slot)]
        end = span.end
    return one_line("".join([*pieces, turn.utterance[end:]]))


def lexicalise(reply: str, entity: dict[str, Any], state: dict[str, str] | None = None) -> str:
    """Fill the placeholders of a reply from a database entity, then from the belief state; for reading only."""
    values = {_slot(key): str(value) for source in (state or {}, entity) for key, value in source.items()}
    return re.sub(r"\[(?:[\w ]*_)?([\w ]+)\]", lambda found: values.get(_slot(found[1]), found[0]), reply)


def _slot(name: str) -> str:
    name = name.lower().replace(" ", "").removeprefix("book")
    return {"reference": "ref", "arrive": "arriveby", "leave": "leaveat"}.get(name, name)


def one_line(text: str) -> str:
    """A turn is one line of the prompt: line breaks and runs of spaces become one space."""
    return " ".join(text.split())


def state_text(state: State) -> str:
    """`restaurant food=italian; area=centre | hotel stars=4`, domains and slots in alphabetical order."""
    domains = ((domain, sorted(slots.items())) for domain, slots in sorted(state.items()) if slots)
    return " | ".join(f"{domain} " + "; ".join(f"{slot}={value}" for slot, value in slots) for domain, slots in domains)


def parse_state(text: str) -> State:
    """The belief state that a model wrote; what does not parse is left out, since a model may write anything."""
    state: State = {}
    for part in text.split("|"):
        domain, _, slots = part.strip().partition(" ")
        pairs = (pair.split("=", 1) for pair in slots.split(";") if "=" in pair)
        values = {slot.strip(): value.strip() for slot, value in pairs if slot.strip() and value.strip()}
        if domain and values:
            state[domain] = values
    return state
