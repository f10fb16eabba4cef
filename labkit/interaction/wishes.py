"""What a simulated user wants: a goal in the corpus' own format, one wish for each domain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from labkit.corpora.types import Corpus, Dialogue, Goal, Values
from labkit.errors import LabError
from labkit.interaction.venues import Venues
from labkit.metrics.gold import gold_of

SLOT_OF = {  # {a slot as goals spell it: as belief states do}; mwzeval's short names, and its requests
    "arrive": "arriveby",
    "leave": "leaveat",
    "arriveBy": "arriveby",
    "leaveAt": "leaveat",
    "PHONE": "phone",
    "ADDRESS": "address",
    "POST": "postcode",
    "TRAINID": "trainid",
    "REFERENCE": "ref",
}
TAXI = "taxi"
PLAYED = ("restaurant", "hotel", "attraction", "train", TAXI)  # domains that the user can play
ENDS = ("departure", "destination")  # of a taxi
SHARED = ("area", "pricerange", "bookday", "bookpeople")  # slots that can be said by reference to an earlier domain
TIMES = ("leaveat", "arriveby")
SEARCHED_BY = ("leaveat", "arriveby", "day", "departure", "destination", "area", "food", "pricerange", "type", "stars")
SEARCHED_BY += ("internet", "parking")  # slots that a bot may ask for before it offers
DONT_CARE = "dontcare"


@dataclass(frozen=True)
class Wish:
    """One domain of a goal. Slots are spelt as in belief states: "arriveby", "bookday"."""

    domain: str
    wanted: Values  # the constraints in the end
    first: Values = field(default_factory=dict)  # what is said at first; nothing has it, and it is given up
    booking: Values = field(default_factory=dict)
    first_booking: Values = field(default_factory=dict)  # what is said at first and changed where it cannot be had
    asks: tuple[str, ...] = ()  # what the user wants to be told: phone, address, postcode, trainid, ref
    same: Values = field(default_factory=dict)  # {slot: the earlier domain that has the same value}

    @property
    def is_named(self) -> bool:
        """The user knows the venue by its name."""
        return "name" in self.wanted

    def starts_with(self) -> Values:
        """The constraints as the user says them before anything is given up."""
        return self.wanted | self.first


def wishes_of(goal: Goal, venues: Venues) -> list[Wish]:
    """A goal as wishes, in its order, a taxi last: it may go between venues that have to be found before."""
    wishes: list[Wish] = []
    domains = sorted(goal, key=lambda domain: domain == TAXI)  # stable: the others stay in their order
    for domain in domains:
        wish = _wish(domain, goal[domain], venues, wishes)
        wishes.append(wish)
    return wishes


def _wish(domain: str, parts: Goal, venues: Venues, before: Sequence[Wish]) -> Wish:
    wanted = _spelt(parts["informable"])
    booking = _booking(parts.get("booking"))
    asks = [SLOT_OF.get(slot, slot.lower()) for slot in parts["requestable"]]
    if booking and "ref" not in asks:
        asks.append("ref")
    return Wish(
        domain=domain,
        wanted=wanted,
        first=_given_up(domain, wanted, parts.get("fail_info"), venues),
        booking=booking,
        first_booking=_other_values(booking, _booking(parts.get("fail_book"))),
        asks=tuple(asks),
        same=_same(wanted | booking, before),
    )


def _spelt(values: Mapping[str, str]) -> Values:
    return {SLOT_OF.get(slot, slot): value for slot, value in values.items()}


def _booking(values: object) -> Values:
    """The booking of a goal as slots of the belief state; a goal without one has an empty list there."""
    if not isinstance(values, dict):
        return {}
    return {f"book{slot}": value for slot, value in values.items()}


def _given_up(domain: str, wanted: Values, fail_info: object, venues: Venues) -> Values:
    """The first wishes of a goal; not those that the database can meet: nobody gives up what can be had."""
    if not isinstance(fail_info, dict):
        return {}
    spelt = _spelt(fail_info)
    first = {slot: value for slot, value in spelt.items() if wanted.get(slot) != value}
    if not first or venues.count(domain, wanted | first):
        return {}
    return first


def _other_values(booking: Values, first: Values) -> Values:
    return {slot: value for slot, value in first.items() if slot in booking and booking[slot] != value}


def _same(values: Values, before: Sequence[Wish]) -> Values:
    same = {}
    for slot, value in values.items():
        for earlier in before:
            said = earlier.wanted | earlier.booking
            if slot in SHARED and said.get(slot) == value:
                same[slot] = earlier.domain
    return same


def playable(corpus: Corpus, split: str) -> list[Dialogue]:
    """The dialogues of a split whose goal the user can play: it is there, and has domains of `PLAYED` only.

    Raises:
        LabError: there is none.
    """
    found = []
    for dialogue in corpus[split]:
        goal = corpus.goals.get(dialogue.key)
        if goal and all(domain in PLAYED for domain in goal):
            gold_of(corpus, split).goal(dialogue.key)  # checks it
            found.append(dialogue)
    if not found:
        what = f"{corpus.name} has no goal in its split {split!r} that a simulated user can play"
        raise LabError(what, f"{len(corpus.goals)} goals in all", "take a corpus with goals.json and a db folder")
    return found
