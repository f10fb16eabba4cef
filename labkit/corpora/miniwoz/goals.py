"""What a user of MiniWOZ wants: one to three domains, with references between them, second thoughts and bad luck."""

import zlib
from dataclasses import dataclass, field
from random import Random
from typing import Any

from labkit.corpora.miniwoz.database import CITY, DAYS, Entity, clock, database, minutes, query
from labkit.corpora.miniwoz.grammar import pick, shuffled

SLOTS, HOW_MANY, BOOKING = (CITY[table] for table in ("slots", "how_many", "booking"))
REQUESTS = {"phone": "PHONE", "address": "ADDRESS", "postcode": "POST", "trainid": "TRAINID", "ref": "REFERENCE"}


@dataclass
class Task:
    """One domain of a goal. Slots are spelt as in the belief state, those of a booking without their "book"."""

    domain: str
    informable: dict[str, str]
    booking: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    first: dict[str, str] = field(default_factory=dict)  # what is said at first: nothing is found, or it was a slip
    slip: bool = False
    unlucky: dict[str, str] = field(default_factory=dict)  # booking slots whose first wish cannot be had
    same: dict[str, str] = field(default_factory=dict)  # slot: the domain that its value is taken over from

    def goal(self) -> dict[str, Any]:
        """The task in mwzeval's goal format."""
        spelling = {"arriveby": "arrive", "leaveat": "leave"}
        informable = {spelling.get(slot, slot): value for slot, value in self.informable.items()}
        requestable = [REQUESTS[slot] for slot in self.requests if slot in REQUESTS]
        return {"informable": informable, "requestable": requestable, "booking": dict(self.booking) or []}


def sample_tasks(rng: Random, split: str) -> list[Task]:
    """The tasks of a goal in random order, a taxi last.

    What one split asks for (constraints, named venues, journeys) the other splits do not.
    """
    domains = pick(rng, [name for name, weight in CITY["goals"].items() for _ in range(weight)]).split()
    tasks: list[Task] = []
    for domain in sorted(shuffled(rng, domains), key=lambda domain: domain == "taxi"):
        task = _MAKERS[domain](domain, rng, tasks)
        while split_of(task) != split and not (domain == "taxi" and tasks):
            task = _MAKERS[domain](domain, rng, tasks)
        tasks.append(task)
    return tasks


def split_of(task: Task) -> str:
    """The split that this task's constraints belong to: 14 in 20 train, 3 dev, 3 test."""
    slots = ("departure", "destination", "day") if task.domain in ("train", "taxi") else sorted(task.informable)
    wanted = [(slot, task.informable[slot]) for slot in slots if slot in task.informable]
    bucket = zlib.crc32(f"{task.domain}{wanted}".encode()) % 20
    return "train" if bucket < 14 else "dev" if bucket < 17 else "test"


def _venue(domain: str, rng: Random, before: list[Task]) -> Task:
    entity, same = _entity(domain, rng, before)
    optional = [slot for slot in SLOTS[domain] if entity[slot] != "no" and slot not in same]
    wanted = [*same, *shuffled(rng, optional)[: pick(rng, HOW_MANY[domain])]]
    task = Task(domain, {slot: entity[slot] for slot in wanted}, same=same)
    if rng.random() < 0.22 and not same:
        task.informable = {"name": entity["name"]}
    elif len(wanted) > 1 and rng.random() < 0.4:
        _stumble(task, rng)
    if domain != "attraction" and rng.random() < 0.63:
        _book(task, rng, before)
    if not task.booking or rng.random() < 0.08:
        task.requests += shuffled(rng, ["phone", "address", "postcode"])[: pick(rng, (1, 1, 1, 2, 2, 3))]
    return task


