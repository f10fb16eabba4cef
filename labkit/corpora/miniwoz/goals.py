"""What a user of MiniWOZ wants: one to three domains, with references between them, second thoughts and bad luck."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from labkit.corpora.miniwoz.database import CITY, DAYS, Entity, clock, database, minutes, query
from labkit.corpora.miniwoz.grammar import pick, shuffled
from labkit.storage import Json

Values = dict[str, str]  # {slot: value}
SLOTS: dict[str, list[str]] = CITY["slots"]  # {domain: slots that a venue may be chosen by}
HOW_MANY: dict[str, list[int]] = CITY["how_many"]  # {domain: of these slots a goal names so many}
BOOKING: dict[str, list[str]] = CITY["booking"]  # {domain: slots of a booking}
REQUESTS = {  # {slot: its name in mwzeval's goals}
    "phone": "PHONE",
    "address": "ADDRESS",
    "postcode": "POST",
    "trainid": "TRAINID",
    "ref": "REFERENCE",
}
GOAL_SPELLING = {"arriveby": "arrive", "leaveat": "leave"}  # mwzeval's
JOURNEY = ("departure", "destination", "day")
YES_OR_NO = ("internet", "parking")
DETAILS = ("phone", "address", "postcode")  # of a venue; a goal asks for as many as one of these numbers says
HOW_MANY_DETAILS = (1, 1, 1, 2, 2, 3)
TRAIN_REQUESTS = {"price": 0.6, "trainid": 0.33, "duration": 0.6}  # how often a goal without a booking asks for each
FIVE_O_CLOCK = 5 * 60  # minutes after midnight
ELEVEN_O_CLOCK = 11 * 60
DAY_END = 23 * 60 + 55  # no later time is asked for, in minutes after midnight


@dataclass
class Task:
    """One domain of a goal. Slots are spelt as in the belief state, those of a booking without their "book"."""

    domain: str
    informable: Values
    booking: Values = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    first: Values = field(default_factory=dict)  # what is said at first: nothing is found, or it was a slip
    slip: bool = False
    unlucky: Values = field(default_factory=dict)  # booking slots whose first wish cannot be had
    same: Values = field(default_factory=dict)  # slot: the domain that its value is taken over from

    def act(self, kind: str) -> str:
        """A dialogue act about this domain: "Restaurant-Inform"."""
        return f"{self.domain.capitalize()}-{kind}"

    def goal(self) -> Json:  # texts by slot, and lists of texts
        """The task in mwzeval's goal format."""
        informable = {}
        for slot, value in self.informable.items():
            name = GOAL_SPELLING.get(slot, slot)
            informable[name] = value
        requestable = []
        for slot in self.requests:
            if slot in REQUESTS:
                requestable.append(REQUESTS[slot])
        wishes: Json = {
            "informable": informable,
            "requestable": requestable,
            "booking": dict(self.booking) or [],  # an empty list, as in mwzeval's file
        }
        return wishes | self._alternatives()

    def _alternatives(self) -> Json:
        """What is wished at first and given up, under MultiWOZ's own names for it; mwzeval does not read them.

        A slot of "fail_info" that the constraints do not have may have any value in the end. A slip of the tongue is
        no wish.
        """
        alternatives: Json = {}
        if self.first and not self.slip:
            alternatives["fail_info"] = dict(self.first)
        if self.unlucky:
            alternatives["fail_book"] = dict(self.unlucky)
        return alternatives


Tasks = list[Task]
Maker = Callable[[str, Random, Tasks], Task]  # (domain, random numbers, tasks before it) → a task


def _combinations() -> list[str]:
    """The combinations of domains, each as often as its weight says."""
    result = []
    weights: dict[str, int] = CITY["goals"]
    for names, weight in weights.items():
        result += [names] * weight
    return result


COMBINATIONS = _combinations()


