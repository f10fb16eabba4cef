"""The user's mind: an agenda over the goal (Schatzmann et al. 2007). It listens, and decides what is said next.

It reads what the bot's reply means (`Heard`) and what the bot's belief state finds, and answers with a `UserAct`.
"""

from collections.abc import Sequence
from random import Random

from labkit.corpora.miniwoz.grammar import pick
from labkit.interaction.progress import Progress, UserAct, other_values
from labkit.interaction.standing import FEW, Standing
from labkit.interaction.venues import Venues
from labkit.interaction.wishes import DONT_CARE, ENDS, SEARCHED_BY, TAXI, TIMES, Wish

__all__ = ["FEW", "PATIENCE", "Agenda"]
PATIENCE = 3  # turns in a row that lead nowhere, before the user leaves
MOST_TURNS = 15  # user turns for each domain of the goal
MOST_RETRIES = 2  # other values that the user tries where a booking is refused


class Agenda(Standing):
    """One conversation's user. `listen` and `speak` take turns; every choice is drawn from `rng`."""

    def __init__(self, wishes: Sequence[Wish], venues: Venues, rng: Random, patience: int = PATIENCE):
        super().__init__(wishes, venues, rng)
        self.patience = patience
        self._fruitless = 0
        self._thanked = False

    def speak(self) -> UserAct | None:
        """What the user says next; None when the conversation is over."""
        if self.over or self._says_goodbye():
            return None
        act = self._next()
        is_new = self._is_new(act)
        self._fruitless = 0 if is_new or self.helped else self._fruitless + 1
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
        if self.wrong:
            return self._act("correct", here, self.wrong)
        answer = self._answer(here)
        if answer:
            return answer
        if here.unsaid:
            return self._act("give", here, self._some(here.unsaid, 1))
        if "NoOffer" in self._acts or self.gone or here.wish.domain == TAXI:
            return self._act("give", here, [slot for slot in here.said if slot in here.wish.wanted] or list(here.said))
        return UserAct("search", here.wish.domain)

    @property
    def _acts(self) -> frozenset[str]:
        return self.heard.acts if self.heard else frozenset()

    def _relax(self, here: Progress) -> UserAct | None:
        """The first wish is given up where the bot says that nothing has it, or offers what is not there."""
        is_none = "NoOffer" in self._acts or self.gone
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
        return self.heard.asked if self.heard else ()

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
