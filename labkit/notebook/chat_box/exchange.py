"""One exchange of a chat: what was said, what the bot believes then, and its reply."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from labkit.corpora.types import State
from labkit.notebook.view import Entity
from labkit.prompts.text import state_text
from labkit.shown import Shown


@dataclass(frozen=True)
class Answer:
    """One exchange: what was said, the belief state after it, {domain: entities that meet it}, and the reply."""

    user: str
    state: State
    matches: dict[str, list[Entity]]
    reply: str  # as the model wrote it, with placeholders
    text: str  # the same with what the database and the state know
    finished: bool = True  # False as long as it is being written, and where somebody stopped it

    def lines(self) -> list[str]:
        """The belief state and the matches, in words."""
        told = [f"belief state: {state_text(self.state) or 'empty'}"]
        for domain, rows in self.matches.items():
            told.append(f"{domain}: {_counted(rows)}")
        return told


def _counted(rows: list[Entity]) -> str:
    """How many entities, and the names of the first three."""
    count = f"{len(rows)} in the database"
    if not rows:
        return count
    names = []
    for row in rows[:3]:
        name = row.get("name", row.get("trainID"))
        names.append(str(name))
    if len(rows) > len(names):
        names.append("…")
    return f"{count} ({', '.join(names)})"


class Talk(Protocol):
    """A conversation, as far as its front ends know it; see `labkit.notebook.chat.Conversation`."""

    answers: list[Answer]
    partner: object | None  # a simulated user that can take a turn

    def write(self, text: str) -> Iterator[Answer]:
        """The answer to a user turn, as far as it is written, token by token."""

    def restart(self) -> None:
        """Forget what was said."""

    def show(self, note: str = "", *, asked: str = "") -> Shown:
        """The conversation to look at."""

    def waiting(self, text: str) -> Shown:
        """The same with what was just said."""

    def respond(self, text: str) -> Shown:
        """Answer, and show the conversation."""

    def let_partner_speak(self) -> Shown:
        """The partner's next turn and the answer to it."""
