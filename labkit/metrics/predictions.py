"""Predictions in mwzeval's JSON format, read with care: {id: [{"response": text, "state": …, "active_domains": …}]}."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from labkit.corpora.types import Dialogue, Predictions, Reply, dialogue_key
from labkit.errors import LabError
from labkit.metrics.checks import printable, typed
from labkit.prompts.format import exchanges
from labkit.storage import read_json, write_json

__all__ = ["Predictions", "Reply", "checked", "constant_predictions", "gold_predictions", "read_predictions"]
__all__ += ["write_predictions"]

FORMAT = 'write {id: [{"response": text, "state": {domain: {slot: text}}}]}, as mwzeval reads it'


def read_predictions(path: Path | str) -> Predictions:
    """The predictions of a file (.json, or gzipped .json.gz), checked, under their keys (lower case, no ".json").

    Raises:
        LabError: no such file, not JSON, an id twice, or a value of a wrong type; dialogue and turn (from 0) are named.
    """
    return checked(read_json(path, object_pairs_hook=_unique))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object, refused where it has a name twice: json.loads would keep only the last."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names = Counter(name for name, _ in pairs)
        twice = names.most_common(1)[0][0]
        raise LabError(f"{twice!r} stands twice in one object of the file", "", "keep one of the two")
    return result


def write_predictions(path: Path | str, predictions: Predictions) -> Path:
    """Write predictions for `labkit evaluate` or the benchmark, whole or not at all."""
    return write_json(path, checked(predictions))


def checked(predictions: object) -> Predictions:
    """The same predictions by key.

    Raises:
        LabError: a value has a wrong type, or two ids are the same; the dialogue and the turn (from 0) are named.
    """
    result: Predictions = {}
    typed(predictions, dict, FORMAT, "predictions")
    for dialogue_id, turns in predictions.items():
        typed(dialogue_id, str, FORMAT, "predictions", "an id")
        place = f"dialogue {dialogue_id}"
        key = dialogue_key(dialogue_id)
        if key in result:
            raise LabError(printable(place), "the same id stands there twice", "keep one of the two")
        typed(turns, list, FORMAT, place)
        for number, turn in enumerate(turns):
            _check_turn(turn, f"{place}, turn {number}")
        result[key] = turns
    return result


def _check_turn(turn: object, place: str) -> None:
    """Raise LabError unless the turn is a `Reply`."""
    fields = typed(turn, dict, FORMAT, place)
    if "response" not in fields:
        raise LabError(printable(place), "it has no 'response'", FORMAT)
    typed(fields["response"], str, FORMAT, place, "response")
    if "state" in fields:
        _check_state(fields["state"], place)
    if "active_domains" in fields:
        domains = fields["active_domains"]
        typed(domains, list, FORMAT, place, "active_domains")
        for domain in domains:
            if domain is not None:  # as some of mwzeval's own files have it
                typed(domain, str, FORMAT, place, "active_domains")


def _check_state(state: object, place: str) -> None:
    """Raise LabError unless the state is {domain: {slot: text}}."""
    typed(state, dict, FORMAT, place, "state")
    for domain, slots in state.items():
        typed(domain, str, FORMAT, place, "state, a domain")
        typed(slots, dict, FORMAT, place, "state", domain)
        for slot, value in slots.items():
            typed(slot, str, FORMAT, place, "state", domain, "a slot")
            typed(value, str, FORMAT, place, "state", domain, slot)


def gold_predictions(dialogues: Iterable[Dialogue]) -> Predictions:
    """The corpus' own replies, delexicalised as models are trained on them: what a perfect imitator would get."""
    predictions: Predictions = {}
    for dialogue in dialogues:
        turns: list[Reply] = []
        for exchange in exchanges(dialogue):
            reply = exchange[-1].text.strip()
            turns.append({"response": reply})
        predictions[dialogue.key] = turns
    return predictions


def constant_predictions(dialogues: Iterable[Dialogue], text: str = "ok") -> Predictions:
    """The same reply everywhere: the floor that a system has to clear."""
    predictions: Predictions = {}
    for dialogue in dialogues:
        predictions[dialogue.key] = [{"response": text} for _ in dialogue.bot_turns]
    return predictions
