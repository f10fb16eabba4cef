"""Something to see: HTML in a notebook, text elsewhere; and text that a terminal can be given."""

from dataclasses import dataclass
from typing import Any

# Charts are drawn on white paper. In a dark theme the page turns light into dark and leaves the hues as they are: it
# follows a theme that is changed, and a chart in a saved notebook, which no other template would.
ON_PAPER = ".js-plotly-plot, .lab-paper"  # plotly's charts, and what this course draws on white
IN_THE_DARK = "filter: invert(0.92) hue-rotate(180deg)"  # 0.92: white becomes a page's dark grey, and not black


@dataclass(frozen=True)
class Shown:
    """Something to see: HTML in a notebook, `text` in a terminal and for a screen reader."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def show(shown: Any) -> None:  # whatever has a _repr_html_ or a __repr__
    """Display in IPython, print elsewhere."""
    try:
        from IPython import display, get_ipython
    except ImportError:
        return print(shown)
    return display.display(shown) if get_ipython() else print(shown)


def readable(text: str) -> str:
    """A text with its control characters (but for line breaks and tabs) and half emojis as escapes.

    A terminal would take them for orders, and no file can hold half an emoji.

    >>> readable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(_readable(letter) for letter in text)


def _readable(letter: str) -> str:
    code = ord(letter)
    is_control = code < 32 or 127 <= code < 160
    is_half = 0xD800 <= code < 0xE000
    turns_around = 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069  # the direction of reading
    if letter in "\n\t" or not (is_control or is_half or turns_around):
        return letter
    return letter.encode("unicode_escape").decode()
