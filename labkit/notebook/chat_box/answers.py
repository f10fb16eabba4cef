"""The kernel's side of the chat: it answers the front end's questions, one at a time, and draws nothing.

The questions are listed at the top of `chat.mjs`. A reply grows as long as the front end asks for more of it: nothing
runs between two questions, and no thread touches a widget.
"""

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from labkit.errors import LabError
from labkit.notebook.chat_box.exchange import Answer, Talk

Content = dict[str, Any]  # a question or an answer as JSON: both sides have agreed on its values
BREATH = 0.05  # seconds that the model writes for one question: a dozen tokens of a small model, one of a large one


class ChatAnswers:
    """A conversation, and the answers to what its front end asks; `on_change` is called when it has changed."""

    def __init__(self, talk: Talk, on_change: Callable[[], None] = lambda: None):
        self.talk = talk
        self.on_change = on_change
        self.writing: Iterator[Answer] | None = None  # the answer that is being written
        self.at = 0  # its number among the exchanges

    def answer(self, question: Content) -> Content:
        """What the front end asked for; what goes wrong is an answer too, since a front end drops what is raised."""
        known: dict[str, Callable[[Content], Content]] = {
            "say": self._say,
            "more": self._more,
            "all": self._all,
            "restart": self._restart,
        }
        asked = question.get("ask")
        if asked not in known:
            return {"error": f"unknown question {asked!r}"}
        try:
            return known[asked](question)
        except Exception as error:
            self.writing = None
            told = str(error) if isinstance(error, LabError) else repr(error)
            return {"error": told, "exchanges": self.exchanges()}

    def _say(self, question: Content) -> Content:
        self.writing = None
        text = str(question["text"])
        self.writing = self.talk.write(text)
        self.at = len(self.talk.answers)
        return {"at": self.at}

    def _more(self, _: Content) -> Content:
        if self.writing is None:
            raise LabError("nothing is being written", "", "say something")
        so_far = _written_for(self.writing, BREATH)
        if so_far.finished:
            self.writing = None
            self.on_change()
        return {"at": self.at, "exchange": as_json(so_far)}

    def _all(self, _: Content) -> Content:
        self.on_change()
        return {"exchanges": self.exchanges()}

    def _restart(self, _: Content) -> Content:
        self.writing = None
        self.talk.restart()
        self.on_change()
        return {"exchanges": []}

    def exchanges(self) -> list[Content]:
        """All exchanges so far."""
        return [as_json(one) for one in self.talk.answers]


def _written_for(writing: Iterator[Answer], seconds: float) -> Answer:
    """How far an answer is after some time; at least one token further."""
    start = perf_counter()
    for so_far in writing:
        if so_far.finished or perf_counter() - start >= seconds:
            return so_far
    raise LabError("this answer is finished", "", "say something")


def as_json(one: Answer) -> Content:
    """An exchange as the front end draws it."""
    return {
        "user": one.user,
        "facts": one.lines(),
        "reply": one.reply,
        "text": one.text,
        "finished": one.finished,
    }
