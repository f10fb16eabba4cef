"""The parts of a user's agenda: what is said in a turn, what happened in it, and how far each wish has come."""

from dataclasses import dataclass, field

from labkit.corpora.types import Acts, Entity, Values
from labkit.interaction.wishes import Wish

EARLY_OFFER = "early offer"
WRONG_OFFER = "wrong offer"
OTHER_DOMAIN = "offer in another domain"
EARLY_BOOKING = "early booking"
ASKED_AGAIN = "asked again"
FAULTS = (EARLY_OFFER, WRONG_OFFER, OTHER_DOMAIN, EARLY_BOOKING)  # what strict Success does not forgive


@dataclass(frozen=True)
class UserAct:
    """What the user wants to say in a turn: about one domain, values to tell and slots to ask for.

    kind: open (a domain is brought up), give, correct, relax (something else after "none"), dontcare, search (asks for
    an offer), book, detail (of a booking), retry (after "not available"), ask, close.
    """

    kind: str
    domain: str = ""
    values: Values = field(default_factory=dict)
    asks: tuple[str, ...] = ()
    same: Values = field(default_factory=dict)  # of the values, those said by reference: {slot: the earlier domain}

    def acts(self) -> Acts:
        """In MultiWOZ's annotation."""
        if self.kind == "close":
            return {"general-thank": [("none", "none")]}
        name = self.domain.capitalize()
        acts: Acts = {}
        if self.values or not self.asks:
            acts[f"{name}-Inform"] = list(self.values.items()) or [("none", "none")]
        if self.asks:
            acts[f"{name}-Request"] = [(slot, "?") for slot in self.asks]
        return acts


@dataclass(frozen=True)
class Event:
    """Something that happened in a bot turn, as the user sees it: a fault, or a step towards the goal."""

    turn: int  # number of the bot turn, from 0
    kind: str
    about: str = ""  # in words

    @property
    def is_fault(self) -> bool:
        return self.kind in FAULTS


@dataclass
class Progress:
    """How far a wish has come."""

    wish: Wish
    wanted: Values = field(default_factory=dict)  # what the user now wants: changes where a wish is given up
    said: Values = field(default_factory=dict)
    booking: Values = field(default_factory=dict)  # what the user now wants booked
    booking_said: Values = field(default_factory=dict)
    venue: Entity | None = None  # what was offered and is right
    settled: bool = False  # the venue is right, or needs none
    booked: bool = False
    opened: bool = False
    told: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    retries: int = 0

    @property
    def unsaid(self) -> list[str]:
        """Constraints that the user has still to say."""
        return [slot for slot in self.wanted if slot not in self.said]

    @property
    def unbooked(self) -> list[str]:
        return [slot for slot in self.booking if slot not in self.booking_said]

    @property
    def questions(self) -> list[str]:
        """What the user wants to know and has not been told; a reference number comes with the booking."""
        open_questions = []
        for slot in self.wish.asks:
            is_early = slot == "ref" and bool(self.wish.booking) and not self.booked
            if slot not in self.told and not is_early:
                open_questions.append(slot)
        return open_questions

    @property
    def done(self) -> bool:
        """The wish is fulfilled."""
        is_booked = self.booked or not self.wish.booking
        return self.settled and is_booked and not self.questions

    def slots(self) -> Values:
        """This domain of the user's belief state."""
        return self.said | self.booking_said


DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def other_value(slot: str, value: str) -> str | None:
    """A value near the one that cannot be had; None where there is none, or where the user cannot give way.

    >>> other_value("booktime", "18:30"), other_value("bookday", "sunday"), other_value("bookpeople", "4")
    ('19:30', 'monday', None)
    """
    if slot == "bookday" and value in DAYS:
        after = DAYS.index(value) + 1
        return DAYS[after % len(DAYS)]
    if slot == "booktime" and value[:2].isdigit() and int(value[:2]) < 22:
        hour = int(value[:2]) + 1
        return f"{hour:02}{value[2:]}"
    if slot == "bookstay" and value.isdigit() and int(value) > 1:
        return str(int(value) - 1)
    return None


def other_values(booking: Values) -> Values:
    """What the user would take instead: the hour after, a day later, a night less."""
    others = {}
    for slot, value in booking.items():
        other = other_value(slot, value)
        if other:
            others[slot] = other
    return others
