"""Predictions in mwzeval's JSON format, read with care: {id: [{"response": text, "state": …, "active_domains": …}]}."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from labkit.corpora.types import Dialogue, Predictions
from labkit.errors import LabError
from labkit.prompts.format import exchanges
from labkit.storage import read_json, write_json

FORMAT = 'write {id: [{"response": text, "state": {domain: {slot: text}}}]}, as mwzeval reads it'
KINDS = {str: "text", list: "a list", dict: "an object"}


def read_predictions(path: Path | str) -> Predictions:
    """The predictions of a file (.json, or gzipped .json.gz), checked, under their keys (lower case, no ".json").

    Raises:
        LabError: no such file, not JSON, an id twice, or a value of a wrong type; dialogue and turn (from 0) are named.
    """
    return checked(read_json(path, object_pairs_hook=_unique))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(result := dict(pairs)) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise LabError(f"{name!r} stands twice in one object of the file", "", "keep one of the two")
    return result


def write_predictions(path: Path | str, predictions: Predictions) -> Path:
    """Write predictions for `labkit evaluate` or the benchmark, whole or not at all."""
    return write_json(path, checked(predictions))


def checked(predictions: Any) -> Predictions:
    """The same predictions by key.

    Raises:
        LabError: a value has a wrong type, or two ids are the same; the dialogue and the turn (from 0) are named.
    """
    result: Predictions = {}
    for dialogue_id, turns in _typed(predictions, dict, "predictions").items():
        place = f"dialogue {_typed(dialogue_id, str, 'predictions, an id')}"
        key = dialogue_id.split(".")[0].lower()
        if key in result:
            raise LabError(place, "the same id stands there twice", "keep one of the two")
        for number, turn in enumerate(_typed(turns, list, place)):
            _check_turn(turn, f"{place}, turn {number}")
        result[key] = turns
    return result


def _check_turn(turn: Any, place: str) -> None:
    if "response" not in _typed(turn, dict, place):
        raise LabError(place, "it has no 'response'", FORMAT)
    _typed(turn["response"], str, place, "response")
    for domain, slots in _typed(turn.get("state", {}), dict, place, "state").items():
        for slot, value in _typed(slots, dict, place, "state", domain).items():
            _typed(value, str, place, "state", domain, slot)
    for domain in _typed(turn.get("active_domains", []), list, place, "active_domains"):
        _typed("" if domain is None else domain, str, place, "active_domains")


def _typed(value: Any, kind: type, *place: str) -> Any:
    if not isinstance(value, kind):
        found = f"{str(value)[:40]!r} is of type {type(value).__name__}, not {KINDS[kind]}"
        raise LabError(", ".join(place), found, FORMAT)
    return value


def gold_predictions(dialogues: Iterable[Dialogue]) -> Predictions:
    """The corpus' own replies, delexicalised as models are trained on them: what a perfect imitator would get."""
    said = ((dialogue.key, exchanges(dialogue)) for dialogue in dialogues)
    return {key: [{"response": exchange[-1].text.strip()} for exchange in turns] for key, turns in said}


def constant_predictions(dialogues: Iterable[Dialogue], text: str = "ok") -> Predictions:
    """The same reply everywhere: the floor that a system has to clear."""
    return {dialogue.key: [{"response": text} for _ in dialogue.bot_turns] for dialogue in dialogues}
