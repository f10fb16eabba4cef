"""What a belief state may say, letter by letter: the language of the state line of one dialogue.

Domains and slots come from the schema, in the order of `state_text`, each at most once; values come from the schema,
the database, and what was said. The language is read along tries: at each place, a trie of what may come next.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from labkit.corpora.types import Corpus, Entity, Service
from labkit.errors import LabError
from labkit.prompts.text import one_line

DONT_CARE = "dontcare"
REQUESTED = {  # slots of the schema that a user asks for: the bot tells them, and no state has them
    "address",
    "phone",
    "postcode",
    "ref",
    "entrancefee",
    "openhours",
    "trainid",
    "price",
    "duration",
}
LONGEST_RUN = 6  # words of a value that was said
AROUND_WORDS = " .,?!:;\"()[]'"
SYNTAX = re.compile(r"[;|=]")  # a value that holds one of these could not be read back


@dataclass(frozen=True)
class SlotValues:
    """The values of a slot that the schema and the database know; of an open slot there may be others."""

    known: frozenset[str]
    is_open: bool


Slots = dict[str, dict[str, SlotValues]]  # {domain: {slot: its values}}


@dataclass(frozen=True)
class Choice:
    """What is being written: the "start", a "domain", a "slot", a "value", or nothing more, the "end"."""

    kind: str
    domain: int = 0  # the number of the domain, or of the first that may come
    slot: int = 0  # the same of the slot


END = Choice("end")


class Node:
    """A place in a trie, which goes on with some letters: {letter: Node}."""

    __slots__ = ("children", "is_value", "then")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.is_value = False  # a value may end here, and may also go on
        self.then: Choice | None = None  # what comes next where a fixed word, such as `area=`, ends here

    def add(self, text: str) -> "Node":
        """Let a text be read from here on; the place after its last letter."""
        node = self
        for letter in text:
            node = node.children.setdefault(letter, Node())
        return node


# Where a line may be: a value that goes on and one that ends can look the same for a while, so there may be several
Place = tuple[tuple[Node, Choice], ...]


class StateLanguage:
    """The state lines that may be written, such as ` restaurant area=centre; food=thai\n`.

    A line is read from `begin()` on, letter by letter, with `read`.
    """

    def __init__(
        self, slots: Slots, *, from_database: bool = True, lead: str = " ", letters: frozenset[str] | None = None
    ):
        """Open slots have the values that the database knows, if `from_database`, and what was said (`hearing`).

        `lead` is what stands before the first word; values that need other `letters` are left out (None: none is).
        """
        self.domains = sorted(slots)
        self.slots = [sorted(slots[domain]) for domain in self.domains]
        self.values = slots
        self.from_database = from_database
        self.lead = lead
        self.letters = letters
        self._said: tuple[Node, ...] = ()  # the values in each text that was said
        self._tries: dict[Choice, Node] = {}
        self._endings: dict[Choice, Node] = {}

    def hearing(self, texts: Sequence[str]) -> "StateLanguage":
        """The same language in a dialogue in which the texts were said: open slots can have their words as values."""
        heard = copy.copy(self)  # the tries are shared: they are of the corpus
        heard._said = tuple(_said_values(text, self.letters) for text in texts)
        return heard

    def begin(self) -> Place:
        """The place before the first letter."""
        return self._begin(Choice("start"))

    def read(self, place: Place, letter: str) -> Place | None:
        """The place after one more letter; None where no state goes on like that."""
        after: dict[tuple[Node, Choice], None] = {}  # in their order, each once
        for node, choice in place:
            ways = [node.children.get(letter)]
            if node.is_value:
                ways.append(self._ending(choice).children.get(letter))
            for way in ways:
                if way is None:
                    continue
                reached = ((way, choice),) if way.then is None else self._begin(way.then)
                after.update(dict.fromkeys(reached))
        return tuple(after) or None

    def place_after(self, text: str) -> Place | None:
        """The place after a text; None where no state begins like that."""
        place: Place | None = self.begin()
        for letter in text:
            if place is None:
                break
            place = self.read(place, letter)
        return place

    def __contains__(self, line: str) -> bool:
        """Whether a line, with its newline, is a state."""
        return line.endswith("\n") and self.place_after(line) is not None

    def _begin(self, choice: Choice) -> Place:
        if choice not in self._tries:
            self._tries[choice] = self._options(choice)
        roots = [self._tries[choice]]
        if choice.kind == "value" and self._values_of(choice).is_open:
            roots.extend(self._said)
        return tuple((root, choice) for root in roots)

    def _options(self, choice: Choice) -> Node:
        """What may be written at a choice, as a trie; of values those that are known without the dialogue."""
        root = Node()
        if choice.kind == "start":
            after_lead = root.add(self.lead)
            after_lead.add("\n").then = END
            self._add_domains(after_lead, 0)
        elif choice.kind == "domain":
            self._add_domains(root, choice.domain)
        elif choice.kind == "slot":
            names = self.slots[choice.domain]
            for number in range(choice.slot, len(names)):
                root.add(f"{names[number]}=").then = Choice("value", choice.domain, number)
        elif choice.kind == "value":
            values = self._values_of(choice)
            hidden = values.is_open and not self.from_database
            for value in {DONT_CARE} if hidden else values.known:
                if is_spelt(value, self.letters):
                    root.add(value).is_value = True
        return root

    def _add_domains(self, node: Node, first: int) -> None:
        for number in range(first, len(self.domains)):
            node.add(f"{self.domains[number]} ").then = Choice("slot", number)

    def _ending(self, choice: Choice) -> Node:
        """What may stand after a value: the end of the line, another slot, another domain."""
        if choice not in self._endings:
            root = Node()
            root.add("\n").then = END
            if choice.slot + 1 < len(self.slots[choice.domain]):
                root.add("; ").then = Choice("slot", choice.domain, choice.slot + 1)
            if choice.domain + 1 < len(self.domains):
                root.add(" | ").then = Choice("domain", choice.domain + 1)
            self._endings[choice] = root
        return self._endings[choice]

    def _values_of(self, choice: Choice) -> SlotValues:
        domain = self.domains[choice.domain]
        slot = self.slots[choice.domain][choice.slot]
        return self.values[domain][slot]


def slots_of(corpus: Corpus) -> Slots:
    """The slots that a belief state can have by a corpus' schema, with the values of the schema and the database.

    Raises:
        LabError: the corpus has no schema.
    """
    if not corpus.schema:
        raise LabError(f"{corpus.name} has no schema", "no grammar without one", "put schema.json into its folder")
    slots: Slots = {}
    for service in corpus.schema:
        domain = str(service["service_name"])
        entities = corpus.database.get(domain, [])
        of_domain = _slots_of(service, domain, entities if isinstance(entities, list) else [])
        if of_domain:
            slots[domain] = of_domain
    return slots


def _slots_of(service: Service, domain: str, entities: list[Entity]) -> dict[str, SlotValues]:
    slots = {}
    for slot in service.get("slots", []):
        name = str(slot["name"]).partition("-")[2].lower()
        is_requested = name in REQUESTED or (domain, name) == ("taxi", "type")  # of a taxi, the bot tells the type
        if is_requested:
            continue
        listed = slot.get("possible_values") or []
        texts = {DONT_CARE, *map(str, listed), *_column(entities, name)}
        known = frozenset(text for text in texts if is_writable(text))
        is_open = not (listed and slot.get("is_categorical"))
        slots[name] = SlotValues(known, is_open)
    return slots


def _column(entities: list[Entity], slot: str) -> Iterator[str]:
    """The texts in the database's column of a slot, which it may spell `leaveAt` or `price range`."""
    for entity in entities:
        for column, value in entity.items():
            if column.lower().replace(" ", "") == slot and isinstance(value, str):
                yield one_line(value).lower()


def is_writable(value: str) -> bool:
    """Whether a value, written in a state line, is read back as it was."""
    return bool(value) and value == one_line(value) and not SYNTAX.search(value)


def is_spelt(value: str, letters: frozenset[str] | None) -> bool:
    """Whether a value needs no other letters."""
    return letters is None or letters.issuperset(value)


@lru_cache(maxsize=2**14)
def _said_values(text: str, letters: frozenset[str] | None) -> Node:
    """The runs of words in a text that could be the value of an open slot, in lower case, as a trie."""
    words = [word.strip(AROUND_WORDS) for word in text.lower().split()]
    root = Node()
    for first in range(len(words)):
        last = min(first + LONGEST_RUN, len(words))
        for end in range(first + 1, last + 1):
            run = one_line(" ".join(words[first:end]))
            if is_writable(run) and is_spelt(run, letters):
                root.add(run).is_value = True
    return root
