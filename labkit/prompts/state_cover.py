"""A narrower language of state lines: what a user said in a turn has to be written, too, and each place once.

`only_said` keeps out what nobody said. Here nothing that was said may be left out either: a small model that hesitates
at a name then has no other way than to write it, under the domain that has it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from labkit.prompts.state_language import Choice, StateLanguage
from labkit.prompts.state_values import (
    DONT_CARE,
    LONGEST_RUN,
    NUMBERS,
    Heard,
    Slots,
    SlotValues,
    is_spelt,
    plain,
    words_of,
)
from labkit.prompts.text import NOT_SAID

Slot = tuple[str, str]  # domain and slot
ENDS = ("departure", "destination")  # nobody goes from a place to itself
UNCLEAR = {plain("yes"), plain("no"), plain("free"), *NUMBERS}  # words of a turn that are values by chance


@dataclass(frozen=True)
class Mention:
    """A value that was said in a turn, as it is compared, the slots that it could be meant for, and how often."""

    value: str
    slots: frozenset[Slot]
    times: int = 1


def mentions(slots: Slots, heard: Heard) -> list[Mention]:
    """What a turn's words say of values, the longest runs of words first; what the state has already is left out."""
    words = words_of(heard.texts[-1])
    meant = _slots_by_value(slots)
    taken: set[int] = set()
    found: dict[str, Mention] = {}
    for start, end in _runs(len(words)):
        value = plain(" ".join(words[start:end]))
        is_value = value in meant and value not in UNCLEAR and value not in slots  # "the hotel" is a domain
        if not is_value or not taken.isdisjoint(range(start, end)):
            continue
        taken.update(range(start, end))
        before = words[start - 1] if start else ""
        possible = _likely(meant[value], before, heard)
        if possible and not _is_held(value, heard):
            times = found[value].times + 1 if value in found else 1
            found[value] = Mention(value, possible, times)
    return list(found.values())


def _runs(n_words: int) -> Iterator[tuple[int, int]]:
    """Where runs of words begin and end, the longest first."""
    for length in range(min(LONGEST_RUN, n_words), 0, -1):
        for start in range(n_words - length + 1):
            yield start, start + length


def _slots_by_value(slots: Slots) -> dict[str, frozenset[Slot]]:
    """The slots that can have a value, {value as it is compared: slots}."""
    found: dict[str, set[Slot]] = {}
    for domain, names in slots.items():
        for slot, values in names.items():
            for value in values.known - {DONT_CARE, NOT_SAID}:
                found.setdefault(plain(value), set()).add((domain, slot))
    return {value: frozenset(some) for value, some in found.items()}


def _likely(possible: frozenset[Slot], before: str, heard: Heard) -> frozenset[Slot]:
    """Without slots that a value is not meant for, by the word `before` it.

    A place after "to" is no departure, and one after "from" no destination. A venue is an end of a journey only after
    one of these, or where one is being spoken of already.
    """
    wrong = {"to": "departure", "from": "destination"}.get(before)
    likely = {one for one in possible if one[1] != wrong}
    is_venue = any(slot == "name" for _, slot in likely)
    if is_venue and not wrong:
        likely = {one for one in likely if one[1] not in ENDS or one[0] in heard.before}
    return frozenset(likely)


def _is_held(value: str, heard: Heard) -> bool:
    """Whether the state before has a value: who says it again need not mean a change."""
    for names in heard.before.values():
        for held in names.values():
            if plain(held) == value:
                return True
    return False


