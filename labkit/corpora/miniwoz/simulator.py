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
    """The user thanks, the system says goodbye."""
    thanks = Say("general-thank", "close")
    welcome = Say("general-welcome", "welcome")
    goodbye = Say("general-bye", "bye")
    talk.user(thanks)
    if talk.chance(0.1):
        anything_else = Say("general-reqmore", "reqmore")
        talk.bot(welcome, anything_else)
        nothing_else = Say("general-bye", "goodbye")
        talk.user(nothing_else)
    perhaps_welcome = talk.perhaps(welcome, 0.42)
    goodbye_share = 0.88 if perhaps_welcome else 1
    perhaps_goodbye = talk.perhaps(goodbye, goodbye_share)
    talk.bot(perhaps_welcome, perhaps_goodbye)