def _entity(domain: str, rng: Random, before: list[Task]) -> tuple[Entity, dict[str, str]]:
    """A venue of which the constraints are taken, and the slot that it has in common with an earlier task."""
    both = [(slot, task) for task in before for slot in ("area", "pricerange") if slot in task.informable]
    if both and rng.random() < 0.35:
        slot, task = pick(rng, both)
        found = query(domain, {slot: task.informable[slot]}) if slot in SLOTS[domain] else []
        if found:
            return pick(rng, found), {slot: task.domain}
    return pick(rng, database()[domain]), {}


def _stumble(task: Task, rng: Random) -> None:
    """Let the user begin with a value that finds nothing (and is given up), or that was a slip of the tongue."""
    free = [slot for slot in task.informable if slot not in (*task.same, "internet", "parking")]
    slot = pick(rng, free or ["area"])
    values = sorted({entity[slot] for entity in database()[task.domain]} - {task.informable.get(slot)})
    values += CITY["missing_food"] if slot == "food" else []
    task.slip = rng.random() < 0.25
    if not task.slip:
        values = [value for value in values if not query(task.domain, task.informable | {slot: value})]
    if values:
        task.first = {slot: pick(rng, values)}
        if not task.slip and rng.random() < 0.2:
            task.informable.pop(slot, None)  # in the end any value will do


def _book(task: Task, rng: Random, before: list[Task]) -> None:
    time = clock(11 * 60 + 15 * int(rng.random() * 40))
    values = {"people": pick(rng, "1122345678"), "day": pick(rng, DAYS), "stay": pick(rng, "12345"), "time": time}
    task.booking = {slot: values[slot] for slot in BOOKING[task.domain]}
    task.requests.append("ref")
    earlier = [other for other in before if other.booking][-1:]
    if earlier and rng.random() < 0.6:
        for slot in ("people", "day"):
            if slot in task.booking and slot in earlier[0].booking and rng.random() < 0.75:
                task.booking[slot] = earlier[0].booking[slot]
                task.same[f"book{slot}"] = earlier[0].domain
    elif task.domain != "train" and rng.random() < 0.2:
        slot = pick(rng, BOOKING[task.domain][1:])
        options = {"day": DAYS, "stay": "678", "time": [clock(minutes(time) + 60)]}[slot]
        task.unlucky = {slot: pick(rng, [value for value in options if value != task.booking[slot]])}


def _train(domain: str, rng: Random, before: list[Task]) -> Task:
    train = pick(rng, database()["train"])
    task = Task(domain, {slot: train[slot] for slot in ("departure", "destination", "day")})
    days = [other for other in before if "day" in other.booking]
    if days and rng.random() < 0.5:
        task.informable["day"], task.same["day"] = days[-1].booking["day"], days[-1].domain
    slack = 5 * int(rng.random() * 8)
    if rng.random() < 0.6:
        task.informable["arriveby"] = clock(min(minutes(train["arriveBy"]) // 5 * 5 + 5 + slack, 1435))
    else:
        task.informable["leaveat"] = clock(minutes(train["leaveAt"]) // 5 * 5 - slack)
    if rng.random() < 0.53:
        _book(task, rng, before)
    else:
        shares = {"price": 0.6, "trainid": 0.33, "duration": 0.6}
        task.requests = [slot for slot, share in shares.items() if rng.random() < share]
    return task


def _taxi(domain: str, rng: Random, before: list[Task]) -> Task:
    task = Task(domain, {pick(rng, ("leaveat", "leaveat", "arriveby")): clock(300 + 15 * int(rng.random() * 72))})
    task.requests = ["phone"]
    if before:
        task.same = {"departure": before[0].domain, "destination": before[1].domain}
        dinner = before[1].booking.get("time")
        task.informable = {"arriveby": dinner} if dinner else task.informable
    else:
        places = [entity["name"] for kind in SLOTS for entity in database()[kind]]
        task.informable |= {"departure": pick(rng, places), "destination": pick(rng, places)}
    return task


_MAKERS = {"restaurant": _venue, "hotel": _venue, "attraction": _venue, "train": _train, "taxi": _taxi}
