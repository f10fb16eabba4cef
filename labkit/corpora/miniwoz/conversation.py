"""Taking turns: what user and system say is worded, and what it changes in the belief state is kept."""

from collections.abc import Mapping
from random import Random

from labkit.corpora.miniwoz.database import Entity, query
from labkit.corpora.miniwoz.goals import Task
from labkit.corpora.miniwoz.grammar import NOTHING, pick
from labkit.corpora.miniwoz.wording import Say, Utterance, Voice, nouns, phrases
from labkit.corpora.types import State

VAGUE = ("several", "many", "a few", "a lot of")
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
        begin = self.perhaps(Say("", lead), share if lead else 0)
        end = self.perhaps(Say("", tail), share if tail else 0)
        for part in parts:
            if part and part.act.endswith("-Inform"):
                domain = part.act.split("-")[0].lower()
                self.state.setdefault(domain, {}).update(part.values)
        self._turn("user", [begin, *parts, end])

    def bot(self, *parts: Say | None) -> None:
        """A system turn; the first one may greet."""
        is_first = len(self.turns) == 1
        greeting = self.perhaps(Say("general-greet", "greet"), 0.22 if is_first else 0)
        self._turn("bot", [greeting, *parts])
        self.booked_by_turn.append(list(self.booked))

    def _turn(self, speaker: str, parts: list[Say | None]) -> None:
        utterance = self.voices[speaker].turn([part for part in parts if part])
        utterance.state = {domain: dict(slots) for domain, slots in self.state.items()}
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
        return slots[: least + int(self.rng.random() * (len(slots) - least + 1))]

    # --- what the user says -------------------------------------------------------------------------------------------

    def inform(self, task: Task, rule: str, values: Mapping[str, str], more: Mapping[str, str] = NOTHING) -> Say:
        """What the user wants; a value that an earlier domain had already is said by reference to it.

        `more` are flags for the rule, beside those that are set here (see phrases.toml).
        """
        explicit = () if rule.endswith("_open") else BY_NAME
        same = [slot for slot in values if slot in task.same and slot not in explicit]
        flags = {f"_same{slot}": "" for slot in same}
        flags["_domain"] = task.domain
        flags.update(more)
        for number, slot in enumerate(same):
            flags[f"_other{number or ''}"] = task.same[slot]
        if not self.turns:
            flags["_first"] = ""
        return Say(f"{task.domain.capitalize()}-Inform", rule, values, flags=flags)

    def open(self, task: Task, rule: str, values: Mapping[str, str]) -> None:
        """The user brings up a domain, now and then with a word about the occasion."""
        about = None
        if not self.turns:
            about = self.perhaps(Say("", "context"), 0.4)
        say = self.inform(task, rule, values, {"_context": ""} if about else NOTHING)
        is_search = task.domain not in ("train", "taxi") and "name" not in values
        self.user(about, say, tail="tail" if is_search else "tail_short", share=0.42)

    def tell(self, task: Task, rule: str, wanted: Mapping[str, str], todo: list[str], *, least: int = 1) -> list[str]:
        """The user says at least so many of the slots in `todo`; the rest is returned."""
        given = self.first_few(todo, least)
        say = self.inform(task, rule, {slot: wanted[slot] for slot in given})
        self.user(say, lead="lead", tail="tail_short", share=0.12)
        return todo[len(given) :]

    def shrug(self, task: Task, slot: str) -> None:
        """To the user, any value of the slot will do."""
        what = {"_what": nouns(self.rng, [slot])}
        dontcare = Say(f"{task.domain.capitalize()}-Inform", "dontcare", {slot: "dontcare"}, flags=what)
        self.user(dontcare, tail="tail", share=0.35)

    # --- what the system says -----------------------------------------------------------------------------------------

    def fill(self, task: Task, rule: str, wanted: Mapping[str, str], todo: list[str], *, together: float) -> None:
        """The system asks for what is missing until the user has said it; `together` is how often for all at once."""
        while todo:
            asked = todo if self.chance(together) else todo[:1]
            count = None
            if rule == "train_give":
                count = self.narrow("train", query("train", self.state["train"]), share=0.55)
            self.bot(count, self.request(task.domain, asked))
            todo = self.tell(task, rule, wanted, todo, least=len(asked))

    def request(self, domain: str, slots: list[str]) -> Say:
        """A question for the slots."""
        is_booking = slots[0].startswith("book") and domain != "train"
        act = "Booking" if is_booking else domain.capitalize()
        rule = "bookrequest"
        if len(slots) == 1:
            rules = phrases()["bot"].rules
            for name in (f"request_{slots[0]}", f"{domain}_request_{slots[0]}"):  # the domain's own is preferred
                if name in rules:
                    rule = name
        return Say(f"{act}-Request", rule, asks=tuple(slots), flags={"_what": nouns(self.rng, slots)})

    def narrow(self, domain: str, found: list[Entity], share: float = 0.65) -> Say | None:
        """Perhaps how many were found, where there are several."""
        if len(found) > 1 and self.chance(share):
            return self.count(domain, found)
        return None

    def count(self, domain: str, found: list[Entity]) -> Say:
        """How many were found, with some of what the user said."""
        exact = self.chance(0.6) or len(found) < 4
        values = {"choice": str(len(found)) if exact else pick(self.rng, VAGUE)}
        for slot, value in self.sayable(domain).items():
            if self.chance(0.5):
                values[slot] = value
        return Say(f"{domain.capitalize()}-Inform", f"{domain}_count", values)

    def sayable(self, domain: str) -> dict[str, str]:
        """Slots and values of the belief state that can be repeated to the user."""
        return {slot: value for slot, value in self.state[domain].items() if value not in ("yes", "dontcare")}

    def more(self) -> Say | None:
        """Perhaps "anything else?"."""
        return self.perhaps(Say("general-reqmore", "reqmore"), 0.44)
