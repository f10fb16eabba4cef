"""Raw MultiWOZ 2.2 JSON (github.com/budzianowski/multiwoz) → dialogues, from a folder or from memory.

A folder holds train/dialogues_*.json, dev/…, test/…, or one train.json, dev.json, test.json; beside them, optional:
dialog_acts, goals, booked_domains, schema (.json) and db/{domain}_db.json. All may be gzipped (.json.gz).
"""

import gc
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from labkit.corpora.types import BOT, USER, Corpus, Dialogue, Span, State, Turn
from labkit.errors import LabError
from labkit.storage import read_json

SPLITS = ("train", "dev", "test")
PATTERNS = ("{}/dialogues_*.json", "{}/dialogues_*.json.gz", "{}.json", "{}.json.gz")
SPEAKERS = {"USER": USER, "SYSTEM": BOT}
MEND = "mend the corpus file, or fetch it again"


def read_folder(folder: Path | str, name: str = "", source: str = "") -> Corpus:
    """A corpus folder; each split is read when it is first used.

    Raises:
        LabError: the folder holds no split, or (then or on first use) a file does not parse.
    """
    folder = Path(folder).resolve()
    files = {split: found for split in SPLITS if (found := _files(folder, split))}
    if not files:
        looked = "looked for " + ", ".join(pattern.format("{train,dev,test}") for pattern in PATTERNS)
        raise LabError(f"no dialogues in the folder {folder}", looked, "give the folder that holds these files")
    acts, seen = cache(partial(_optional, folder, "dialog_acts", {})), {}
    splits = LazySplits({split: cache(partial(_read_split, paths, acts, seen)) for split, paths in files.items()})
    raw = {stem: _optional(folder, stem, {}) for stem in ("goals", "booked_domains")}
    raw |= {"splits": {}, "schema": _optional(folder, "schema", [])}
    raw["database"] = {path.name.split("_db.")[0]: read_json(path) for path in sorted(folder.glob("db/*_db.json*"))}
    corpus = from_raw(raw, name or folder.name, source or f"folder {folder.name}")
    return replace(corpus, splits=splits, folder=folder)


def from_raw(raw: dict[str, Any], name: str, source: str, stand_in: bool = False) -> Corpus:
    """A corpus in memory: {"splits": {split: [raw dialogue]}, "dialog_acts", "goals", "booked_domains", "database"}."""
    seen: dict[str, str] = {}
    acts, database = raw.get("dialog_acts", {}), raw.get("database", {})
    splits = {split: _parse_all(items, acts, f"{name} {split}", seen) for split, items in raw["splits"].items()}
    goals = _by_key(raw.get("goals", {})) if database else {}  # met by entities: not to be scored without a database
    booked = _by_key(raw.get("booked_domains", {}))
    return Corpus(name, splits, source, stand_in, goals, booked, database, raw.get("schema", []))


def _by_key(by_id: dict[str, Any]) -> dict[str, Any]:
    return {dialogue_id.split(".")[0].lower(): value for dialogue_id, value in by_id.items()}


