"""The conversation: a user with an agenda and a system with a policy take turns until the goal is met."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

from labkit.corpora.miniwoz.database import CITY, Entity, database, query
from labkit.corpora.miniwoz.goals import SLOTS, Task
from labkit.corpora.miniwoz.grammar import pick, shuffled
from labkit.corpora.miniwoz.wording import Say, Voice, nouns, phrases

Values = dict[str, str]
VAGUE = ("several", "many", "a few", "a lot of")
SHOWN = ("area", "food", "pricerange", "stars", "type", "internet", "parking", "address", "phone", "postcode")


class Conversation:
    """A dialogue in the making: the turns so far, and after each bot turn the domains booked so far."""

    def __init__(self, rng: Random, tasks: list[Task]):
        self.rng, self.tasks = rng, tasks
        self.voices = {"user": Voice("user", rng, lower=0.3, bare=0.2), "bot": Voice("bot", rng, lower=0.12)}
        self.turns: list[dict[str, Any]] = []
        self.state: dict[str, Values] = {}
        self.venue: dict[str, Entity] = {}
        self.booked: list[str] = []
        self.booked_by_turn: list[list[str]] = []

    def run(self) -> "Conversation":
        """Talk about every task, then part."""
        for task in self.tasks:
            {"train": self._train, "taxi": self._taxi}.get(task.domain, self._venue)(task)
        self._part()
        return self

    # --- taking turns -------------------------------------------------------------------------------------------------

    def user(self, *parts: Say | None, lead: str = "", tail: str = "", share: float = 0.3) -> None:
        """A user turn; what it says about a domain enters the belief state. `lead` and `tail` are small talk."""
        begin, end = (self._perhaps(Say("", rule), share if rule else 0) for rule in (lead, tail))
        for part in filter(None, parts):
            if part.act.endswith("-Inform"):
                self.state.setdefault(part.act.split("-")[0].lower(), {}).update(part.values)
        self._turn("user", [begin, *parts, end])

    def bot(self, *parts: Say | None) -> None:
        """A system turn; the first one may greet."""
        self._turn("bot", [self._perhaps(Say("general-greet", "greet"), 0.22 * (len(self.turns) == 1)), *parts])
        self.booked_by_turn.append(list(self.booked))

    def _turn(self, speaker: str, parts: list[Say | None]) -> None:
        state = {domain: dict(slots) for domain, slots in self.state.items()}
        self.turns.append(self.voices[speaker].turn([part for part in parts if part]) | {"state": state})

    def _chance(self, share: float) -> bool:
        return self.rng.random() < share

    def _perhaps(self, part: Say, share: float) -> Say | None:
        return part if self._chance(share) else None

    def _some(self, slots: list[str], least: int, whole: float = 0.3) -> list[str]:
        """The first few of the slots; all of them with a chance of at least `whole`."""
        return slots if self._chance(whole) else slots[: least + int(self.rng.random() * (len(slots) - least + 1))]

    def _inform(self, task: Task, rule: str, values: Values, more: Mapping[str, str] = {}) -> Say:
        """What the user wants; a value that an earlier domain had already is said by reference to it."""
        explicit = () if rule.endswith("_open") else ("area", "pricerange")
        same = [slot for slot in values if slot in task.same and slot not in explicit]
        flags = {f"_same{slot}": "" for slot in same} | {"_domain": task.domain} | dict(more)
        flags |= {f"_other{n or ''}": task.same[slot] for n, slot in enumerate(same)}
        flags |= {} if self.turns else {"_first": ""}
        return Say(f"{task.domain.capitalize()}-Inform", rule, values, flags=flags)

    def _open(self, task: Task, rule: str, values: Values) -> None:
        """Bring up a domain, now and then with a word about the occasion."""
        about = Say("", "context") if not self.turns and self._chance(0.4) else None
        say = self._inform(task, rule, values, {"_context": ""} if about else {})
        tail = "tail" if task.domain in SLOTS and "name" not in values else "tail_short"
        self.user(about, say, tail=tail, share=0.42)

    def _fill(self, task: Task, wanted: Values, todo: list[str], rule: str, together: float) -> None:
        """The system asks for what is missing until the user has said it; `together` is how often for all at once."""
        while todo:
            asked = todo if self._chance(together) else todo[:1]
            found = query("train", self.state["train"]) if task.domain == "train" and rule == "train_give" else []
            self.bot(self._narrow("train", found, 0.55), self._request(task.domain, asked))
            todo = self._tell(task, rule, wanted, todo, len(asked))

    def _tell(self, task: Task, rule: str, wanted: Values, todo: list[str], least: int = 1) -> list[str]:
        """The user says at least so many of the slots; the rest is returned."""
        given = self._some(todo, least)
        say = self._inform(task, rule, {slot: wanted[slot] for slot in given})
        self.user(say, lead="lead", tail="tail_short", share=0.12)
        return todo[len(given) :]

    def _request(self, domain: str, slots: list[str]) -> Say:
        act = "Booking" if slots[0].startswith("book") and domain != "train" else domain.capitalize()
        known = phrases()["bot"].rules
        rules = [rule for rule in (f"{domain}_request_{slots[0]}", f"request_{slots[0]}") if rule in known]
        rule = rules[0] if rules and len(slots) == 1 else "bookrequest"
        return Say(f"{act}-Request", rule, asks=tuple(slots), flags={"_what": nouns(self.rng, slots)})

    def _more(self) -> Say | None:
        return self._perhaps(Say("general-reqmore", "reqmore"), 0.44)

    # --- finding a venue ----------------------------------------------------------------------------------------------

    def _venue(self, task: Task) -> None:
        found, act = self._search(task), task.domain.capitalize()
        entity = pick(self.rng, found)
        others = [one for one in found if one is not entity]
        if others and self._chance(0.2):
            self.bot(self._offer(task, entity, f"{act}-Inform"))
            self.user(Say(f"{act}-Inform", "another"))
            entity = pick(self.rng, others)
            others = [one for one in found if one is not entity]
        bookable = task.domain in ("restaurant", "hotel") and self._chance(0.85)
        closing = Say("Booking-Inform", "offerbook") if bookable else Say("general-reqmore", "moreinfo")
        if others and self._chance(0.5 if bookable else 0.2):
            self.bot(Say(f"{act}-Select", "select", {"name": entity["name"], "name2": pick(self.rng, others)["name"]}))
        else:
            offer = self._offer(task, entity, f"{act}-{'Recommend' if self._chance(0.4) else 'Inform'}")
            colour = self._perhaps(Say("", f"{task.domain}_colour"), 0.3)
            self.bot(offer, colour, self._perhaps(closing, 0.8 if bookable else 0.4))
        self.venue[task.domain] = entity
        self._serve(task, entity)

    def _search(self, task: Task) -> list[Entity]:
        """Constraints are said, asked for, given up and corrected, until what is found meets them all."""
        domain, wrong = task.domain, next(iter(task.first), "")
        if "name" in task.informable:
            self._open(task, f"{domain}_named", task.informable)
            return query(domain, task.informable)
        wanted = {**task.informable, **task.first}
        todo = shuffled(self.rng, list(wanted))
        given = self._some(todo, 1, whole=0.1)
        self._open(task, f"{domain}_open", {slot: wanted[slot] for slot in given})
        todo, shrugged = todo[len(given) :], False
        while True:
            found = query(domain, self.state[domain])
            spare = [slot for slot in self._spare(domain, found) if slot not in todo]
            if wrong and self.state[domain].get(wrong) == task.first[wrong] and (task.slip or not found):
                self._mend(task, wrong, found)
            elif todo and found and self._chance(0.25):  # an offer too early
                self.bot(self._offer(task, pick(self.rng, found), f"{domain.capitalize()}-Inform"))
                todo = self._tell(task, f"{domain}_give", wanted, todo)
            elif len(found) > 2 and spare and not shrugged and self._chance(0.3):
                shrugged = True
                count, slot = self._narrow(domain, found), pick(self.rng, spare)
                self.bot(count, self._request(domain, [slot]))
                self._shrug(task, slot)
            elif todo:
                self.bot(self._narrow(domain, found), self._request(domain, todo[:1]))
                todo = self._tell(task, f"{domain}_give", wanted, todo)
            else:
                return found

    def _spare(self, domain: str, found: list[Entity]) -> list[str]:
        """Slots that the user has not spoken of and in which the venues found differ."""
        unsaid = [slot for slot in SLOTS[domain] if slot not in self.state[domain]]
        return [slot for slot in unsaid if len({one[slot] for one in found}) > 1]

    def _narrow(self, domain: str, found: list[Entity], share: float = 0.65) -> Say | None:
        return self._count(domain, found) if len(found) > 1 and self._chance(share) else None

    def _count(self, domain: str, found: list[Entity]) -> Say:
        number = str(len(found)) if self._chance(0.6) or len(found) < 4 else pick(self.rng, VAGUE)
        values = {"choice": number} | {slot: value for slot, value in self._said(domain) if self._chance(0.5)}
        return Say(f"{domain.capitalize()}-Inform", f"{domain}_count", values)

    def _said(self, domain: str) -> list[tuple[str, str]]:
        """Slots and values of the belief state that can be repeated to the user."""
        return [pair for pair in self.state[domain].items() if pair[1] not in ("yes", "dontcare")]

    def _shrug(self, task: Task, slot: str) -> None:
        what = {"_what": nouns(self.rng, [slot])}
        dontcare = Say(f"{task.domain.capitalize()}-Inform", "dontcare", {slot: "dontcare"}, flags=what)
        self.user(dontcare, tail="tail", share=0.35)

    def _mend(self, task: Task, slot: str, found: list[Entity]) -> None:
        """Nothing was found, or the user misspoke: the value is changed to the one of the goal, or given up."""
        act, what = task.domain.capitalize(), {"_what": nouns(self.rng, [slot])}
        nothing = Say(f"{act}-NoOffer", f"{task.domain}_nooffer", dict(self._said(task.domain)))
        ask = self._perhaps(Say(f"{act}-Request", "tryelse", asks=(slot,), flags=what), 0.6)
        self.bot(*((self._count(task.domain, found),) if found else (nothing, ask)))
        if slot in task.informable:
            rule = "correct" if task.slip else f"{task.domain}_relax"
            self.user(self._inform(task, rule, {slot: task.informable[slot]}))
        else:
            self._shrug(task, slot)

    def _offer(self, task: Task, entity: Entity, act: str) -> Say:
        """An offer with a few details of the venue."""
        details = {slot: entity.get(slot, "?") for slot in SHOWN} | {"entrancefee": entity.get("entrance fee", "?")}
        values = {slot: value for slot, value in details.items() if value not in ("?", "no")}
        return Say(act, f"{task.domain}_offer", {"name": entity["name"]} | values)

    # --- bookings and questions ---------------------------------------------------------------------------------------

    def _serve(self, task: Task, entity: Entity) -> None:
        """Bookings and questions about the venue or train that was found, in either order."""
        questions = [slot for slot in task.requests if slot != "ref"]
        if task.domain in CITY["extras"] and self._chance(0.17):
            extra = pick(self.rng, CITY["extras"][task.domain])
            questions += [extra] if extra != "entrancefee" or entity["entrance fee"] != "?" else []
        steps = [lambda: self._book(task, entity)] if task.booking else []
        steps += [lambda: self._question(task, questions, entity)] if questions else []
        for step in steps[:: -1 if self._chance(0.4) else 1]:
            step()

    def _question(self, task: Task, slots: list[str], entity: Entity) -> None:
        act = task.domain.capitalize()
        details = {**entity, "entrancefee": entity.get("entrance fee"), "trainid": entity.get("trainID")}
        while slots:
            now = self._some(slots, 1)
            slots = slots[len(now) :]
            ask = Say(f"{act}-Request", "ask", asks=tuple(now), flags={"_what": nouns(self.rng, now)})
            self.user(ask, lead="accept" if self._chance(0.5) else "lead", share=0.55)
            self.bot(Say(f"{act}-Inform", "answer", {slot: details[slot] for slot in now}), self._more())

    def _book(self, task: Task, entity: Entity) -> None:
        wanted = {f"book{slot}": value for slot, value in {**task.booking, **task.unlucky}.items()}
        todo = shuffled(self.rng, list(wanted))
        given = self._some(todo, 0, whole=0.5)
        named = {"name": entity["name"]} if "name" in entity and self._chance(0.3) else {}
        book = self._inform(task, f"{task.domain}_book", named | {slot: wanted[slot] for slot in given})
        ref = Say(f"{task.domain.capitalize()}-Request", "askref", asks=("ref",))
        self.user(book, self._perhaps(ref, 0.07), lead="accept" if self._chance(0.6) else "lead", share=0.5)
        self._fill(task, wanted, todo[len(given) :], f"{task.domain}_detail", together=0.65)
        for slot, value in task.unlucky.items():
            what = {"_what": nouns(self.rng, [f"book{slot}"])}
            again = Say("Booking-Request", "tryagain", asks=(f"book{slot}",), flags=what)
            self.bot(Say("Booking-NoBook", "nobook", {f"book{slot}": value}), self._perhaps(again, 0.6))
            self.user(self._inform(task, "retry", {f"book{slot}": task.booking[slot]}))
        self._confirm(task, entity)

    def _confirm(self, task: Task, entity: Entity) -> None:
        self.booked.append(task.domain)
        values = {f"book{slot}": value for slot, value in task.booking.items()}
        values["ref"] = "".join(pick(self.rng, "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789") for _ in range(8))
        if task.domain == "train":
            fare = float(entity["price"].split()[0]) * int(task.booking["people"])
            values |= {"trainid": entity["trainID"], "price": f"{fare:.2f} pounds"}
            self.bot(Say("Train-OfferBooked", "train_offerbooked", values), self._more())
        else:
            extra = self._perhaps(Say("", "booked_extra"), 0.25 * (task.domain == "restaurant"))
            self.bot(Say("Booking-Book", "booked", values | {"name": entity["name"]}), extra, self._more())

    # --- trains, taxis, the end ---------------------------------------------------------------------------------------

    def _train(self, task: Task) -> None:
        wanted, todo = task.informable, shuffled(self.rng, list(task.informable))
        given = todo[: 1 + int(self.rng.random() * 3)]
        self._open(task, "train_open", {slot: wanted[slot] for slot in given})
        self._fill(task, wanted, todo[len(given) :], "train_give", together=0.25)
        found = query("train", wanted)
        train = found[-1] if "arriveby" in wanted else found[0]
        details = {slot: train[slot] for slot in ("departure", "destination", "day", "price", "duration")}
        details |= {"trainid": train["trainID"], "leaveat": train["leaveAt"], "arriveby": train["arriveBy"]}
        self.bot(
            self._perhaps(self._count("train", found), 0.35 * (len(found) > 1)),
            Say("Train-Inform", "train_offer", details),
            self._perhaps(Say("", "train_extra"), 0.15),
            self._perhaps(Say("Train-OfferBook", "train_offerbook"), 0.85),
        )
        self._serve(task, train)

    def _taxi(self, task: Task) -> None:
        wanted = task.informable | {slot: self.venue[domain]["name"] for slot, domain in task.same.items()}
        both = bool(task.same) and self._chance(0.45)  # "between the two"
        todo = sorted(shuffled(self.rng, list(wanted)), key=lambda slot: both and slot not in task.same)
        given = self._some(todo, 2, whole=0.1) if both else todo[:1]
        self._open(task if both else replace(task, same={}), "taxi_open", {slot: wanted[slot] for slot in given})
        self._fill(replace(task, same={}), wanted, todo[len(given) :], "taxi_give", together=0)
        cars = database()["taxi"][0]
        car = f"{pick(self.rng, cars['taxi_colors'])} {pick(self.rng, cars['taxi_types'])}"
        phone = f"07700{int(self.rng.random() * 1e6):06}"  # a range kept free for fiction
        self.bot(Say("Taxi-Inform", "taxi_inform", wanted | {"type": car, "phone": phone}), self._more())

    def _part(self) -> None:
        self.user(Say("general-thank", "close"))
        if self._chance(0.1):
            self.bot(Say("general-welcome", "welcome"), Say("general-reqmore", "reqmore"))
            self.user(Say("general-bye", "goodbye"))
        welcome = self._perhaps(Say("general-welcome", "welcome"), 0.42)
        self.bot(welcome, self._perhaps(Say("general-bye", "bye"), 0.88 if welcome else 1))
