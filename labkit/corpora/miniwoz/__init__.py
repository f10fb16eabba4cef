"""MiniWOZ, the stand-in for MultiWOZ 2.2: dialogues about an invented city, generated from a seed in its raw layout."""

from pathlib import Path
from random import Random

from labkit.corpora.miniwoz.conversation import Conversation
from labkit.corpora.miniwoz.database import database
from labkit.corpora.miniwoz.goals import sample_tasks
from labkit.corpora.miniwoz.simulator import simulate
from labkit.corpora.miniwoz.wording import Utterance
from labkit.errors import LabError
from labkit.storage import Json, shipped, write_json

SIZES = {"train": 1000, "dev": 150, "test": 150}
Raw = Json  # an object of a JSON file in MultiWOZ's layout


def generate(seed: int = 2022, sizes: dict[str, int] | None = None) -> Raw:
    """A corpus in the raw layout of MultiWOZ 2.2: splits, dialog_acts, goals, booked_domains, database, schema.

    The same seed gives the same bytes in every Python version; a larger split begins with the smaller one.

    Raises:
        LabError: `sizes` names another split than train, dev and test, or something that is no number of dialogues.
    """
    sizes = sizes or SIZES
    _check_sizes(sizes)
    raw: Raw = {
        "splits": {},
        "dialog_acts": {},
        "goals": {},
        "booked_domains": {},
    }
    for split, size in sizes.items():
        dialogues = []
        for number in range(size):
            dialogue = _add_dialogue(raw, seed, split, number)
            dialogues.append(dialogue)
        raw["splits"][split] = dialogues
    raw["database"] = database()
    raw["schema"] = shipped(__file__, "schema.json")
    return raw


def _check_sizes(sizes: dict[str, int]) -> None:
    known = ", ".join(SIZES)
    unknown = [str(split) for split in sizes if split not in SIZES]
    if unknown:
        found = ", ".join(sorted(unknown))
        raise LabError("MiniWOZ has no such split", found, f"choose from {known}")
    for split, size in sizes.items():
        is_whole = type(size) is int  # True is no number
        if not is_whole or size < 0:
            found = f"{size!r:.80} for {split!r}"
            raise LabError("MiniWOZ cannot have so many dialogues", found, "give a whole number, 0 or more")


def write(folder: Path | str, seed: int = 2022, sizes: dict[str, int] | None = None) -> Path:
    """Write the corpus to `folder` as MultiWOZ 2.2 lays its files out, with mwzeval's goals and booked domains."""
    raw = generate(seed, sizes)
    folder = Path(folder)
    for split, dialogues in raw["splits"].items():
        write_json(folder / split / "dialogues_001.json", dialogues)
    for name in ("dialog_acts", "goals", "booked_domains", "schema"):
        path = folder / f"{name}.json"
        write_json(path, raw[name])
    for domain, entities in raw["database"].items():
        path = folder / "db" / f"{domain}_db.json"
        write_json(path, entities)
    return folder


def _add_dialogue(raw: Raw, seed: int, split: str, number: int) -> Raw:
    """Generate one dialogue; its acts, goal and booked domains are put in their places in `raw`."""
    key = f"mini{split}{number:05}"
    dialogue_id = f"{key.upper()}.json"
    rng = Random(f"{seed}-{key}")
    tasks = sample_tasks(rng, split)
    talk = simulate(rng, tasks)
    raw["goals"][key] = {task.domain: task.goal() for task in tasks}
    raw["booked_domains"][key] = talk.booked_by_turn
    raw["dialog_acts"][dialogue_id] = _raw_acts(talk)
    turns = []
    for index, turn in enumerate(talk.turns):
        raw_turn = _raw_turn(str(index), turn)
        turns.append(raw_turn)
    return {
        "dialogue_id": dialogue_id,
        "services": [task.domain for task in tasks],
        "turns": turns,
    }


def _raw_acts(talk: Conversation) -> Raw:
    """The dialogue's entry of dialog_acts.json."""
    entries = {}
    for index, turn in enumerate(talk.turns):
        entries[str(index)] = {
            "dialog_act": turn.acts,
            "span_info": turn.spans,
        }
    return entries


def _raw_turn(turn_id: str, turn: Utterance) -> Raw:
    """A user turn has a frame for every service, a system turn for those that it speaks of, as in MultiWOZ."""
    is_user = turn.speaker == "user"
    named = {_domain(act) for act in turn.acts}
    frames = []
    for service in database():
        if is_user or service in named:
            frame = _frame(service, turn)
            frames.append(frame)
    return {
        "frames": frames,
        "speaker": "USER" if is_user else "SYSTEM",
        "turn_id": turn_id,
        "utterance": turn.text,
    }


def _domain(act: str) -> str:
    """The domain that an act is about: of "Hotel-Inform" it is "hotel"."""
    domain, _, _ = act.partition("-")
    return domain.lower()


def _frame(service: str, turn: Utterance) -> Raw:
    """The slots that an utterance names, and after a user turn the belief state of the service."""
    slots = []
    for act, slot, value, start, end in turn.spans:
        if _domain(act) == service:
            named = {
                "exclusive_end": end,
                "slot": f"{service}-{slot}",
                "start": start,
                "value": value,
            }
            slots.append(named)
    frame: Raw = {"actions": [], "service": service, "slots": slots}
    if turn.speaker == "user":
        frame["state"] = _raw_state(service, turn)
    return frame


def _raw_state(service: str, turn: Utterance) -> Raw:
    slots = turn.state.get(service, {})
    values = {}
    for slot, value in slots.items():
        values[f"{service}-{slot}"] = [value]
    act = f"{service.capitalize()}-Request"
    asked = turn.acts.get(act, [])
    return {
        "active_intent": _intent(service, values),
        "requested_slots": [f"{service}-{slot}" for slot, _ in asked],
        "slot_values": values,
    }


def _intent(service: str, values: dict[str, list[str]]) -> str:
    if not values:
        return "NONE"
    has_booking = any("-book" in slot for slot in values)
    if service == "taxi" or has_booking:
        return f"book_{service}"
    return f"find_{service}"
