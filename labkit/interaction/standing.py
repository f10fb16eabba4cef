"""What a user has reached in a conversation, and how a reply changes it: the half of the agenda that listens."""

from collections.abc import Sequence
from random import Random

from labkit.corpora.miniwoz.grammar import shuffled
from labkit.corpora.types import State
from labkit.interaction.acts import Heard
from labkit.interaction.progress import (
    ASKED_AGAIN,
    EARLY_BOOKING,
    EARLY_OFFER,
    OTHER_DOMAIN,
    WRONG_OFFER,
    Event,
    Progress,
)
from labkit.interaction.venues import Venues
from labkit.interaction.wishes import TAXI, Wish

FEW = 5  # entities: an offer out of so many is no early one, however much is unsaid


class Standing:
    """How things stand for one user: every wish with what was said, offered, booked and told."""

    def __init__(self, wishes: Sequence[Wish], venues: Venues, rng: Random):
        self.venues = venues
        self.rng = rng
        self.events: list[Event] = []
        self.abandoned = False
        self.closed = False
        self.domains = [self._start(wish) for wish in wishes]
        self.current = self.domains[0]
        self.turn = -1  # number of the user turn
        self.helped = False  # the last reply brought the user on
        self.heard: Heard | None = None
        self.wrong: list[str] = []  # slots of an offer that are not as said
        self.gone = False  # nothing was offered where something was named

    def _start(self, wish: Wish) -> Progress:
        names = shuffled(self.rng, list(wish.starts_with()))
        values = wish.starts_with()
        booking = wish.booking | wish.first_booking
        return Progress(wish, wanted={slot: values[slot] for slot in names}, booking=booking)

    # --- what has been reached ----------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The belief state that a perfect listener has now."""
        return {one.wish.domain: one.slots() for one in self.domains if one.slots()}

    @property
    def over(self) -> bool:
        return self.abandoned or self.closed

    @property
    def booked(self) -> list[str]:
        """The domains booked so far."""
        return [one.wish.domain for one in self.domains if one.booked]

    @property
    def success(self) -> bool:
        """Every wish is fulfilled, and the user did not leave."""
        return not self.abandoned and all(one.done for one in self.domains)

    @property
    def strict_success(self) -> bool:
        """Success, and nothing was offered too early, wrongly or in another domain, nor booked too early."""
        return self.success and not any(event.is_fault for event in self.events)

    # --- listening ----------------------------------------------------------------------------------------------------

    def listen(self, heard: Heard, state: State) -> None:
        """Take in a reply; `state` is what the bot believed, and what its offers come from."""
        here = self.current
        self.heard = heard
        self.wrong = []
        self.gone = False
        before = self._reached()
        self._count_repeated_questions(here, heard)
        self._note_other_domains(here, heard)
        if here.wish.domain == TAXI:
            self._take_taxi(here, heard)
        else:
            self._take_name(here, heard)
            self._take_offer(here, heard, state)
            self._take_booking(here, heard)
        if here.settled:
            here.told |= heard.told_in(here.wish.domain) & set(here.wish.asks) - {"ref"}
        self.helped = self._reached() > before

    def _reached(self) -> int:
        """A number that grows with every step towards the goal."""
        steps = 0
        for one in self.domains:
            steps += one.settled + one.booked + len(one.told)
        return steps

    def _note(self, kind: str, about: str = "") -> None:
        self.events.append(Event(self.turn, kind, about))

    def _count_repeated_questions(self, here: Progress, heard: Heard) -> None:
        for slot in heard.asked:
            if slot in here.slots():
                self._note(ASKED_AGAIN, f"asks for {slot}, which was said")

    def _note_other_domains(self, here: Progress, heard: Heard) -> None:
        """An offer in a domain that the user does not speak of, and has not settled before."""
        settled = {one.wish.domain for one in self.domains if one.settled}
        for domain in sorted(heard.offers):
            if domain and domain != here.wish.domain and domain not in settled:
                self._note(OTHER_DOMAIN, f"offers a {domain}, not a {here.wish.domain}")

    def _take_taxi(self, here: Progress, heard: Heard) -> None:
        """A car or its number is the offer and the booking in one."""
        told = heard.told_in(TAXI)
        if not {"car", "phone"} & told:
            return
        if here.unsaid:
            missing = ", ".join(here.unsaid)
            self._note(EARLY_BOOKING, f"orders a taxi before {missing} is said")
        else:
            here.settled = True

    def _take_name(self, here: Progress, heard: Heard) -> None:
        """A venue that the user names is right as it is, unless the bot says that there is none."""
        domain = here.wish.domain
        if not here.wish.is_named or here.unsaid or "NoOffer" in heard.acts:
            return
        is_offered = bool({"", domain} & heard.offers)
        here.settled = is_offered or bool(here.wish.booking or here.wish.asks)
        here.venue = self.venues.first(domain, here.said)

    def _take_offer(self, here: Progress, heard: Heard, state: State) -> None:
        domain = here.wish.domain
        is_time = domain == "train" and "time" in heard.told_in("train") and "Inform" in heard.acts
        if here.settled or not (is_time or {"", domain} & heard.offers):
            return
        offered = self.venues.first(domain, state[domain]) if state.get(domain) else None
        n_fitting = self.venues.count(domain, here.said)
        if offered is None:
            self.gone = True
            self._note(WRONG_OFFER, f"offers a {domain} where its state finds none")
            return
        for slot, value in here.said.items():
            if not self.venues.meets(domain, offered, {slot: value}):
                self.wrong.append(slot)
        if self.wrong:
            slots = ", ".join(self.wrong)
            self._note(WRONG_OFFER, f"offers a {domain} with another {slots}")
        elif here.unsaid and n_fitting > FEW:
            self._note(EARLY_OFFER, f"offers one of {n_fitting} while {', '.join(here.unsaid)} is unsaid")
        elif not here.unsaid:
            here.settled = True
            here.venue = offered

    def _take_booking(self, here: Progress, heard: Heard) -> None:
        has_reference = "ref" in heard.told_in(here.wish.domain)
        if here.booked:
            if has_reference:
                here.told.add("ref")
            return
        says_so = "Book" in heard.acts and "NoBook" not in heard.acts
        if not (has_reference or says_so):
            return
        is_ready = bool(here.booking) and here.settled and not here.unbooked
        if is_ready:
            here.booked = True
            if has_reference:
                here.told.add("ref")
        elif has_reference:
            self._note(EARLY_BOOKING, f"books a {here.wish.domain} before all is said")
