"""Bots without a model, which the scores are calibrated with: one that does all right, and some that should fail.

They read what the user means (acts and state), not the words: they show what the scores of a conversation are worth,
and nothing about understanding.
"""

from collections.abc import Callable, Sequence
from random import Random

from labkit.corpora.miniwoz.grammar import pick
from labkit.corpora.slots import placeholder
from labkit.corpora.types import Corpus, Reply, Turn, Values
from labkit.interaction.acts import learning_dialogues, replies_and_labels
from labkit.interaction.agenda import FEW
from labkit.interaction.bots import Talk
from labkit.interaction.venues import Venues

ASKABLE = {  # {domain: slots that the rule policy asks for, in this order}
    "restaurant": ("food", "area", "pricerange"),
    "hotel": ("area", "pricerange", "type", "stars", "internet", "parking"),
    "attraction": ("type", "area"),
    "train": ("departure", "destination", "day"),
    "taxi": ("departure", "destination"),
}
BOOKED_BY = {  # {domain: slots of a booking}
    "restaurant": ("bookpeople", "bookday", "booktime"),
    "hotel": ("bookpeople", "bookday", "bookstay"),
    "train": ("bookpeople",),
}
TIMES = ("leaveat", "arriveby")
QUESTIONS = {
    "food": "what type of food would you like?",
    "area": "what area of town would you like?",
    "pricerange": "what price range would you like?",
    "type": "what type of attraction are you looking for?",
    "stars": "do you have a preference for the star rating?",
    "internet": "do you need internet?",
    "parking": "do you need parking?",
    "departure": "where will you be departing from?",
    "destination": "what is your destination?",
    "day": "what day will you be travelling?",
    "leaveat": "what time would you like to leave?",
    "bookpeople": "how many people will it be for?",
    "bookday": "what day would you like to book it for?",
    "booktime": "what time would you like the reservation for?",
    "bookstay": "how many nights will you be staying?",
}
HOTEL_TYPE = "would you prefer a hotel or a guesthouse?"
BYE = "you are welcome. have a great day, goodbye."
NONE = "i'm sorry, there are no places like that. would you like to try something else?"


class Policy:
    """A bot that is a function of one conversation; its state is what the user means."""

    states = "user"

    def reply(self, talks: Sequence[Talk]) -> list[Reply]:
        """See `labkit.interaction.bots.Bot`."""
        replies: list[Reply] = []
        for talk in talks:
            replies.append({"response": self.answer(talk), "state": talk.users[-1].state})
        return replies

    def answer(self, talk: Talk) -> str:
        """The reply to the last user turn."""
        raise NotImplementedError


class ConstantPolicy(Policy):
    """Says the same whatever is said."""

    def __init__(self, text: str = "ok"):
        self.text = text

    def answer(self, talk: Talk) -> str:
        """The one reply."""
        return self.text


class RandomPolicy(Policy):
    """Says any reply of the corpus' training dialogues."""

    def __init__(self, corpus: Corpus, split: str = "test", seed: int = 2022):
        self.replies, _ = replies_and_labels(learning_dialogues(corpus, split))
        self.seed = seed

    def answer(self, talk: Talk) -> str:
        """A reply by chance."""
        rng = Random(f"{self.seed}-{talk.key}-{len(talk.users)}")
        return pick(rng, self.replies)


class EveryPlaceholderPolicy(Policy):
    """Says all that could ever be asked for, at every turn: a known trick against Inform and Success."""

    def answer(self, talk: Talk) -> str:
        """Every placeholder that tells something."""
        names = []
        for domain in ("restaurant", "hotel", "attraction"):
            names += [placeholder(domain, slot) for slot in ("name", "phone", "address", "postcode", "ref")]
        names += ["[train_trainid]", "[train_reference]", "[taxi_type]", "[taxi_phone]"]
        return " ".join(names)