class CoveringLanguage(StateLanguage):
    """The state lines in which every mention of a turn is written, and a place is not both ends of a journey."""

    def __init__(self, slots: Slots, due: Sequence[Mention], *, lead: str = " ", letters: frozenset[str] | None = None):
        super().__init__(slots, lead=lead, letters=letters)
        self._due: list[Mention] = []
        for mention in due:  # one that cannot be written beside those before it is not asked for
            self._due.append(mention)
            if not self._can_follow(frozenset(), (0, -1)):
                self._due.pop()

    def _may_end(self, written: frozenset[str]) -> bool:
        return all(mention.value in written for mention in self._due)

    def _may_write(self, domain: int, slot: int, written: frozenset[str]) -> bool:
        first = next(self._possible(domain, slot, written), None)
        return first is not None

    def _values_of(self, choice: Choice) -> SlotValues:
        possible = self._possible(choice.domain, choice.slot, choice.written)
        return SlotValues(frozenset(possible), is_open=False)

    def _with(self, written: frozenset[str], value: str) -> frozenset[str]:
        return written | {plain(value)}

    def _possible(self, domain: int, slot: int, written: frozenset[str]) -> Iterator[str]:
        """The values of a slot after which all that is due can still be written."""
        domain_name = self.domains[domain]
        name = self.slots[domain][slot]
        for value in self.values[domain_name][name].known:
            if not self._is_meant(domain_name, name, value, written):
                continue
            if self._can_follow(self._with(written, value), (domain, slot)):
                yield value

    def _is_meant(self, domain: str, slot: str, value: str, written: frozenset[str]) -> bool:
        """Whether a slot can have a value at all: who says one does not take back another, or leave it to the bot."""
        if not is_spelt(value, self.letters):
            return False
        if value in (DONT_CARE, NOT_SAID):
            return not self._due
        if plain(value) in written and (slot in ENDS or self._said_once(value)):
            return False
        mention = self._mention_of(value)
        return slot not in ENDS or mention is None or (domain, slot) in mention.slots

    def _said_once(self, value: str) -> bool:
        mention = self._mention_of(value)
        return mention is not None and mention.times == 1

    def _mention_of(self, value: str) -> Mention | None:
        compared = plain(value)
        for mention in self._due:
            if mention.value == compared:
                return mention
        return None

    def _can_follow(self, written: frozenset[str], last: tuple[int, int]) -> bool:
        """Whether each mention that is still due can have a slot of its own after the `last` one."""
        due = [mention for mention in self._due if mention.value not in written]
        later: dict[str, list[Slot]] = {}
        for mention in due:
            later[mention.value] = [
                one for one in mention.slots if self._number(one) > last and self._has(one, mention)
            ]
        return _can_be_told_apart(later)

    def _has(self, slot: Slot, mention: Mention) -> bool:
        """Whether a slot has a mention's value, in letters that can be written."""
        domain, name = slot
        known = self.values.get(domain, {}).get(name)
        if known is None:
            return False
        spelt = [value for value in known.known if is_spelt(value, self.letters)]
        return any(plain(value) == mention.value for value in spelt)

    def _number(self, slot: Slot) -> tuple[int, int]:
        """The place of a slot in the order of a line."""
        domain, name = slot
        if name not in self.values.get(domain, {}):
            return (-1, -1)
        number = self.domains.index(domain)
        return number, self.slots[number].index(name)


def _can_be_told_apart(choices: dict[str, list[Slot]]) -> bool:
    """Whether each value can have one of its slots for itself (a matching; Kuhn 1955)."""
    owner: dict[Slot, str] = {}

    def find(value: str, tried: set[Slot]) -> bool:
        for slot in choices[value]:
            if slot in tried:
                continue
            tried.add(slot)
            if slot not in owner or find(owner[slot], tried):
                owner[slot] = value
                return True
        return False

    return all(find(value, set()) for value in choices)


def domains_meant(slots: Slots, heard: Heard, due: Sequence[Mention]) -> Slots:
    """The slots of those domains that a turn names, or says a value of that no other has, and of those in the state.

    All of them where it does neither.
    """
    words = {plain(word) for word in words_of(heard.texts[-1])}
    named = {domain for domain in slots if domain in words}
    for mention in due:
        owners = {domain for domain, _ in mention.slots}
        if len(owners) == 1:
            named |= owners
    if not named:
        return slots
    return {domain: names for domain, names in slots.items() if domain in named or domain in heard.before}
