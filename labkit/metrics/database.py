"""Which venues and trains of the database meet some constraints."""

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
    shorter, longer = sorted((first, second), key=len)
    blocks = Levenshtein.opcodes(shorter, longer).as_matching_blocks()
    starts = {max(block.b - block.a, 0) for block in blocks}
    best = max(Indel.normalized_similarity(shorter, longer[start : start + len(shorter)]) for start in starts)
    return 100 if best > 0.995 else round(100 * best)


def searched_rows(domain: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entities of a domain with only the columns that are searched, as slots."""
    ignored = set() if domain == "train" else UNSEARCHED
    return [{slot_name(name): entry for name, entry in row.items() if name not in ignored} for row in rows]


class VenueDatabase:
    """The entities of a corpus, {domain: [{column: value}]} as in MultiWOZ, indexed; every lookup is remembered."""

    def __init__(self, entities: dict[str, list[dict[str, Any]]]):
        self._ids, self._index = {}, {}  # {domain: [id of each row]}, {domain: {slot: {value: rows that have it}}}
        for domain in DOMAINS:
            rows = searched_rows(domain, entities.get(domain, []))
            self._ids[domain] = [str(row.get("trainid", row.get("id", number))) for number, row in enumerate(rows)]
            self._index[domain] = {slot: {} for row in rows[:1] for slot in row}
            for slot, numbers in self._index[domain].items():
                for number, row in enumerate(rows):
                    numbers.setdefault(row.get(slot, "?"), []).append(number)
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
        how = "fuzzy" if (domain, slot) in FUZZY else slot
        entries, value = self._index[domain][slot].items(), slot_value(slot, value)
        return frozenset(row for entry, rows in entries if entry == "?" or _meets(entry, how, value) for row in rows)


def _meets(entry: str, how: str, value: str) -> bool:
    if how == "fuzzy":
        return partial_ratio(entry, value) >= ALIKE
    if how == "arrive":
        return minutes(entry) <= minutes(value)
    return minutes(entry) >= minutes(value) if how == "leave" else entry == value
