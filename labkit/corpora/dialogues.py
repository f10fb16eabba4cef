"""One raw MultiWOZ 2.2 dialogue (github.com/budzianowski/multiwoz) → a `Dialogue`, every field checked.

A raw dialogue is {"dialogue_id", "services", "turns"}, a raw turn {"turn_id", "speaker", "utterance", "frames"}. A
frame holds a service's belief state and the slots that the utterance names. dialog_acts.json holds, for each turn, the
acts and better spans: {turn_id: {"dialog_act": {act: [[slot, value]]}, "span_info": [[act, slot, value, start, end]]}}.
"""

from collections.abc import Sequence

from labkit.corpora.checks import brief, member, members, refuse, text, texts, typed
from labkit.corpora.types import BOT, USER, Acts, Dialogue, Span, State, Turn
from labkit.storage import Json

SPEAKERS = {"USER": USER, "SYSTEM": BOT}
PAIR = "the field 'dialog_act'"
SPAN = "the field 'span_info'"
SLOT_OF_PAIR = f"a slot in {PAIR}"
VALUE_OF_PAIR = f"a value in {PAIR}"
ACT_OF_SPAN = f"an act in {SPAN}"
SLOT_OF_SPAN = f"a slot in {SPAN}"
VALUE_OF_SPAN = f"a value in {SPAN}"
Raw = Json  # an object of a JSON file, before it is checked
RawSpan = list[object]  # [act, slot, value, start, end], as span_info has it


def parse_dialogue(
    raw: Raw,
    acts: Raw | None = None,
    file: str = "",
) -> Dialogue:
    """One raw dialogue with its entry of dialog_acts.json; without one, spans are read from the frames.

    Raises:
        LabError: a field is missing or of a wrong type, an unknown speaker, a span outside its utterance; the file, the
            dialogue, the turn and the field are named.
    """
    place = "dialogue"
    if file:
        place = f"file {file}, dialogue"
    dialogue_id = member(raw, "dialogue_id", str, place)
    name = brief(dialogue_id)
    place = f"{place} {name}"
    services = member(raw, "services", list, place)
    texts(services, place, "the field 'services'")
    if acts is not None:
        members(acts, place, "its dialog_acts entry")
    turns: list[Turn] = []
    state: State = {}
    raw_turns = member(raw, "turns", list, place)
    for number, raw_turn in enumerate(raw_turns):
        turn_place = f"{place}, turn {number}"
        turn = _parse_turn(raw_turn, acts, state, turn_place)
        state = turn.state
        turns.append(turn)
    return Dialogue(dialogue_id, tuple(services), turns)


def _parse_turn(
    raw: Raw,
    acts: Raw | None,
    last_state: State,
    place: str,
) -> Turn:
    turn_id = member(raw, "turn_id", str, place)
    utterance = member(raw, "utterance", str, place)
    frames = member(raw, "frames", list, place)
    for frame in frames:
        typed(frame, dict, place, "a frame")
    speaker = _speaker(raw, place)
    turn = Turn(speaker, utterance)
    turn.state = last_state
    if speaker == USER:
        turn.state = _state(frames, place)
    if acts is None:
        spans = _frame_spans(frames, place)
    else:
        entry = acts.get(turn_id, {})
        typed(entry, dict, place, "its dialog_acts entry")
        place = f"{place}, in dialog_acts"
        raw_acts = entry.get("dialog_act", {})
        turn.acts = _acts(raw_acts, place)
        spans = entry.get("span_info", [])
        typed(spans, list, place, SPAN)
    checked = []
    for item in spans:
        span = _span(item, utterance, place)
        checked.append(span)
    turn.spans = _in_order(checked)
    return turn


def _speaker(raw: Raw, place: str) -> str:
    name = member(raw, "speaker", str, place)
    speaker = SPEAKERS.get(name.upper())
    if speaker is None:
        found = brief(name)
        refuse(place, f"the field 'speaker' is {found!r}, neither USER nor SYSTEM")
    return speaker


def _state(frames: list[Raw], place: str) -> State:
    """{domain: {slot: first value}} over all frames; further values are other spellings of the first."""
    state: State = {}
    for frame in frames:
        if "state" not in frame:
            continue
        raw_state = frame["state"]
        slot_values = member(raw_state, "slot_values", dict, place)
        for name, values in slot_values.items():
            text(name, place, "a name in the field 'slot_values'")
            first = _first(values)
            if first is None:  # most are a list of texts: a message is put together for the others alone
                what = f"{brief(name)!r} in the field 'slot_values'"
                if not typed(values, list, place, what):
                    continue
                first = _value(values[0], place, what)
            lower = name.lower()
            domain, _, slot = lower.partition("-")
            slots = state.setdefault(domain, {})
            slots[slot] = first
    return state


