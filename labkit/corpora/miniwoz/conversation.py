"""Taking turns: what user and system say is worded, and what it changes in the belief state is kept."""

from random import Random

from labkit.corpora.miniwoz.database import Entity, query
from labkit.corpora.miniwoz.goals import SLOTS, Task
from labkit.corpora.miniwoz.grammar import NOTHING, Values, pick
from labkit.corpora.miniwoz.wording import Say, Utterance, Voice, nouns, phrases, small_talk
from labkit.corpora.types import State

VAGUE = ("several", "many", "a few", "a lot of")
UNSAYABLE = ("yes", "dontcare")
BY_NAME = ("area", "pricerange")  # slots that are said by their value, even where an earlier domain has the same


class Conversation:
    """A dialogue in the making: the turns so far, and after each bot turn the domains booked so far.

    Every chance is drawn from `rng`, so the order of the draws is part of what a seed means.
    """

    def __init__(self, rng: Random, tasks: list[Task]):
        self.rng = rng
        self.tasks = tasks
        self.voices = {
            "user": Voice("user", rng, lower=0.3, bare=0.2),
            "bot": Voice("bot", rng, lower=0.12),
        }
        self.turns: list[Utterance] = []
        self.state: State = {}
        self.venue: dict[str, Entity] = {}  # {domain: what was found}
        self.booked: list[str] = []
        self.booked_by_turn: list[list[str]] = []

    # --- turns --------------------------------------------------------------------------------------------------------

    def user(self, *parts: Say | None, lead: str = "", tail: str = "", share: float = 0.3) -> None:
        """A user turn; what it says about a domain enters the belief state.

        `lead` and `tail` are rules of small talk before and after, each said with the chance `share`.
        """
        before = small_talk(lead)
        after = small_talk(tail)
        begin = self.perhaps(before, share if lead else 0)
        end = self.perhaps(after, share if tail else 0)
        for part in parts:
            if part:
                self._update_state(part)
        self._turn("user", [begin, *parts, end])

    def _update_state(self, part: Say) -> None:
        domain, _, kind = part.act.partition("-")
        if kind == "Inform":
            slots = self.state.setdefault(domain.lower(), {})
            slots.update(part.values)

    def bot(self, *parts: Say | None) -> None:
        """A system turn; the first one may greet."""
        is_first = len(self.turns) == 1
        greeting = Say("general-greet", "greet")
        perhaps_greeting = self.perhaps(greeting, 0.22 if is_first else 0)
        self._turn("bot", [perhaps_greeting, *parts])
        booked_so_far = list(self.booked)
        self.booked_by_turn.append(booked_so_far)

    def _turn(self, speaker: str, parts: list[Say | None]) -> None:
        voice = self.voices[speaker]
        utterance = voice.turn([part for part in parts if part])
        for domain, slots in self.state.items():
            utterance.state[domain] = dict(slots)
        self.turns.append(utterance)

    # --- chance -------------------------------------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        """True in this share of the cases."""
        return self.rng.random() < share

    def perhaps(self, part: Say, share: float) -> Say | None:
        """The part in this share of the cases, else nothing."""
        return part if self.chance(share) else None

    def first_few(self, slots: list[str], least: int, whole: float = 0.3) -> list[str]:
        """The first of the slots, so many at least; all of them with a chance of at least `whole`."""
        if self.chance(whole):
            return slots
        choices = len(slots) - least + 1
        more = int(self.rng.random() * choices)
        return slots[: least + more]

    # --- what the user says -------------------------------------------------------------------------------------------

    def inform(
        self,
        task: Task,
        rule: str,
        values: Values,
        more: Values = NOTHING,
    ) -> Say:
        """What the user wants; a value that an earlier domain had already is said by reference to it.

        `more` are flags for the rule, beside those that are set here (see phrases.toml).
        """
        flags = {"_domain": task.domain, **more}
        if not self.turns:
            flags["_first"] = ""
        explicit = () if rule.endswith("_open") else BY_NAME
        same = [slot for slot in values if slot in task.same and slot not in explicit]
        for number, slot in enumerate(same):
            flags[f"_same{slot}"] = ""
            other = f"_other{number}" if number else "_other"
            flags[other] = task.same[slot]
        return Say(
            act=task.act("Inform"),
            rule=rule,
            values=values,
            flags=flags,
        )

    def open(self, task: Task, rule: str, values: Values) -> None:
        """The user brings up a domain, now and then with a word about the occasion."""
        about = None
        if not self.turns:
            about = self.perhaps(small_talk("context"), 0.4)
        flags = {"_context": ""} if about else NOTHING
        say = self.inform(task, rule, values, flags)
        is_search = task.domain in SLOTS and "name" not in values
        tail = "tail" if is_search else "tail_short"
        self.user(about, say, tail=tail, share=0.42)

    def tell(
        self,
        task: Task,
        rule: str,
        wanted: Values,
        todo: list[str],
        *,
        least: int = 1,
    ) -> list[str]:
        """The user says at least so many of the slots in `todo`; the rest is returned."""
        given = self.first_few(todo, least)
        values = {slot: wanted[slot] for slot in given}
        say = self.inform(task, rule, values)
        self.user(say, lead="lead", tail="tail_short", share=0.12)
        return todo[len(given) :]

    def shrug(self, task: Task, slot: str) -> None:
        """To the user, any value of the slot will do."""
        what = {"_what": nouns(self.rng, [slot])}
        dontcare = Say(
            act=task.act("Inform"),
            rule="dontcare",
            values={slot: "dontcare"},
            flags=what,
        )
        self.user(dontcare, tail="tail", share=0.35)

    # --- what the system says -----------------------------------------------------------------------------------------

    def fill(
        self,
        task: Task,
        rule: str,
        wanted: Values,
        todo: list[str],
        *,
        together: float,
    ) -> None:
        """The system asks for what is missing until the user has said it; `together` is how often for all at once."""
        while todo:
            asked = todo if self.chance(together) else todo[:1]
            count = None
            if rule == "train_give":
                found = query("train", self.state["train"])
                count = self.narrow("train", found, share=0.55)
            question = self.request(task.domain, asked)
            self.bot(count, question)
            n_asked = len(asked)
            todo = self.tell(task, rule, wanted, todo, least=n_asked)

    def request(self, domain: str, slots: list[str]) -> Say:
        """A question for the slots."""
        act = f"{domain.capitalize()}-Request"
        is_booking = slots[0].startswith("book")
        if is_booking and domain != "train":
            act = "Booking-Request"
        rule = _request_rule(domain, slots)
        what = {"_what": nouns(self.rng, slots)}
        return Say(
            act=act,
            rule=rule,
            asks=tuple(slots),
            flags=what,
        )

    def narrow(self, domain: str, found: list[Entity], share: float = 0.65) -> Say | None:
        """Perhaps how many were found, where there are several."""
        if len(found) > 1 and self.chance(share):
            return self.count(domain, found)
        return None

    def count(self, domain: str, found: list[Entity]) -> Say:
        """How many were found, with some of what the user said."""
        is_exact = self.chance(0.6) or len(found) < 4
        number = str(len(found))
        if not is_exact:
            number = pick(self.rng, VAGUE)
        values = {"choice": number}
        for slot, value in self.sayable(domain).items():
            if self.chance(0.5):
                values[slot] = value
        return Say(
            act=f"{domain.capitalize()}-Inform",
            rule=f"{domain}_count",
            values=values,
        )

    def sayable(self, domain: str) -> dict[str, str]:
        """Slots and values of the belief state that can be repeated to the user."""
        slots = self.state[domain]
        return {slot: value for slot, value in slots.items() if value not in UNSAYABLE}

    def more(self) -> Say | None:
        """Perhaps "anything else?"."""
        anything_else = Say("general-reqmore", "reqmore")
        return self.perhaps(anything_else, 0.44)


def _request_rule(domain: str, slots: list[str]) -> str:
    """The rule that asks for the slots: the domain's own where it has one, and one for several slots at once."""
    rule = "bookrequest"
    if len(slots) > 1:
        return rule
    (slot,) = slots
    known = phrases()["bot"].rules
    general = f"request_{slot}"
    own = f"{domain}_{general}"
    for name in (general, own):
        if name in known:
            rule = name
    return rule
