"""The decoding lab as a widget: anywidget carries the front end's questions to the explorer, and its answers back."""

from typing import TYPE_CHECKING

import anywidget
import traitlets

from labkit.notebook.decoding_lab.files import MODULE, STYLE

if TYPE_CHECKING:
    from labkit.notebook.decoding_lab.answers import Answers, Content


class DecodingLab(anywidget.AnyWidget):
    """An explorer on the screen; `start` is what the front end begins with, `first` the logits before any question."""

    _esm = MODULE.read_text(encoding="utf-8")
    _css = STYLE.read_text(encoding="utf-8")
    start = traitlets.Dict().tag(sync=True)
    first = traitlets.Bytes().tag(sync=True)  # float32 [V]

    def __init__(self, explorer: "Answers", start: "Content"):
        super().__init__(start=start, first=explorer.logits(explorer.place).tobytes())
        self.explorer = explorer
        self.on_msg(self.hear)

    def hear(self, _: anywidget.AnyWidget, question: "Content", buffers: list[bytes]) -> None:
        """Answer one question; the next one comes when the front end has the answer."""
        answer, numbers = self.explorer.answer(question)
        self.send({**answer, "id": question.get("id")}, buffers=numbers)