def _first(values: object) -> str | None:
    """The first of a list of texts, if there is nothing to check about it."""
    if type(values) is list and values:
        first = values[0]
        if type(first) is str and first.isascii():
            return first
    return None


def _acts(raw: object, place: str) -> Acts:
    """{act: [(slot in lower case, value)]}."""
    acts = {}
    members(raw, place, PAIR)
    for act, raw_pairs in raw.items():
        if not isinstance(raw_pairs, list):
            found = brief(repr(raw_pairs))
            refuse(place, f"{PAIR} holds {found}, not [[slot, value]]")
        acts[act] = [_pair(raw_pair, place) for raw_pair in raw_pairs]
    return acts


def _pair(raw: object, place: str) -> tuple[str, str]:
    is_list = isinstance(raw, list | tuple)
    if not is_list or len(raw) != 2:
        found = brief(repr(raw))
        refuse(place, f"{PAIR} holds {found}, not [slot, value]")
    raw_slot, raw_value = raw
    slot = _value(raw_slot, place, SLOT_OF_PAIR)
    value = _value(raw_value, place, VALUE_OF_PAIR)
    name = slot.lower()
    return name, value


def _frame_spans(frames: list[Raw], place: str) -> list[RawSpan]:
    """The slots of all frames as span_info has them. Their act is unknown: the domain stands in."""
    spans = []
    for frame in frames:
        slots = frame.get("slots", [])
        typed(slots, list, place, "the field 'slots'")
        for slot in slots:
            typed(slot, dict, place, "an item of the field 'slots'")
            if "start" not in slot:
                continue  # the value was copied from another turn
            name = member(slot, "slot", str, place)
            start = member(slot, "start", int, place)
            end = member(slot, "exclusive_end", int, place)
            parts = name.split("-")  # "hotel-area"
            domain = parts[0]
            act = domain.capitalize()
            name = parts[-1]
            value = slot.get("value")
            span = [act, name, value, start, end]
            spans.append(span)
    return spans


def _span(raw: object, utterance: str, place: str) -> Span:
    _check_kinds(raw, place)
    act, slot, raw_value, first, second = raw
    text(act, place, ACT_OF_SPAN)
    text(slot, place, SLOT_OF_SPAN)
    value = _value(raw_value, place, VALUE_OF_SPAN)
    start = min(first, second)  # some copies of the corpus have them swapped
    end = max(first, second)
    length = len(utterance)
    if start < 0 or end > length:
        ends = brief(f"{start}–{end}")
        name = brief(slot)
        refuse(place, f"the span of {name!r} is {ends}, outside the utterance of {length} characters")
    return Span(
        act=act,
        slot=slot.lower(),
        value=value,
        start=start,
        end=end,
    )


SPAN_KINDS = [str, str, object, int, int]


def _check_kinds(raw: object, place: str) -> None:
    """Refuse what is not [text, text, anything, whole number, whole number]."""
    kinds: list[object] = []
    if isinstance(raw, list | tuple):
        kinds = [*map(type, raw)]
        kinds[2:3] = [object]  # of any type
    if kinds != SPAN_KINDS:
        found = brief(repr(raw))
        refuse(place, f"{SPAN} holds {found}, not [act, slot, value, start, end]")


def _in_order(spans: Sequence[Span]) -> tuple[Span, ...]:
    """By start; of two that overlap the first one stays, on a tie the one first in the file; an empty one goes."""
    if not spans:
        return ()
    kept: list[Span] = []
    last_end = 0
    for span in sorted(spans, key=lambda span: span.start):
        is_empty = span.start == span.end
        overlaps = span.start < last_end
        if not overlaps and not is_empty:
            kept.append(span)
            last_end = span.end
    return tuple(kept)


def _value(raw: object, place: str, what: str) -> str:
    """A value as text. A number is written out; of a list, the first item counts (others are other spellings)."""
    if type(raw) is str and raw.isascii():
        return raw
    if isinstance(raw, list) and raw:
        raw = raw[0]
    if type(raw) in (int, float):
        return str(raw)
    return text(raw, place, what)
