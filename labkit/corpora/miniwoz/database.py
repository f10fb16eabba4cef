"""Halderby, the city of MiniWOZ: its venues and trains, with the fields of MultiWOZ's database files."""

import itertools
from functools import cache
from typing import Any

from labkit.storage import shipped

Entity = dict[str, Any]
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
CITY: dict[str, Any] = shipped(__file__, "city.toml")  # its railway, taxis, and what people want there
DEPARTURES, EVERY = 8, 130  # trains a day in each direction, and the minutes between them
INDEXED = ("name", "area", "food", "type", "pricerange", "stars", "day", "departure", "destination")


@cache
def database() -> dict[str, list[Entity]]:
    """{domain: entities}. There is one Halderby: the dialogues depend on a seed, the city does not."""
    cars = {key: CITY[key] for key in ("taxi_colors", "taxi_types")} | {"taxi_phone": ["^[0-9]{11}$"]}
    return {**shipped(__file__, "venues.json"), "train": _trains(), "taxi": [cars]}


def _trains() -> list[Entity]:
    here, trains = CITY["name"], []
    for station, (duration, price, *first) in CITY["lines"].items():
        for departure, destination, start in ((here, station, first[0]), (station, here, first[1])):
            route = {"departure": departure, "destination": destination}
            route |= {"duration": f"{duration} minutes", "price": f"{price:.2f} pounds"}
            for day, number in itertools.product(DAYS, range(DEPARTURES)):
                time = start + EVERY * number
                trains.append(route | {"day": day, "leaveAt": clock(time), "arriveBy": clock(time + duration)})
    return [train | {"trainID": f"HR{1000 + 7 * number}"} for number, train in enumerate(trains)]


def clock(minutes: int) -> str:
    """Minutes after midnight as HH:MM."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def minutes(time: str) -> int:
    """HH:MM as minutes after midnight."""
    return int(time[:2]) * 60 + int(time[3:])


def query(domain: str, constraints: dict[str, str]) -> list[Entity]:
    """Entities that meet all constraints, in the database's order; "dontcare" and booking slots restrict nothing."""
    wanted = [(slot, value) for slot, value in constraints.items() if value != "dontcare" and slot[:4] != "book"]
    listed = [_index(domain)[slot].get(value, []) for slot, value in wanted if slot in _index(domain)]
    shortest = min(listed, key=len, default=database()[domain])
    return [entity for entity in shortest if all(_meets(entity, slot, value) for slot, value in wanted)]


def _meets(entity: Entity, slot: str, value: str) -> bool:
    if slot in ("arriveby", "leaveat"):
        return entity["arriveBy"] <= value if slot == "arriveby" else entity["leaveAt"] >= value
    return entity.get(slot, value) == value


@cache
def _index(domain: str) -> dict[str, dict[str, list[Entity]]]:
    """{slot: {value: entities}}, because a corpus takes some ten thousand queries."""
    index: dict[str, dict[str, list[Entity]]] = {}
    for entity in database()[domain]:
        for slot in (name for name in INDEXED if name in entity):
            index.setdefault(slot, {}).setdefault(entity[slot], []).append(entity)
    return index
