"""The chat as a widget: anywidget carries the front end's questions to the conversation, and its answers back."""

import anywidget
import traitlets

from labkit.notebook.chat_box import files
from labkit.notebook.chat_box.answers import ChatAnswers, Content


class ChatBox(anywidget.AnyWidget):
    """A conversation on the screen; `start` is what the front end begins with."""

    _esm = files.module()
    _css = files.style()
    start = traitlets.Dict().tag(sync=True)

    def __init__(self, answers: ChatAnswers, name: str):
        super().__init__(start={"id": name, "exchanges": answers.exchanges()})
        self.answers = answers
        self.on_msg(self.hear)

    def hear(self, _: anywidget.AnyWidget, question: Content, buffers: list[bytes]) -> None:
        """Answer one question; the next one comes when the front end has the answer."""
        answer = self.answers.answer(question)
        self.send({**answer, "id": question.get("id")})
