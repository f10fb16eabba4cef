"""Something to see: HTML in a notebook, text elsewhere."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shown:
    """Something to see: HTML in a notebook, `text` in a terminal and for a screen reader."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def show(shown: Any) -> None:
    """Display in IPython, print elsewhere."""
    try:
        from IPython import display, get_ipython
    except ImportError:
        return print(shown)
    return display.display(shown) if get_ipython() else print(shown)
