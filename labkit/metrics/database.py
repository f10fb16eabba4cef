"""Which venues and trains of the database meet some constraints."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rapidfuzz.distance import Indel, Levenshtein

from labkit.metrics.normalization import minutes, slot_name, slot_value

DOMAINS = ("restaurant", "hotel", "attraction", "train")
FUZZY = {("restaurant", "food"), ("train", "departure"), ("train", "destination")}
FUZZY |= {(domain, "name") for domain in DOMAINS}
UNSEARCHED = {"location", "openhours", "price", "takesbookings", "introduction", "signature"}  # columns of venues
DONT_CARE = {"dontcare", "not mentioned", "don't care", "dont care", "do n't care", "do not care"}
ALIKE = 90  # partial_ratio from which a name, food or station is the one that was meant


@lru_cache(maxsize=2**20)
def partial_ratio(first: str, second: str) -> int:
    """0 to 100: the shorter value against the stretches of the longer one that an optimal alignment proposes.

    This is fuzzywuzzy's figure (with python-Levenshtein), which the thresholds were set for. rapidfuzz's own tries
    all stretches: "yu garden" is 89 like "curry garden" here and 94 there.
    """
    if first == second or not first or not second:
        return 100 * (first == second)
    shorter, longer = (first, second) if len(first) <= len(second) else (second, first)
    blocks = Levenshtein.opcodes(shorter, longer).as_matching_blocks()
    starts = {max(block.b - block.a, 0) for block in blocks}
    best = max(Indel.normalized_similarity(shorter, longer[start : start + len(shorter)]) for start in starts)
    return 100 if best > 0.995 else round(100 * best)


class VenueDatabase:
    """The entities of a corpus, {domain: [{column: value}]} as in MultiWOZ, indexed; every lookup is remembered."""

    def __init__(self, entities: dict[str, list[dict[str, Any]]]):
        self._index = {domain: _index(domain, entities.get(domain, [])) for domain in DOMAINS}
        self._ids = {
            domain: [str(row.get("trainID" if domain == "train" else "id", number)) for number, row in enumerate(rows)]
            for domain, rows in entities.items()
            if domain in DOMAINS
        }
        self._rows, self._found = lru_cache(maxsize=2**14)(self._rows), lru_cache(maxsize=2**16)(self._found)

    def query(self, domain: str, constraints: dict[str, str]) -> frozenset[str]:
        """Ids of the entities that meet all constraints; slots that the domain hasn't, and "dontcare", are ignored."""
        index = self._index.get(domain, {})
        wanted = (item for item in constraints.items() if item[0] in index and item[1] not in DONT_CARE)
        return self._found(domain, frozenset(wanted))

    def _found(self, domain: str, wanted: frozenset[tuple[str, str]]) -> frozenset[str]:
        rows = sorted((self._rows(domain, slot, value) for slot, value in wanted), key=len)
        ids = self._ids.get(domain, [])
        return frozenset(ids[row] for row in (rows[0].intersection(*rows[1:]) if rows else range(len(ids))))

    def _rows(self, domain: str, slot: str, value: str) -> frozenset[int]:
        """Rows that meet one constraint; an unknown value ("?") meets any."""
        meets = _test(domain, slot, slot_value(slot, value))
        entries = self._index[domain][slot].items()
        return frozenset(row for entry, rows in entries if entry == "?" or meets(entry) for row in rows)


def _index(domain: str, rows: list[dict[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """{slot: {value: rows that have it}} of what can be searched, "?" where a row has no value."""
    names = set(rows[0] if rows else ()) - (set() if domain == "train" else UNSEARCHED)
    index: dict[str, dict[str, list[int]]] = {slot_name(name): {} for name in names}
    for number, row in enumerate(rows):
        entries = {slot_name(name): entry for name, entry in row.items()}
        for slot, numbers in index.items():
            numbers.setdefault(entries.get(slot, "?"), []).append(number)
    return index


def _test(domain: str, slot: str, value: str) -> Callable[[str], bool]:
    if slot == "arrive":
        return lambda entry: minutes(entry) <= minutes(value)
    if slot == "leave":
        return lambda entry: minutes(entry) >= minutes(value)
    if (domain, slot) in FUZZY:
        return lambda entry: partial_ratio(entry, value) >= ALIKE
    return lambda entry: entry == value
