"""MiniWOZ, the stand-in for MultiWOZ 2.2: dialogues about an invented city, generated from a seed in its raw layout."""

from pathlib import Path
from random import Random
from typing import Any

from labkit.corpora.miniwoz.database import database
from labkit.corpora.miniwoz.goals import sample_tasks
from labkit.corpora.miniwoz.simulator import Conversation
from labkit.errors import LabError
from labkit.storage import shipped, write_json

SIZES = {"train": 1000, "dev": 150, "test": 150}


def generate(seed: int = 2022, sizes: dict[str, int] | None = None) -> dict[str, Any]:
    """A corpus in the raw layout of MultiWOZ 2.2: splits, dialog_acts, goals, booked_domains, database, schema.

    The same seed gives the same bytes in every Python version; a larger split begins with the smaller one.

    Raises:
        LabError: `sizes` names another split than train, dev and test.
    """
    if unknown := set(sizes or ()) - set(SIZES):
        raise LabError("MiniWOZ has no such split", ", ".join(sorted(unknown)), f"choose from {', '.join(SIZES)}")
    raw: dict[str, Any] = {"splits": {}, "dialog_acts": {}, "goals": {}, "booked_domains": {}}
    for split, size in (sizes or SIZES).items():
        raw["splits"][split] = [_add_dialogue(raw, seed, split, number) for number in range(size)]
    return raw | {"database": database(), "schema": shipped(__file__, "schema.json")}


def write(folder: Path | str, seed: int = 2022, sizes: dict[str, int] | None = None) -> Path:
    """Write the corpus to `folder` as MultiWOZ 2.2 lays its files out, with mwzeval's goals and booked domains."""
    raw, folder = generate(seed, sizes), Path(folder)
    for split, dialogues in raw["splits"].items():
        write_json(folder / split / "dialogues_001.json", dialogues)
    for name in ("dialog_acts", "goals", "booked_domains", "schema"):
        write_json(folder / f"{name}.json", raw[name])
    for domain, entities in raw["database"].items():
        write_json(folder / "db" / f"{domain}_db.json", entities)
    return folder


def _add_dialogue(raw: dict[str, Any], seed: int, split: str, number: int) -> dict[str, Any]:
    """Generate one dialogue; its acts, goal and booked domains are put in their places in `raw`."""
    key = f"mini{split}{number:05}"
    rng = Random(f"{seed}-{key}")
    talk = Conversation(rng, sample_tasks(rng, split)).run()
    raw["goals"][key] = {task.domain: task.goal() for task in talk.tasks}
    raw["booked_domains"][key] = talk.booked_by_turn
    raw["dialog_acts"][f"{key.upper()}.json"] = {
        str(index): {"dialog_act": turn["acts"], "span_info": turn["spans"]} for index, turn in enumerate(talk.turns)
    }
    turns = [_raw_turn(str(index), turn) for index, turn in enumerate(talk.turns)]
    return {"dialogue_id": f"{key.upper()}.json", "services": [task.domain for task in talk.tasks], "turns": turns}


def _raw_turn(turn_id: str, turn: dict[str, Any]) -> dict[str, Any]:
    """A user turn has a frame for every service, a system turn for those that it speaks of, as in MultiWOZ."""
    user = turn["speaker"] == "user"
    services = [name for name in database() if user or any(act.lower().startswith(name) for act in turn["acts"])]
    frames = [_frame(service, turn, user) for service in services]
    speaker = "USER" if user else "SYSTEM"
    return {"frames": frames, "speaker": speaker, "turn_id": turn_id, "utterance": turn["utterance"]}


def _frame(service: str, turn: dict[str, Any], user: bool) -> dict[str, Any]:
    slots = [
        {"exclusive_end": end, "slot": f"{service}-{slot}", "start": start, "value": value}
        for act, slot, value, start, end in turn["spans"]
        if act.lower().startswith(service)
    ]
    frame: dict[str, Any] = {"actions": [], "service": service, "slots": slots}
    if user:
        values = {f"{service}-{slot}": [value] for slot, value in turn["state"].get(service, {}).items()}
        asked = [f"{service}-{slot}" for slot, _ in turn["acts"].get(f"{service.capitalize()}-Request", [])]
        verb = "book" if service == "taxi" or any("-book" in slot for slot in values) else "find"
        intent = f"{verb}_{service}" if values else "NONE"
        frame["state"] = {"active_intent": intent, "requested_slots": asked, "slot_values": values}
    return frame