@contextmanager
def gc_paused() -> Iterator[None]:
    """Garbage collection off: its passes over millions of new objects take up to three quarters of the loading time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class LazySplits(UserDict):
    """{split: dialogues}, each split read when it is first used: train takes eight times as long as test."""

    def __getitem__(self, split: str) -> list[Dialogue]:
        return self.data[split]()


def _files(folder: Path, stem: str) -> list[Path]:
    return next((found for pattern in PATTERNS if (found := sorted(folder.glob(pattern.format(stem))))), [])


def _optional(folder: Path, stem: str, default: Any) -> Any:
    """The content of a file that need not be there; it has the type of `default`."""
    paths = _files(folder, stem)
    return _typed(read_json(paths[0]), type(default), f"file {paths[0]}", "the content") if paths else default


def _read_split(files: list[Path], acts: Callable[[], dict[str, Any]], seen: dict[str, str]) -> list[Dialogue]:
    new = dict(seen)  # taken over only when the whole split parses, so that a second try finds no duplicates
    with gc_paused():
        dialogues = [dialogue for path in files for dialogue in _parse_all(read_json(path), acts(), str(path), new)]
    seen.update(new)
    return dialogues


def _parse_all(items: Any, acts: dict[str, Any], file: str, seen: dict[str, str]) -> list[Dialogue]:
    dialogues = []
    for index, raw in enumerate(_typed(items, list, f"file {file}", "the content")):
        (dialogue_id,) = _fields(raw, f"file {file}, dialogue number {index}", dialogue_id=str)
        dialogue = parse_dialogue(raw, acts.get(dialogue_id), file)
        if dialogue.key in seen:
            found = f"the same id is also in {seen[dialogue.key]}"
            raise LabError(f"file {file}, dialogue {dialogue_id}", found, "keep one of the two")
        seen[dialogue.key] = file
        dialogues.append(dialogue)
    return dialogues


def parse_dialogue(raw: dict[str, Any], acts: dict[str, Any] | None = None, file: str = "") -> Dialogue:
    """One raw dialogue with its entry of dialog_acts.json; without one, spans are read from the frames.

    Raises:
        LabError: a field is missing or of a wrong type, an unknown speaker, a span outside its utterance; the file, the
            dialogue, the turn and the field are named.
    """
    place = f"file {file}, dialogue" if file else "dialogue"
    (dialogue_id,) = _fields(raw, place, dialogue_id=str)
    services, raw_turns = _fields(raw, f"{place} {dialogue_id}", services=list, turns=list)
    turns: list[Turn] = []
    for number, raw_turn in enumerate(raw_turns):
        last_state = turns[-1].state if turns else {}
        turns.append(_parse_turn(raw_turn, acts, last_state, f"{place} {dialogue_id}, turn {number}"))
    return Dialogue(dialogue_id, tuple(services), turns)


def _parse_turn(raw: Any, acts: dict[str, Any] | None, state: State, place: str) -> Turn:
    turn_id, name, text, frames = _fields(raw, place, turn_id=str, speaker=str, utterance=str, frames=list)
    if name.upper() not in SPEAKERS:
        raise LabError(place, f"the field 'speaker' is {name!r}, neither USER nor SYSTEM", MEND)
    turn = Turn(SPEAKERS[name.upper()], text, state)
    if turn.speaker == USER:
        turn.state = _state(frames, place)
    if acts is None:
        spans = [span for frame in frames for span in _frame_spans(frame, place)]
    else:
        own = {"dialog_act": {}, "span_info": []} | _typed(acts.get(turn_id, {}), dict, place, "its dialog_acts entry")
        raw_acts, spans = _fields(own, place, dialog_act=dict, span_info=list)
        turn.acts = {act: [_pair(pair, place) for pair in pairs] for act, pairs in raw_acts.items()}
    turn.spans = _in_order(_span(item, text, place) for item in spans)
    return turn


def _state(frames: list[Any], place: str) -> State:
    """{domain: {slot: first value}} over all frames; further values are other spellings of the first."""
    state: State = {}
    for frame in (frame for frame in frames if "state" in _typed(frame, dict, place, "a frame")):
        (slot_values,) = _fields(frame["state"], place, slot_values=dict)
        for name, values in slot_values.items():
            domain, _, slot = name.lower().partition("-")
            if _typed(values, list, place, f"{name!r} in the field 'slot_values'"):
                state.setdefault(domain, {})[slot] = str(values[0])
    return state


def _pair(raw: Any, place: str) -> tuple[str, str]:
    if not isinstance(raw, list | tuple) or len(raw) != 2:
        raise LabError(place, f"the field 'dialog_act' holds {raw!r}, not [slot, value]", MEND)
    return str(raw[0]).lower(), str(raw[1])


def _frame_spans(frame: Any, place: str) -> Iterator[list[Any]]:
    """A frame's slots as span_info has them. Their act is unknown: the domain stands in. Copied slots have no span."""
    (slots,) = _fields({"slots": []} | _typed(frame, dict, place, "a frame"), place, slots=list)
    for slot in slots:
        if "start" in _typed(slot, dict, place, "an item of the field 'slots'"):
            name, start, end = _fields(slot, place, slot=str, start=int, exclusive_end=int)
            yield [name.split("-")[0].capitalize(), name.split("-")[-1], str(slot.get("value")), start, end]


def _span(raw: Any, utterance: str, place: str) -> Span:
    kinds = [type(item) for item in raw] if isinstance(raw, list | tuple) else []
    if kinds[:2] + kinds[3:] != [str, str, int, int]:
        raise LabError(place, f"the field 'span_info' holds {raw!r}, not [act, slot, value, start, end]", MEND)
    act, slot, value, *ends = raw
    start, end = sorted(ends)  # some copies of the corpus have them swapped
    if start < 0 or end > len(utterance):
        found = f"the span of {slot!r} is {start}–{end}, outside the utterance of {len(utterance)} characters"
        raise LabError(place, found, MEND)
    return Span(act, slot.lower(), str(value), start, end)


def _in_order(spans: Iterable[Span]) -> tuple[Span, ...]:
    """By start; of two that overlap the first one stays, on a tie the one first in the file; an empty one goes."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start):
        if span.start < span.end and (not kept or span.start >= kept[-1].end):
            kept.append(span)
    return tuple(kept)


def _fields(raw: Any, place: str, **kinds: type) -> list[Any]:
    """The named fields of a JSON object, each checked for its type."""
    for name in kinds:
        if name not in _typed(raw, dict, place, f"what should hold the field {name!r}"):
            raise LabError(place, f"the field {name!r} is missing", MEND)
    return [_typed(raw[name], kind, place, f"the field {name!r}") for name, kind in kinds.items()]


def _typed(value: Any, kind: type, place: str, what: str) -> Any:
    if not isinstance(value, kind):
        raise LabError(place, f"{what} is of type {type(value).__name__}, not {kind.__name__}", MEND)
    return value
