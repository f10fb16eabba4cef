"""What predictions are held against: the references, belief states, goals and entities of a split."""

from collections.abc import Iterator, Mapping
from functools import cached_property

from labkit.corpora.slots import CLASS_OF
from labkit.corpora.types import SPLIT_ALIASES, Corpus, Dialogue, Goal, State
from labkit.errors import LabError
from labkit.metrics.checks import printable, typed
from labkit.metrics.database import VenueDatabase
from labkit.metrics.normalization import normalise_reply, normalise_state, slot_name
from labkit.prompts.text import delexicalise

TELLING = {"name", "phone", "postcode", "trainid", "trainID", "address", "ref"}  # what no delexicalised reply holds
SHORTEST_TELLING = 5  # characters; shorter values are also ordinary words
MEND = "mend the file, or fetch the corpus again"


class Gold:
    """References, belief states and goals of a split; each dialogue is normalised when it is first asked for.

    Raises:
        LabError: the schema, or the database, holds something of a wrong type; goals and booked domains are looked
            at when a dialogue is scored. The file, the dialogue and the field are named.
    """

    def __init__(self, corpus: Corpus, split: str):
        self.corpus = corpus
        self.split = split
        self.source: list[Dialogue] = corpus[split]
        self.dialogues = {dialogue.key: dialogue for dialogue in self.source}
        typed(corpus.goals, dict, MEND, "goals")
        typed(corpus.booked, dict, MEND, "booked_domains")
        typed(corpus.database, dict, MEND, "database")
        self.database = VenueDatabase(corpus.database)
        self.slots = {slot_name(name) for name in CLASS_OF}  # that a belief state may have
        self.slots.update(slot_name(name) for name in _schema_slots(corpus))
        self._references: dict[str, list[str]] = {}
        self._states: dict[str, list[State]] = {}

    def references(self, key: str) -> list[str]:
        """The corpus' own replies of a dialogue, delexicalised and normalised: one for each bot turn."""
        if key not in self._references:
            references = []
            for turn in self.dialogues[key].bot_turns:
                reference, _ = normalise_reply(delexicalise(turn))
                references.append(reference)
            self._references[key] = references
        return self._references[key]

    def states(self, key: str) -> list[State]:
        """The annotated belief state of each bot turn, normalised, without "dontcare", which is no constraint."""
        if key not in self._states:
            states = []
            for turn in self.dialogues[key].bot_turns:
                constraints = _constraints(turn.state)
                states.append(normalise_state(constraints))
            self._states[key] = states
        return self._states[key]

    def goal(self, key: str) -> Goal:
        """What the user of a dialogue wants, checked."""
        goal = self.corpus.goals[key]
        place = f"goals, dialogue {key}"
        typed(goal, dict, MEND, place)
        for domain, wishes in goal.items():
            _check_wishes(wishes, f"{place}, {domain}")
        return goal

    def booked(self, key: str, n_turns: int) -> list[list[str]]:
        """The domains booked by each of the first `n_turns` bot turns; none where the corpus doesn't say."""
        if key not in self.corpus.booked:
            return [[] for _ in range(n_turns)]
        place = f"booked_domains, dialogue {key}"
        booked = self.corpus.booked[key]
        typed(booked, list, MEND, place)
        if len(booked) < n_turns:
            found = f"it has {len(booked)} turns, the dialogue {n_turns} bot turns or more"
            raise LabError(printable(place), found, MEND)
        for number, domains in enumerate(booked):
            typed(domains, list, MEND, place, f"turn {number}")
        return booked[:n_turns]

    @cached_property
    def telling_values(self) -> set[str]:
        """Names, numbers and addresses of the database and the split, in lower case, that are long enough to tell."""
        values: set[str] = set()
        for value in self._values_of_telling_slots():
            if not isinstance(value, str):
                continue
            text = value.strip().lower()
            if len(text) >= SHORTEST_TELLING:
                values.add(text)
        return values

    def _values_of_telling_slots(self) -> Iterator[object]:
        for rows in self.corpus.database.values():
            for row in _objects(rows):
                yield from (value for column, value in row.items() if column in TELLING)
        for dialogue in self.source:
            for turn in dialogue.bot_turns:
                yield from (span.value for span in turn.spans if span.slot in TELLING)


def gold_of(corpus: Corpus, split: str) -> Gold:
    """The split's gold; it is kept on the corpus, as long as that lives."""
    split = SPLIT_ALIASES.get(split, split)
    name = f"gold of {split}"
    kept = corpus.derived.get(name)
    if isinstance(kept, Gold) and kept.source is corpus[split]:
        return kept
    gold = Gold(corpus, split)
    corpus.derived[name] = gold
    return gold


def _schema_slots(corpus: Corpus) -> Iterator[str]:
    """The names of the schema's slots, without their domain."""
    typed(corpus.schema, list, MEND, "schema")
    for number, service in enumerate(corpus.schema):
        place = f"schema, service {number}"
        typed(service, dict, MEND, place)
        slots = service.get("slots", [])
        typed(slots, list, MEND, place, "slots")
        for slot in slots:
            typed(slot, dict, MEND, place, "a slot")
            name = slot.get("name")
            typed(name, str, MEND, place, "the name of a slot")
            _, _, after_domain = name.rpartition("-")
            yield after_domain


def _constraints(state: State) -> State:
    """The state without "dontcare" and without domains that are then empty."""
    result: State = {}
    for domain, slots in state.items():
        for slot, value in slots.items():
            if value != "dontcare":
                result.setdefault(domain, {})[slot] = value
    return result


def _check_wishes(wishes: object, place: str) -> None:
    """Raise LabError unless a domain's part of a goal is {"informable": {slot: text}, "requestable": [text], …}."""
    parts = typed(wishes, dict, MEND, place)
    constraints = parts.get("informable")
    typed(constraints, dict, MEND, place, "informable")
    for slot, value in constraints.items():
        typed(value, str, MEND, place, "informable", slot)
    requested = parts.get("requestable")
    typed(requested, list, MEND, place, "requestable")
    for slot in requested:
        typed(slot, str, MEND, place, "requestable")


def _objects(rows: object) -> list[Mapping[str, object]]:
    """The objects of a list; [] of what is no list (MultiWOZ has a taxi file that is none)."""
    if not isinstance(rows, list):
        return []
    return [row for row in rows if isinstance(row, dict)]
