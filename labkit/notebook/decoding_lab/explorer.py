"""The decoding lab in a notebook: answers to the front end's questions, displayed by what the front end can draw."""

import importlib.util
import os
from html import escape
from typing import TYPE_CHECKING

from labkit.notebook.decoding_lab.answers import Answers
from labkit.notebook.decoding_lab.twin import display_live, display_with_twin

if TYPE_CHECKING:
    from ipywidgets import Widget


class DecodingExplorer(Answers):
    """Answers that a notebook displays as the decoding lab; see `Answers` for what it is made of."""

    def box(self) -> "Widget":
        """The lab in core widgets, for a front end where custom widgets are off."""
        from labkit.notebook.decoding_lab.core import CoreLab

        return CoreLab(self).box()

    def _repr_html_(self) -> str:
        name = escape(repr(self))
        return f"<p>{name}</p>{self.static().html}"

    def __repr__(self) -> str:
        return f"<decoding lab: {self.lm.name}, {len(self.dialogues)} dialogue(s)>"

    def _ipython_display_(self) -> None:
        if has_custom_widgets():
            display_live(self)
        else:
            display_with_twin(self.box(), self.static())


def has_custom_widgets() -> bool:
    """Whether the lab is shown by anywidget: LAB_WIDGETS=core asks for core widgets instead."""
    if os.environ.get("LAB_WIDGETS") == "core":
        return False
    return importlib.util.find_spec("anywidget") is not None
