"""The simulator: a user with an agenda and a system with a policy take turns until the goal is met."""

from collections.abc import Callable
from random import Random

from labkit.corpora.miniwoz.conversation import Conversation
from labkit.corpora.miniwoz.goals import Task
from labkit.corpora.miniwoz.transport import find_train, order_taxi
from labkit.corpora.miniwoz.venues import find_venue
from labkit.corpora.miniwoz.wording import Say

POLICIES: dict[str, Callable[[Conversation, Task], None]] = {
    "restaurant": find_venue,
    "hotel": find_venue,
    "attraction": find_venue,
    "train": find_train,
    "taxi": order_taxi,
}


def simulate(rng: Random, tasks: list[Task]) -> Conversation:
    """A dialogue in which every task is dealt with; the same state of `rng` gives the same dialogue."""
    talk = Conversation(rng, tasks)
    for task in tasks:
        POLICIES[task.domain](talk, task)
    _part(talk)
    return talk


def _part(talk: Conversation) -> None:
    talk.user(Say("general-thank", "close"))
    if talk.chance(0.1):
        talk.bot(Say("general-welcome", "welcome"), Say("general-reqmore", "reqmore"))
        talk.user(Say("general-bye", "goodbye"))
    welcome = talk.perhaps(Say("general-welcome", "welcome"), 0.42)
    goodbye = talk.perhaps(Say("general-bye", "bye"), 0.88 if welcome else 1)
    talk.bot(welcome, goodbye)
