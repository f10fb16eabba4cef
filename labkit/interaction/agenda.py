"""The user's mind: an agenda over the goal (Schatzmann et al. 2007), what has been reached, and what is said next.

It reads what the bot's reply means (`Heard`) and what the bot's belief state finds, and answers with a `UserAct`.
"""

from collections.abc import Sequence
from random import Random

from labkit.corpora.miniwoz.grammar import pick, shuffled
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
    UserAct,
    other_values,
)
from labkit.interaction.venues import Venues
from labkit.interaction.wishes import DONT_CARE, ENDS, SEARCHED_BY, TAXI, TIMES, Wish

FEW = 5  # entities: an offer out of so many is no early one, however much is unsaid
PATIENCE = 3  # turns in a row that lead nowhere, before the user leaves
MOST_TURNS = 15  # user turns for each domain of the goal
MOST_RETRIES = 2  # other values that the user tries where a booking is refused


class Agenda:
    """One conversation's user. `listen` and `speak` take turns; every choice is drawn from `rng`."""

    def __init__(self, wishes: Sequence[Wish], venues: Venues, rng: Random, patience: int = PATIENCE):
        self.venues = venues
        self.rng = rng
        self.patience = patience
        self.events: list[Event] = []
        self.abandoned = False
        self.closed = False
        self.domains = [self._start(wish) for wish in wishes]
        self.current = self.domains[0]
        self.turn = -1  # number of the user turn
        self._fruitless = 0
        self._helped = False  # the last reply brought the user on
        self._heard: Heard | None = None
        self._wrong: list[str] = []  # slots of an offer that are not as said
        self._thanked = False
        self._gone = False  # nothing was offered where something was named

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
        self._heard = heard
        self._wrong = []
        self._gone = False
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
        self._helped = self._reached() > before

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
            self._gone = True
            self._note(WRONG_OFFER, f"offers a {domain} where its state finds none")
            return
        for slot, value in here.said.items():
            if not self.venues.meets(domain, offered, {slot: value}):
                self._wrong.append(slot)
        if self._wrong:
            slots = ", ".join(self._wrong)
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

    # --- speaking -----------------------------------------------------------------------------------------------------

    def speak(self) -> UserAct | None:
        """What the user says next; None when the conversation is over."""
        if self.over or self._says_goodbye():
            return None
        act = self._next()
        is_new = self._is_new(act)
        self._fruitless = 0 if is_new or self._helped else self._fruitless + 1
        too_long = self.turn + 1 >= MOST_TURNS * len(self.domains)
        if self._fruitless >= self.patience or too_long:
            self.abandoned = True
            return None
        self.turn += 1
        self._remember(act)
        return act

    def _says_goodbye(self) -> bool:
        """The last turn was the user's thanks: the reply to it ends the conversation."""
        if self.turn >= 0 and all(one.done for one in self.domains) and self._thanked:
            self.closed = True
        return self.closed

    def _is_new(self, act: UserAct) -> bool:
        """Whether the act says or asks anything that the user has not said or asked before."""
        if act.kind in ("open", "close"):
            return True
        here = self.current
        said = here.slots()
        return any(said.get(slot) != value for slot, value in act.values.items()) or bool(set(act.asks) - here.asked)

    def _remember(self, act: UserAct) -> None:
        if act.kind == "close":
            self._thanked = True
            return
        here = self.current
        here.opened = True
        here.asked |= set(act.asks)
        for slot, value in act.values.items():
            if slot.startswith("book"):
                here.booking_said[slot] = value
            else:
                here.said[slot] = value
                here.wanted[slot] = value

    def _next(self) -> UserAct:
        here = self.current
        if here.opened and here.done:
            waiting = [one for one in self.domains if not one.done]
            if not waiting:
                return UserAct("close")
            self.current = here = waiting[0]
        if not here.opened:
            return self._open(here)
        if not here.settled:
            return self._search(here)
        return self._serve(here)

    def _open(self, here: Progress) -> UserAct:
        if here.wish.domain == TAXI:
            self._fill_in_places(here)
        if here.wish.is_named:
            return self._act("open", here, ["name"])
        names = list(here.wanted)
        least = 1 if here.wish.domain != "train" else min(2, len(names))
        return self._act("open", here, self._some(names, least))

    def _fill_in_places(self, here: Progress) -> None:
        """A taxi between venues goes to what was offered, whatever else meets the goal."""
        names = []
        for one in self.domains:
            found = one.venue or {}
            name = one.wanted.get("name") or found.get("name")
            if name and one is not here:
                names.append(name)
        for slot, name in zip(ENDS, names, strict=False):
            here.wanted.setdefault(slot, name)

    def _some(self, names: list[str], least: int) -> list[str]:
        """The first of the slots, so many at least."""
        if self.rng.random() < 0.3:
            return names
        more = int(self.rng.random() * (len(names) - least + 1))
        return names[: least + more]

    def _act(self, kind: str, here: Progress, slots: Sequence[str]) -> UserAct:
        values = {slot: (here.wanted | here.booking)[slot] for slot in slots}
        same = {}
        for slot, domain in here.wish.same.items():
            is_final = values.get(slot) == (here.wish.wanted | here.wish.booking).get(slot)
            if slot in values and is_final and kind in ("open", "book", "detail") and self.rng.random() < 0.5:
                same[slot] = domain
        return UserAct(kind, here.wish.domain, values, same=same)

    def _search(self, here: Progress) -> UserAct:
        """Nothing is right yet: answer, correct, give up, tell more, or ask for an offer."""
        given_up = self._relax(here)
        if given_up:
            return given_up
        if self._wrong:
            return self._act("correct", here, self._wrong)
        answer = self._answer(here)
        if answer:
            return answer
        if here.unsaid:
            return self._act("give", here, self._some(here.unsaid, 1))
        if "NoOffer" in self._acts or self._gone or here.wish.domain == TAXI:
            return self._act("give", here, [slot for slot in here.said if slot in here.wish.wanted] or list(here.said))
        return UserAct("search", here.wish.domain)

    @property
    def _acts(self) -> frozenset[str]:
        return self._heard.acts if self._heard else frozenset()

    def _relax(self, here: Progress) -> UserAct | None:
        """The first wish is given up where the bot says that nothing has it, or offers what is not there."""
        is_none = "NoOffer" in self._acts or self._gone
        for slot, value in here.wish.first.items():
            if is_none and here.said.get(slot) == value:
                other = here.wish.wanted.get(slot, DONT_CARE)
                here.wanted[slot] = other
                if other == DONT_CARE:
                    return UserAct("dontcare", here.wish.domain, {slot: other})
                return UserAct("relax", here.wish.domain, {slot: other})
        return None

    def _answer(self, here: Progress) -> UserAct | None:
        """The answer to the bot's questions about the search; a question about a booking comes too early."""
        asked = [slot for slot in self._asked if not slot.startswith("book")]
        known = [slot for slot in asked if slot in here.wanted]
        if not known and set(asked) & set(TIMES):  # "when do you leave?" "i need to arrive by …"
            known = [slot for slot in TIMES if slot in here.unsaid]
        if known:
            others = [slot for slot in here.unsaid if slot not in known]
            if others and self.rng.random() < 0.3:
                known.append(others[0])
            return self._act("give", here, known)
        askable = [slot for slot in asked if slot in SEARCHED_BY]
        if askable and here.wish.domain != TAXI:
            return UserAct("dontcare", here.wish.domain, {askable[0]: DONT_CARE})
        return None

    @property
    def _asked(self) -> tuple[str, ...]:
        return self._heard.asked if self._heard else ()

    def _serve(self, here: Progress) -> UserAct:
        """The venue is right: book it and ask about it, in either order."""
        to_book = bool(here.booking) and not here.booked
        questions = here.questions
        if to_book and (here.booking_said or not questions or self._asks_for_booking(here)):
            return self._book(here)
        if to_book and questions and self.rng.random() < 0.5:
            return self._book(here)
        fresh = [slot for slot in questions if slot not in here.asked] or questions
        return UserAct("ask", here.wish.domain, asks=tuple(self._some(fresh, 1)))

    def _asks_for_booking(self, here: Progress) -> bool:
        return any(self._asks_for(slot) for slot in here.booking)

    def _asks_for(self, slot: str) -> bool:
        """Whether the bot asks for a slot of the booking; "what day?" is about the booking here."""
        return slot in self._asked or slot.removeprefix("book") in self._asked

    def _book(self, here: Progress) -> UserAct:
        if not here.booking_said:
            return self._act("book", here, self._some(list(here.booking), 1))
        if "NoBook" in self._acts and not here.unbooked:
            return self._retry(here)
        asked = [slot for slot in here.booking if self._asks_for(slot)]
        slots = asked or here.unbooked
        if slots:
            return self._act("detail", here, slots)
        return self._act("book", here, list(here.booking))  # all was said: insist

    def _retry(self, here: Progress) -> UserAct:
        """A booking was refused: the goal's own value, or else another one."""
        for slot, value in here.wish.first_booking.items():
            if here.booking[slot] == value:
                here.booking[slot] = here.wish.booking[slot]
                return UserAct("retry", here.wish.domain, {slot: here.booking[slot]})
        changes = other_values(here.booking)
        if not changes or here.retries >= MOST_RETRIES:
            return self._act("book", here, list(here.booking))
        here.retries += 1
        slot = pick(self.rng, sorted(changes))
        here.booking[slot] = changes[slot]
        return UserAct("retry", here.wish.domain, {slot: changes[slot]})
