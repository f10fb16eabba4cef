"""Whole conversations, all a turn at a time together: users speak, the bot replies to all, users listen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from labkit.corpora.types import Reply, Turn
from labkit.interaction.acts import ActClassifier, Labels
from labkit.interaction.agenda import Agenda
from labkit.interaction.bots import Bot, Talk
from labkit.interaction.progress import Event
from labkit.interaction.user import SimulatedUser

Recorded = Mapping[str, Sequence[Reply]]  # {key: the bot's replies so far}


@dataclass(frozen=True)
class Conversation:
    """One conversation from its first turn to its end, and how it went."""

    key: str
    users: Sequence[Turn]
    replies: Sequence[Reply]
    acts: Sequence[Labels]  # of each reply, as the user understood it
    booked: Sequence[Sequence[str]]  # domains booked so far, after each reply
    agenda: Agenda  # as it stands at the end

    @property
    def success(self) -> bool:
        return self.agenda.success

    @property
    def strict_success(self) -> bool:
        return self.agenda.strict_success

    @property
    def events(self) -> list[Event]:
        return self.agenda.events


class _Played:
    """A conversation that goes on."""

    def __init__(self, key: str, user: SimulatedUser):
        self.user = user
        self.talk = Talk(key)
        self.acts: list[Labels] = []
        self.booked: list[list[str]] = []

    def finished(self) -> Conversation:
        return Conversation(
            key=self.talk.key,
            users=self.talk.users,
            replies=self.talk.replies,
            acts=self.acts,
            booked=self.booked,
            agenda=self.user.agenda,
        )


def play(
    bot: Bot,
    users: Mapping[str, SimulatedUser],
    classifier: ActClassifier,
    *,
    recorded: Recorded | None = None,
    on_turn: Callable[[Mapping[str, Sequence[Reply]]], None] | None = None,
) -> list[Conversation]:
    """Let every user talk to the bot to the end.

    Args:
        recorded: replies that an interrupted run has left. They are given again without asking the bot, so that each
            user comes to where it stood: users depend on nothing but their seed and what they hear.
        on_turn: called with all replies so far, {key: replies}, after every turn of all: what a run can be gone on
            with.
    """
    played = {key: _Played(key, user) for key, user in users.items()}
    waiting = list(played.values())
    while True:
        waiting = [one for one in waiting if _speaks(one)]
        if not waiting:
            break
        _reply(bot, waiting, recorded or {})
        heard = classifier.hear([one.talk.last_reply for one in waiting])
        for one, understood in zip(waiting, heard, strict=True):
            one.user.listen(understood, one.talk.state_before)
            one.acts.append(understood.acts)
            one.booked.append(one.user.agenda.booked)
        if on_turn:
            on_turn({key: one.talk.replies for key, one in played.items()})
    return [one.finished() for one in played.values()]


def _speaks(one: _Played) -> bool:
    turn = one.user.speak()
    if turn is None:
        return False
    one.talk.users.append(turn)
    return True


def _reply(bot: Bot, waiting: Sequence[_Played], recorded: Recorded) -> None:
    """A reply to each: the one that was recorded, else the bot's."""
    new = []
    for one in waiting:
        known = recorded.get(one.talk.key, ())
        number = len(one.talk.replies)
        if number < len(known):
            one.talk.replies.append(known[number])
        else:
            new.append(one)
    if new:
        for one, reply in zip(new, bot.reply([one.talk for one in new]), strict=True):
            one.talk.replies.append({**reply, "state": reply.get("state", {})})