def sample_tasks(rng: Random, split: str) -> Tasks:
    """The tasks of a goal in random order, a taxi last.

    What one split asks for (constraints, named venues, journeys) the other splits do not.
    """
    combination = pick(rng, COMBINATIONS)
    domains = shuffled(rng, combination.split())
    domains.sort(key=lambda domain: domain == "taxi")
    tasks: Tasks = []
    for domain in domains:
        is_taxi = domain == "taxi"
        between_venues = is_taxi and tasks  # such a taxi goes where the earlier tasks say
        make = _MAKERS[domain]
        task = make(domain, rng, tasks)
        while split_of(task) != split and not between_venues:
            task = make(domain, rng, tasks)
        tasks.append(task)
    return tasks


def split_of(task: Task) -> str:
    """The split that this task's constraints belong to: 14 in 20 train, 3 dev, 3 test."""
    slots = sorted(task.informable)
    if task.domain in ("train", "taxi"):
        slots = JOURNEY
    wanted = []
    for slot in slots:
        if slot in task.informable:
            value = task.informable[slot]
            wanted.append((slot, value))
    constraints = f"{task.domain}{wanted}"
    checksum = zlib.crc32(constraints.encode())
    bucket = checksum % 20
    if bucket < 14:
        return "train"
    if bucket < 17:
        return "dev"
    return "test"


def _venue(domain: str, rng: Random, before: Tasks) -> Task:
    entity, same = _entity(domain, rng, before)
    slots = _wishes(domain, rng, entity, same)
    informable = {slot: entity[slot] for slot in slots}
    task = Task(domain, informable, same=same)
    if rng.random() < 0.22 and not same:
        task.informable = {"name": entity["name"]}
    elif len(slots) > 1 and rng.random() < 0.4:
        _stumble(task, rng)
    if domain in BOOKING and rng.random() < 0.63:
        _book(task, rng, before)
    if not task.booking or rng.random() < 0.08:
        details = shuffled(rng, DETAILS)
        n_details = pick(rng, HOW_MANY_DETAILS)
        task.requests += details[:n_details]
    return task


def _wishes(
    domain: str,
    rng: Random,
    entity: Entity,
    same: Values,
) -> list[str]:
    """The slots that a goal names: those in common with an earlier task, then some others that the venue has."""
    optional = []
    for slot in SLOTS[domain]:
        has_it = entity[slot] != "no"
        if has_it and slot not in same:
            optional.append(slot)
    optional = shuffled(rng, optional)
    n_optional = pick(rng, HOW_MANY[domain])
    some = optional[:n_optional]
    return [*same, *some]


def _entity(domain: str, rng: Random, before: Tasks) -> tuple[Entity, Values]:
    """A venue of which the constraints are taken, and the slot that it has in common with an earlier task."""
    shared = _said_before(before)
    if shared and rng.random() < 0.35:
        slot, task = pick(rng, shared)
        found = []
        if slot in SLOTS[domain]:
            value = task.informable[slot]
            found = query(domain, {slot: value})
        if found:
            entity = pick(rng, found)
            same = {slot: task.domain}
            return entity, same
    venues = database()[domain]
    entity = pick(rng, venues)
    return entity, {}


def _said_before(before: Tasks) -> list[tuple[str, Task]]:
    """The slots of earlier tasks that another one can have in common with them."""
    said = []
    for task in before:
        for slot in ("area", "pricerange"):
            if slot in task.informable:
                said.append((slot, task))
    return said


def _stumble(task: Task, rng: Random) -> None:
    """Let the user begin with a value that finds nothing (and is given up), or that was a slip of the tongue."""
    fixed = [*task.same, *YES_OR_NO]
    free = [slot for slot in task.informable if slot not in fixed]
    if not free:
        free = ["area"]
    slot = pick(rng, free)
    values = _other_values(task, slot)
    task.slip = rng.random() < 0.25
    if not task.slip:
        values = _without_a_match(task, slot, values)
    if not values:
        return
    value = pick(rng, values)
    task.first = {slot: value}
    if not task.slip and rng.random() < 0.2:
        task.informable.pop(slot, None)  # in the end any value will do


def _other_values(task: Task, slot: str) -> list[str]:
    """What the user could say instead of the goal's value."""
    venues = database()[task.domain]
    values = {entity[slot] for entity in venues}
    own = task.informable.get(slot)
    values.discard(own)
    others = sorted(values)
    if slot == "food":
        others += CITY["missing_food"]
    return others


