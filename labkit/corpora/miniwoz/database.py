"""Halderby, the city of MiniWOZ: its venues and trains, with the fields of MultiWOZ's database files."""

from functools import cache

from labkit.storage import Json, shipped

Entity = Json  # text, but for the lists of the one row of "taxi"
Index = dict[str, dict[str, list[Entity]]]  # {slot: {value: entities that have it}}
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
CITY: Json = shipped(__file__, "city.toml")  # tables of several kinds: railway, taxis, what people want
DEPARTURES = 8  # trains a day in each direction
EVERY = 130  # minutes between them
FIRST_TRAIN = 1000  # the number in the first train's id
INDEXED = ("name", "area", "food", "type", "pricerange", "stars", "day", "departure", "destination")


@cache
def database() -> dict[str, list[Entity]]:
    """{domain: entities}. There is one Halderby: the dialogues depend on a seed, the city does not."""
    entities: dict[str, list[Entity]] = shipped(__file__, "venues.json")
    entities["train"] = _trains()
    taxi = {
        "taxi_colors": CITY["taxi_colors"],
        "taxi_types": CITY["taxi_types"],
        "taxi_phone": ["^[0-9]{11}$"],
    }
    entities["taxi"] = [taxi]
    return entities


def _trains() -> list[Entity]:
    here = CITY["name"]
    trains: list[Entity] = []
    for station, (duration, price, first_out, first_back) in CITY["lines"].items():
        trains += _trains_between(here, station, first_out, duration, price)
        trains += _trains_between(station, here, first_back, duration, price)
    for number, train in enumerate(trains):
        train["trainID"] = f"HR{FIRST_TRAIN + 7 * number}"
    return trains


def _trains_between(departure: str, destination: str, first: int, duration: int, price: float) -> list[Entity]:
    """A week's trains in one direction; `first` and `duration` in minutes, `price` in pounds."""
    trains = []
    for day in DAYS:
        for number in range(DEPARTURES):
            leaves = first + EVERY * number
            train = {
                "departure": departure,
                "destination": destination,
                "duration": f"{duration} minutes",
                "price": f"{price:.2f} pounds",
                "day": day,
                "leaveAt": clock(leaves),
                "arriveBy": clock(leaves + duration),
            }
            trains.append(train)
    return trains


def clock(minutes: int) -> str:
    """Minutes after midnight as HH:MM."""
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}"


def minutes(time: str) -> int:
    """HH:MM as minutes after midnight."""
    hour, minute = time.split(":")
    return int(hour) * 60 + int(minute)


def query(domain: str, constraints: dict[str, str]) -> list[Entity]:
    """Entities that meet all constraints, in the database's order; "dontcare" and booking slots restrict nothing.

    The corpus' own values are compared letter by letter. Scoring has to be more patient with what models write, see
    `labkit.metrics.database`.
    """
    index = _index(domain)
    candidates = database()[domain]
    wanted = []
    for slot, value in constraints.items():
        if value == "dontcare" or slot.startswith("book"):
            continue
        wanted.append((slot, value))
        if slot in index:
            listed = index[slot].get(value, [])
            candidates = min(candidates, listed, key=len)
    return [entity for entity in candidates if _meets_all(entity, wanted)]


def _meets_all(entity: Entity, wanted: list[tuple[str, str]]) -> bool:
    for slot, value in wanted:
        if slot == "arriveby":
            meets = entity["arriveBy"] <= value
        elif slot == "leaveat":
            meets = entity["leaveAt"] >= value
        else:
            meets = entity.get(slot, value) == value
        if not meets:
            return False
    return True


@cache
def _index(domain: str) -> Index:
    """Because a corpus takes some ten thousand queries."""
    index: Index = {}
    for entity in database()[domain]:
        for slot in INDEXED:
            if slot in entity:
                entries = index.setdefault(slot, {})
                entries.setdefault(entity[slot], []).append(entity)
    return index
