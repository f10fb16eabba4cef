"""What the database has for a user's constraints: how many, and the one that would be offered."""

from collections.abc import Mapping
from functools import cached_property

from labkit.corpora.types import Corpus, Entity, State, Values
from labkit.metrics.database import DOMAINS, VenueDatabase
from labkit.metrics.normalization import normalise_state


class Venues:
    """The entities of a corpus, looked up by belief states as scoring looks them up."""

    def __init__(self, database: Mapping[str, list[Entity]]):
        self.rows = database
        self._index = VenueDatabase(database)

    @classmethod
    def of(cls, corpus: Corpus) -> "Venues":
        """The corpus' own, kept on it."""
        kept = corpus.derived.get("venues")
        if not isinstance(kept, Venues):
            kept = cls(corpus.database)
            corpus.derived["venues"] = kept
        return kept

    def count(self, domain: str, constraints: Values) -> int:
        """How many entities meet the constraints; 0 in a domain that has none (taxi)."""
        return len(self._ids(domain, constraints))

    def first(self, domain: str, constraints: Values) -> Entity | None:
        """The first entity in the order of the database that meets the constraints: what a reader would be shown."""
        places = self._places.get(domain, {})
        ids = self._ids(domain, constraints)
        if not ids:
            return None
        place = min(places[name] for name in ids)
        return self.rows[domain][place]

    def meets(self, domain: str, entity: Entity, constraints: Values) -> bool:
        """Whether an entity of the database meets the constraints."""
        return self._names[domain][id(entity)] in self._ids(domain, constraints)

    def found(self, state: State) -> dict[str, int]:
        """{domain: how many entities a belief state finds}, for the domains that it has and that are looked up."""
        return {domain: self.count(domain, slots) for domain, slots in state.items() if domain in DOMAINS}

    def _ids(self, domain: str, constraints: Values) -> frozenset[str]:
        if domain not in DOMAINS:
            return frozenset()
        normalised = normalise_state({domain: constraints})[domain]
        return self._index.query(domain, normalised)

    @cached_property
    def _places(self) -> dict[str, dict[str, int]]:
        """{domain: {id: number of the row}}."""
        places = {}
        for domain in DOMAINS:
            places[domain] = {
                str(row.get("trainID", row.get("id", number))): number
                for number, row in enumerate(self.rows.get(domain, []))
            }
        return places

    @cached_property
    def _names(self) -> dict[str, dict[int, str]]:
        """{domain: {the row's identity in memory: its id}}."""
        names = {}
        for domain, places in self._places.items():
            names[domain] = {id(self.rows[domain][number]): name for name, number in places.items()}
        return names