def _without_a_match(task: Task, slot: str, values: list[str]) -> list[str]:
    """Of the values those that find nothing beside the task's other constraints."""
    nothing_found = []
    for value in values:
        constraints = task.informable | {slot: value}
        if not query(task.domain, constraints):
            nothing_found.append(value)
    return nothing_found


def _book(task: Task, rng: Random, before: Tasks) -> None:
    quarters = int(rng.random() * 40)
    time = clock(ELEVEN_O_CLOCK + 15 * quarters)
    values = {
        "time": time,
        "people": pick(rng, "1122345678"),
        "day": pick(rng, DAYS),
        "stay": pick(rng, "12345"),
    }
    slots = BOOKING[task.domain]
    task.booking = {slot: values[slot] for slot in slots}
    task.requests.append("ref")
    booked_before = [other for other in before if other.booking]
    is_train = task.domain == "train"
    if booked_before and rng.random() < 0.6:
        last = booked_before[-1]
        _take_over(task, last, rng)
    elif not is_train and rng.random() < 0.2:
        _be_unlucky(task, time, rng)


def _take_over(task: Task, earlier: Task, rng: Random) -> None:
    """The same people on the same day as in an earlier booking."""
    for slot in ("people", "day"):
        in_both = slot in task.booking and slot in earlier.booking
        if in_both and rng.random() < 0.75:
            value = earlier.booking[slot]
            task.booking[slot] = value
            task.same[f"book{slot}"] = earlier.domain


def _be_unlucky(task: Task, time: str, rng: Random) -> None:
    """Give the booking a first wish that cannot be had."""
    _, *changeable = BOOKING[task.domain]  # the number of people is fixed
    slot = pick(rng, changeable)
    in_an_hour = minutes(time) + 60
    options = {
        "day": DAYS,
        "stay": "678",
        "time": [clock(in_an_hour)],
    }
    wish = task.booking[slot]
    others = []
    for value in options[slot]:
        if value != wish:
            others.append(value)
    first = pick(rng, others)
    task.unlucky = {slot: first}


def _train(domain: str, rng: Random, before: Tasks) -> Task:
    trains = database()["train"]
    train = pick(rng, trains)
    informable = {slot: train[slot] for slot in JOURNEY}
    task = Task(domain, informable)
    with_day = [other for other in before if "day" in other.booking]
    if with_day and rng.random() < 0.5:
        last = with_day[-1]
        day = last.booking["day"]
        task.informable["day"] = day
        task.same["day"] = last.domain
    fives = int(rng.random() * 8)
    slack = 5 * fives  # minutes
    if rng.random() < 0.6:
        arrives = _full_five(train["arriveBy"])
        latest = min(arrives + 5 + slack, DAY_END)
        task.informable["arriveby"] = clock(latest)
    else:
        leaves = _full_five(train["leaveAt"])
        task.informable["leaveat"] = clock(leaves - slack)
    if rng.random() < 0.53:
        _book(task, rng, before)
        return task
    for slot, share in TRAIN_REQUESTS.items():
        if rng.random() < share:
            task.requests.append(slot)
    return task


def _full_five(time: str) -> int:
    """Minutes after midnight, rounded down to five, as people say times."""
    return minutes(time) // 5 * 5


def _taxi(domain: str, rng: Random, before: Tasks) -> Task:
    slot = pick(rng, ("leaveat", "leaveat", "arriveby"))
    quarters = int(rng.random() * 72)
    time = clock(FIVE_O_CLOCK + 15 * quarters)
    task = Task(domain, {slot: time}, requests=["phone"])
    if before:
        start, end = before
        task.same = {
            "departure": start.domain,
            "destination": end.domain,
        }
        if "time" in end.booking:
            booked = end.booking["time"]
            task.informable = {"arriveby": booked}
        return task
    places = []
    for kind in SLOTS:
        for venue in database()[kind]:
            places.append(venue["name"])
    task.informable["departure"] = pick(rng, places)
    task.informable["destination"] = pick(rng, places)
    return task


_MAKERS: dict[str, Maker] = {
    "restaurant": _venue,
    "hotel": _venue,
    "attraction": _venue,
    "train": _train,
    "taxi": _taxi,
}
