"""Which venues and trains of the database meet some constraints."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from labkit.corpora.given import typed
from labkit.corpora.spelling import normalise_state, slot_name, slot_value
from labkit.corpora.times import minutes
from labkit.corpora.types import State

Row = Mapping[str, object]  # an entity as the database file has it: {column: value}
Entity = dict[str, str]  # an entity as it is searched: {slot: value}
Constraint = tuple[str, str]  # (slot, value)
Database = Mapping[str, Sequence[Row]]  # {domain: entities}
Index = dict[str, dict[str, list[int]]]  # {slot: {value: numbers of the rows that have it}}

DOMAINS = ("restaurant", "hotel", "attraction", "train")
FUZZY = {  # (domain, slot) whose values only have to be nearly the same
    ("restaurant", "name"),
    ("restaurant", "food"),
    ("hotel", "name"),
    ("attraction", "name"),
    ("train", "name"),
    ("train", "departure"),
    ("train", "destination"),
}
UNSEARCHED = {"location", "openhours", "price", "takesbookings", "introduction", "signature"}  # columns of venues
DONT_CARE = {"dontcare", "not mentioned", "don't care", "dont care", "do n't care", "do not care"}
NUMBERS = ("id", "trainid")  # slots that tell entities apart, and may be numbers
UNKNOWN = "?"  # what the database writes for a value that it does not know
ALIKE = 90  # partial_ratio from which a name, food or station is the one that was meant
MEND = "mend the database file, or fetch the corpus again"


@lru_cache(maxsize=2**20)
def partial_ratio(first: str, second: str) -> int:
    """0 to 100: the shorter value against the stretches of the longer one that an optimal alignment proposes.

    This is fuzzywuzzy's figure (with python-Levenshtein), which the thresholds were set for. rapidfuzz's own tries
    all stretches: "yu garden" is 89 like "curry garden" here and 94 there.
    """
    from rapidfuzz.distance import Indel, Levenshtein

    if first == second:
        return 100
    if not first or not second:
        return 0
    shorter, longer = sorted((first, second), key=len)
    best = 0.0
    for block in Levenshtein.opcodes(shorter, longer).as_matching_blocks():
        start = max(block.b - block.a, 0)
        stretch = longer[start : start + len(shorter)]
        best = max(best, Indel.normalized_similarity(shorter, stretch))
    if best > 0.995:
        return 100
    return round(100 * best)


def searched_rows(domain: str, rows: Sequence[Row]) -> list[Entity]:
    """The entities of a domain with only the columns that are searched, as slots.

    Raises:
        LabError: an entity is no object, or a searched value no text (an id may be a number); the column is named.
    """
    ignored = set() if domain == "train" else UNSEARCHED
    file = f"database, {domain}"
    typed(rows, list, MEND, file)
    entities = []
    for number, row in enumerate(rows):
        place = f"{file}, entity {number}"
        typed(row, dict, MEND, place)
        entity = {}
        for column, value in row.items():
            if column in ignored:
                continue
            slot = slot_name(column)
            is_number_of_entity = slot in NUMBERS and isinstance(value, int)
            if not is_number_of_entity:
                typed(value, str, MEND, place, f"column {column!r}")
            entity[slot] = value
        entities.append(entity)
    return entities


class VenueDatabase:
    """The entities of a corpus, {domain: [{column: value}]} as in MultiWOZ, indexed; every lookup is remembered.

    Raises:
        LabError: an entity of a domain that is searched has no text where text belongs.
    """

    def __init__(self, entities: Database):
        self._ids: dict[str, list[str]] = {}  # {domain: the id of each row}
        self._index: dict[str, Index] = {}
        for domain in DOMAINS:
            rows = searched_rows(domain, entities.get(domain, []))
            self._ids[domain] = [_id_of(row, number) for number, row in enumerate(rows)]
            self._index[domain] = _index_of(rows)
        self._rows_that_meet = lru_cache(maxsize=2**14)(self._find_rows)
        self._ids_that_meet = lru_cache(maxsize=2**16)(self._find_ids)

    def query(self, domain: str, constraints: Mapping[str, str]) -> frozenset[str]:
        """Ids of the entities that meet all constraints; slots that the domain hasn't, and "dontcare", are ignored."""
        known_slots = self._index.get(domain, {})
        wanted = []
        for slot, value in constraints.items():
            if slot in known_slots and value not in DONT_CARE:
                wanted.append((slot, value))
        return self._ids_that_meet(domain, frozenset(wanted))

    def count(self, state: State) -> dict[str, int]:
        """How many entities a belief state finds, {domain: number}, in the domains of the state that are searched."""
        counts = {}
        for domain, constraints in normalise_state(state).items():
            if self._ids.get(domain):
                counts[domain] = len(self.query(domain, constraints))
        return counts

    def _find_ids(self, domain: str, wanted: frozenset[Constraint]) -> frozenset[str]:
        ids = self._ids.get(domain, [])
        if not wanted:
            return frozenset(ids)
        row_sets = [self._rows_that_meet(domain, slot, value) for slot, value in wanted]
        row_sets.sort(key=len)  # the smallest first: an intersection is as quick as its smallest set
        rows = row_sets[0].intersection(*row_sets[1:])
        return frozenset(ids[row] for row in rows)

    def _find_rows(self, domain: str, slot: str, value: str) -> frozenset[int]:
        """Rows that meet one constraint; an unknown value meets any."""
        is_fuzzy = (domain, slot) in FUZZY
        wanted = slot_value(slot, value)
        rows_of_entry = self._index[domain][slot]
        found: set[int] = set()
        for entry, rows in rows_of_entry.items():
            if entry == UNKNOWN or _meets(entry, slot, wanted, is_fuzzy):
                found.update(rows)
        return frozenset(found)


def _id_of(row: Entity, number: int) -> str:
    """What tells an entity from the others of its domain: its train id, its id, or its number in the file."""
    for slot in ("trainid", "id"):
        if slot in row:
            return str(row[slot])
    return str(number)


def _index_of(rows: Sequence[Entity]) -> Index:
    """The index of a domain, with the slots of the first row, as mwzeval has it."""
    index: Index = {}
    if not rows:
        return index
    for slot in rows[0]:
        rows_of_value: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            value = row.get(slot, UNKNOWN)
            rows_of_value.setdefault(value, []).append(number)
        index[slot] = rows_of_value
    return index


def _meets(entry: str, slot: str, wanted: str, is_fuzzy: bool) -> bool:
    if is_fuzzy:
        return partial_ratio(entry, wanted) >= ALIKE
    if slot == "arrive":
        return minutes(entry) <= minutes(wanted)
    if slot == "leave":
        return minutes(entry) >= minutes(wanted)
    return entry == wanted
