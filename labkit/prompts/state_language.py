"""What a belief state may say, letter by letter: the language of the state line of one dialogue.

Domains and slots come in the order of `state_text`, each at most once, and values from `labkit.prompts.state_values`.
The language is read along tries: at each place, a trie of what may come next.
"""

import copy
from dataclasses import dataclass, replace
from functools import lru_cache

from labkit.corpora.types import State
from labkit.prompts.letters import LetterLanguage
from labkit.prompts.state_values import Heard, Slots, SlotValues, runs_of
from labkit.prompts.text import NOT_SAID


@dataclass(frozen=True)
class Choice:
    """What is being written: the "start", a "domain", a "slot", a "value", or nothing more, the "end"."""

    kind: str
    domain: int = 0  # the number of the domain, or of the first that may come
    slot: int = 0  # the same of the slot
    written: frozenset[str] = frozenset()  # values before it, where the language asks for them


END = Choice("end")


class Node:
    """A place in a trie, which goes on with some letters: {letter: Node}."""

    __slots__ = ("children", "then", "value")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.value: str | None = None  # that may end here, and may also go on
        self.then: Choice | None = None  # what comes next where a fixed word, such as `area=`, ends here

    def add(self, text: str) -> "Node":
        """Let a text be read from here on; the place after its last letter."""
        node = self
        for letter in text:
            node = node.children.setdefault(letter, Node())
        return node


# Where a line may be: a value that goes on and one that ends can look the same for a while, so there may be several
Place = tuple[tuple[Node, Choice], ...]


class StateLanguage(LetterLanguage[Place]):
    """The state lines that may be written, such as ` restaurant area=centre; food=thai\n`.

    A line is read from `begin()` on, letter by letter, with `read`.
    """

    def __init__(self, slots: Slots, *, lead: str = " ", letters: frozenset[str] | None = None):
        """`lead` stands before the first word; values that need other `letters` are left out (None: none is)."""
        self.domains = sorted(slots)
        self.slots = [sorted(slots[domain]) for domain in self.domains]
        self.values = slots
        self.lead = lead
        self.letters = letters
        self._texts: tuple[str, ...] = ()  # what was said
        self._held: State = {}  # slots that can be taken back
        self._tries: dict[Choice, Node] = {}
        self._endings: dict[Choice, Node] = {}

    def hearing(self, heard: Heard, *, changes: bool = False) -> "StateLanguage":
        """The same language in a dialogue: open slots can have words that were said as values.

        With `changes` the line says what changes the state before: its slots can be taken back (`none`).
        """
        language = copy.copy(self)  # the tries are shared: they are of the corpus
        language._texts = heard.texts
        language._held = heard.before if changes else {}
        return language

    def begin(self) -> Place:
        """The place before the first letter."""
        return self._begin(Choice("start"))

    def read(self, place: Place, letter: str) -> Place | None:
        """The place after one more letter; None where no state goes on like that."""
        after: dict[tuple[Node, Choice], None] = {}  # in their order, each once
        for node, choice in place:
            ways = [(node.children.get(letter), choice)]
            if node.value is not None:
                ended = replace(choice, written=self._with(choice.written, node.value))
                ways.append((self._ending(ended).children.get(letter), ended))
            for way, at in ways:
                if way is None:
                    continue
                reached = ((way, at),) if way.then is None else self._begin(way.then)
                after.update(dict.fromkeys(reached))
        return tuple(after) or None

    def __contains__(self, line: str) -> bool:
        """Whether a line, with its newline, is a state."""
        return line.endswith("\n") and self.place_after(line) is not None

    def _begin(self, choice: Choice) -> Place:
        if choice not in self._tries:
            self._tries[choice] = self._options(choice)
        roots = [self._tries[choice]]
        if choice.kind == "value":
            if self._values_of(choice).is_open:
                roots.extend(_trie(runs_of(text), self.letters) for text in self._texts)
            domain = self.domains[choice.domain]
            if self.slots[choice.domain][choice.slot] in self._held.get(domain, {}):
                roots.append(_trie((NOT_SAID,), self.letters))
        return tuple((root, choice) for root in roots)

    def _options(self, choice: Choice) -> Node:
        """What may be written at a choice, as a trie; of values those that are known without the dialogue."""
        root = Node()
        if choice.kind == "start":
            after_lead = root.add(self.lead)
            if self._may_end(choice.written):
                after_lead.add("\n").then = END
            self._add_domains(after_lead, choice)
        elif choice.kind == "domain":
            self._add_domains(root, choice)
        elif choice.kind == "slot":
            for number in self._next_slots(choice.domain, choice.slot, choice.written):
                name = self.slots[choice.domain][number]
                root.add(f"{name}=").then = Choice("value", choice.domain, number, choice.written)
        elif choice.kind == "value":
            return _trie(tuple(self._values_of(choice).known), self.letters)
        return root

    def _add_domains(self, node: Node, choice: Choice) -> None:
        for number in self._next_domains(choice.domain, choice.written):
            node.add(f"{self.domains[number]} ").then = Choice("slot", number, 0, choice.written)

    def _ending(self, choice: Choice) -> Node:
        """What may stand after a value: the end of the line, another slot, another domain."""
        if choice not in self._endings:
            root = Node()
            domain, slot, written = choice.domain, choice.slot, choice.written
            if self._may_end(written):
                root.add("\n").then = END
            if self._next_slots(domain, slot + 1, written):
                root.add("; ").then = Choice("slot", domain, slot + 1, written)
            if self._next_domains(domain + 1, written):
                root.add(" | ").then = Choice("domain", domain + 1, 0, written)
            self._endings[choice] = root
        return self._endings[choice]

    def _next_slots(self, domain: int, first: int, written: frozenset[str]) -> list[int]:
        """The slots of a domain, from the `first` on, that may be written."""
        n_slots = len(self.slots[domain])
        return [number for number in range(first, n_slots) if self._may_write(domain, number, written)]

    def _next_domains(self, first: int, written: frozenset[str]) -> list[int]:
        """The domains, from the `first` on, of which a slot may be written."""
        n_domains = len(self.domains)
        return [number for number in range(first, n_domains) if self._next_slots(number, 0, written)]

    def _values_of(self, choice: Choice) -> SlotValues:
        domain = self.domains[choice.domain]
        slot = self.slots[choice.domain][choice.slot]
        return self.values[domain][slot]

    # What a narrower language asks for: after what is `written` …

    def _with(self, written: frozenset[str], value: str) -> frozenset[str]:
        """… and a value, what is written; this language need not know."""
        return written

    def _may_end(self, written: frozenset[str]) -> bool:
        """… whether the line may end."""
        return True

    def _may_write(self, domain: int, slot: int, written: frozenset[str]) -> bool:
        """… whether a slot may come."""
        return True


@lru_cache(maxsize=2**12)
def _trie(values: tuple[str, ...], letters: frozenset[str] | None) -> Node:
    """Values as a trie, without those that need other letters."""
    root = Node()
    for value in values:
        if letters is None or letters.issuperset(value):
            root.add(value).value = value
    return root
