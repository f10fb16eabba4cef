"""The chat in a cell's output: the widget, and behind it the conversation as HTML, which stays without a kernel."""

import uuid

from labkit.notebook.chat_box.answers import ChatAnswers
from labkit.notebook.chat_box.core import box
from labkit.notebook.chat_box.exchange import Talk
from labkit.notebook.decoding_lab.explorer import has_custom_widgets
from labkit.notebook.decoding_lab.twin import display_with_twin
from labkit.notebook.stand_in import stand_in
from labkit.shown import Shown


def display_chat(talk: Talk) -> None:
    """Display a conversation, with what the front end can draw; the button of a partner is in core widgets."""
    if has_custom_widgets() and talk.partner is None:
        _display_live(talk)
    else:
        display_with_twin(box(talk), talk.show())


def _display_live(talk: Talk) -> None:
    """The widget, and its stand-in, which is displayed anew when the conversation has changed.

    The first output has no HTML of its own: an untrusted notebook shows one.
    """
    from IPython.display import display

    from labkit.notebook.chat_box.live import ChatBox

    name = uuid.uuid4().hex[:12]

    def twin() -> dict[str, str]:
        return {"text/html": stand_in(talk.show().html, name), "text/plain": ""}

    answers = ChatAnswers(talk)
    display_with_twin(ChatBox(answers, name), Shown("", talk.show().text))
    handle = display(twin(), raw=True, display_id=True)
    if handle is not None:  # there is none outside of IPython
        answers.on_change = lambda: handle.update(twin(), raw=True)
