"""One raw MultiWOZ 2.2 dialogue (github.com/budzianowski/multiwoz) → a `Dialogue`, every field checked.

A raw dialogue is {"dialogue_id", "services", "turns"}, a raw turn {"turn_id", "speaker", "utterance", "frames"}. A frame
holds a service's belief state and the slots that the utterance names. dialog_acts.json holds, for each turn, the acts
and better spans: {turn_id: {"dialog_act": {act: [[slot, value]]}, "span_info": [[act, slot, value, start, end]]}}.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from labkit.corpora.checks import brief, member, members, refuse, text, typed
from labkit.corpora.types import BOT, USER, Dialogue, Span, State, Turn

SPEAKERS = {"USER": USER, "SYSTEM": BOT}
Raw = dict[str, Any]  # Any: an object of a JSON file, before it is checked


def parse_dialogue(raw: Raw, acts: Raw | None = None, file: str = "") -> Dialogue:
    """One raw dialogue with its entry of dialog_acts.json; without one, spans are read from the frames.

    Raises:
        LabError: a field is missing or of a wrong type, an unknown speaker, a span outside its utterance; the file, the
            dialogue, the turn and the field are named.
    """
    place = f"file {file}, dialogue" if file else "dialogue"
    dialogue_id = member(raw, "dialogue_id", str, place)
    place = f"{place} {brief(dialogue_id)}"
    services = member(raw, "services", list, place)
    for service in services:
        text(service, place, "an item of the field 'services'")
    if acts is not None:
        members(acts, place, "its dialog_acts entry")
    turns: list[Turn] = []
    state: State = {}
    for number, raw_turn in enumerate(member(raw, "turns", list, place)):
        turn = _parse_turn(raw_turn, acts, state, f"{place}, turn {number}")
        state = turn.state
        turns.append(turn)
    return Dialogue(dialogue_id, tuple(services), turns)


def _parse_turn(raw: Raw, acts: Raw | None, last_state: State, place: str) -> Turn:
    turn_id = member(raw, "turn_id", str, place)
    name = member(raw, "speaker", str, place)
    utterance = member(raw, "utterance", str, place)
    frames = member(raw, "frames", list, place)
    speaker = SPEAKERS.get(name.upper())
    if speaker is None:
        refuse(place, f"the field 'speaker' is {brief(name)!r}, neither USER nor SYSTEM")
    for frame in frames:
        typed(frame, dict, place, "a frame")
    turn = Turn(speaker, utterance)
    turn.state = _state(frames, place) if speaker == USER else last_state
    if acts is None:
        spans = _frame_spans(frames, place)
    else:
        entry = typed(acts.get(turn_id, {}), dict, place, "its dialog_acts entry")
        turn.acts = _acts(entry.get("dialog_act", {}), place)
        spans = typed(entry.get("span_info", []), list, place, "the field 'span_info'")
    turn.spans = _in_order(_span(item, utterance, place) for item in spans)
    return turn


def _state(frames: list[Raw], place: str) -> State:
    """{domain: {slot: first value}} over all frames; further values are other spellings of the first."""
    state: State = {}
    for frame in frames:
        if "state" not in frame:
            continue
        slot_values = member(frame["state"], "slot_values", dict, place)
        for name, values in slot_values.items():
            what = f"{brief(name)!r} in the field 'slot_values'"
            text(name, place, "a name in the field 'slot_values'")
            if typed(values, list, place, what):
                domain, _, slot = name.lower().partition("-")
                state.setdefault(domain, {})[slot] = _value(values[0], place, what)
    return state


def _acts(raw: Raw, place: str) -> dict[str, list[tuple[str, str]]]:
    """{act: [(slot in lower case, value)]}."""
    acts = {}
    for act, pairs in members(raw, place, "the field 'dialog_act'").items():
        if not isinstance(pairs, list):
            refuse(place, f"the field 'dialog_act' holds {brief(repr(pairs))}, not [[slot, value]]")
        acts[act] = [_pair(pair, place) for pair in pairs]
    return acts


def _pair(raw: Any, place: str) -> tuple[str, str]:  # Any: whatever JSON holds
    if not isinstance(raw, list | tuple) or len(raw) != 2:
        refuse(place, f"the field 'dialog_act' holds {brief(repr(raw))}, not [slot, value]")
    slot, value = raw
    slot = _value(slot, place, "a slot in the field 'dialog_act'")
    return slot.lower(), _value(value, place, f"the value of {brief(slot)!r} in the field 'dialog_act'")


def _frame_spans(frames: list[Raw], place: str) -> Iterator[list[Any]]:  # Any: [text, text, value, number, number]
    """The slots of all frames as span_info has them. Their act is unknown: the domain stands in."""
    for frame in frames:
        for slot in typed(frame.get("slots", []), list, place, "the field 'slots'"):
            if "start" not in typed(slot, dict, place, "an item of the field 'slots'"):
                continue  # the value was copied from another turn
            name = member(slot, "slot", str, place)
            start = member(slot, "start", int, place)
            end = member(slot, "exclusive_end", int, place)
            parts = name.split("-")
            yield [parts[0].capitalize(), parts[-1], slot.get("value"), start, end]


def _span(raw: Any, utterance: str, place: str) -> Span:  # Any: whatever JSON holds
    kinds = [type(item) for item in raw] if isinstance(raw, list | tuple) else []
    if len(kinds) != 5 or kinds[:2] != [str, str] or kinds[3:] != [int, int]:
        refuse(place, f"the field 'span_info' holds {brief(repr(raw))}, not [act, slot, value, start, end]")
    act, slot, value, first, second = raw
    start, end = min(first, second), max(first, second)  # some copies of the corpus have them swapped
    if start < 0 or end > len(utterance):
        ends = f"{brief(str(start))}–{brief(str(end))}"
        length = f"the utterance of {len(utterance)} characters"
        refuse(place, f"the span of {brief(slot)!r} is {ends}, outside {length}")
    text(act, place, "an act in the field 'span_info'")
    text(slot, place, "a slot in the field 'span_info'")
    value = _value(value, place, f"the value of the span of {brief(slot)!r}")
    return Span(act=act, slot=slot.lower(), value=value, start=start, end=end)


def _in_order(spans: Iterable[Span]) -> tuple[Span, ...]:
    """By start; of two that overlap the first one stays, on a tie the one first in the file; an empty one goes."""
    kept: list[Span] = []
    last_end = 0
    for span in sorted(spans, key=lambda span: span.start):
        if span.start < span.end and span.start >= last_end:
            kept.append(span)
            last_end = span.end
    return tuple(kept)


def _value(raw: Any, place: str, what: str) -> str:  # Any: whatever JSON holds
    """A value as text. A number is written out; of a list, the first item counts (others are other spellings)."""
    if isinstance(raw, list) and raw:
        raw = raw[0]
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return str(raw)
    return text(raw, place, what)