def topic(turn: Turn) -> str:
    """The domain that a user turn is about; "" where it is about none."""
    for act in turn.acts:
        domain = act.split("-")[0].lower()
        if domain != "general":
            return domain
    return ""


def asked_for(turn: Turn) -> list[str]:
    """The slots that a user turn asks for."""
    slots = []
    for act, pairs in turn.acts.items():
        if act.endswith("-Request"):
            slots += [slot for slot, _ in pairs]
    return slots


class EagerPolicy(Policy):
    """Offers something at every turn and never asks: what a system does that has only learnt to score."""

    def answer(self, talk: Talk) -> str:
        """An offer, what was asked for, and a booking wherever one is spoken of."""
        turn = talk.users[-1]
        domain = topic(turn)
        if not domain:
            return BYE
        if domain == "taxi":
            return "i have booked you a [taxi_type]. the contact number is [taxi_phone]."
        offer = (
            "train [train_trainid] leaves at [train_leaveat]." if domain == "train" else f"how about [{domain}_name]?"
        )
        told = told_in_words(domain, asked_for(turn))
        books = any(slot.startswith("book") for slot in turn.state.get(domain, {}))
        return " ".join(filter(None, [offer, told, booked_in_words(domain) if books else ""]))


class RulePolicy(Policy):
    """Asks until few are left, says "none" where there is none, offers, answers, books: what a good system does."""

    def __init__(self, corpus: Corpus):
        self.venues = Venues.of(corpus)

    def answer(self, talk: Talk) -> str:
        """The first rule that applies."""
        turn = talk.users[-1]
        domain = topic(turn)
        if not domain:
            return BYE
        slots = turn.state.get(domain, {})
        rules: list[Callable[[], str]] = [
            lambda: told_in_words(domain, asked_for(turn)),
            lambda: self._book(domain, slots, turn),
            lambda: self._ask(domain, slots),
            lambda: self._offer(domain, slots),
        ]
        for rule in rules:
            words = rule()
            if words:
                return words
        return BYE

    def _book(self, domain: str, slots: Values, turn: Turn) -> str:
        """Once a booking is spoken of, what is missing for it, and then the booking."""
        told = [slot for act, pairs in turn.acts.items() if act.endswith("Inform") for slot, _ in pairs]
        if not any(slot.startswith("book") for slot in told):
            return ""
        for slot in BOOKED_BY.get(domain, ()):
            if slot not in slots:
                return QUESTIONS[slot]
        return booked_in_words(domain)

    def _ask(self, domain: str, slots: Values) -> str:
        if "name" in slots:
            return ""
        is_journey = domain in ("train", "taxi")
        n_found = self.venues.count(domain, slots)
        if not is_journey and n_found == 0:
            return NONE
        if not is_journey and n_found <= FEW:
            return ""
        for slot in ASKABLE[domain]:
            if slot not in slots:
                return HOTEL_TYPE if (domain, slot) == ("hotel", "type") else QUESTIONS[slot]
        if is_journey and not any(slot in slots for slot in TIMES):
            return QUESTIONS["leaveat"]
        return ""

    def _offer(self, domain: str, slots: Values) -> str:
        if domain == "taxi":
            return "i have booked you a [taxi_type]. the contact number is [taxi_phone]."
        if domain == "train":
            if not self.venues.count(domain, slots):
                return NONE
            return "train [train_trainid] leaves at [train_leaveat] and arrives by [train_arriveby]."
        return f"[{domain}_name] is a {domain} that meets your needs."


def told_in_words(domain: str, slots: Sequence[str]) -> str:
    """What a user asked for, told."""
    told = []
    for slot in slots:
        name = placeholder(domain, slot)
        told.append(f"the {slot} is {name}.")
    return " ".join(told)


def booked_in_words(domain: str) -> str:
    """A booking, confirmed."""
    reference = placeholder(domain, "ref")
    return f"your booking was successful. the reference number is {reference}."
