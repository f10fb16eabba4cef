"""A progress bar: HTML in a notebook, text elsewhere.

tqdm's own bar in a notebook is a widget. In a notebook that is opened again without its kernel, "model not found"
stands where it was; this one leaves nothing behind.
"""

import io
import sys
from collections.abc import Iterable
from html import escape
from typing import Any

from tqdm.std import tqdm


def progress_bar(
    items: Iterable[Any] | None = None, **settings: Any
) -> tqdm:  # Any: of whatever is counted; tqdm's own
    """tqdm's bar over `items`, or of `total=…`; it is gone when all is done."""
    kind = NotebookBar if _in_notebook() else tqdm
    return kind(items, leave=False, **settings)


def _in_notebook() -> bool:
    """Whether outputs go to a notebook: not in a terminal's IPython, which has no kernel."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


class NotebookBar(tqdm):
    """A bar of HTML, drawn anew in its place by updates of one display."""

    # Any: as above
    def __init__(self, items: Iterable[Any] | None = None, **settings: Any):
        from IPython.display import display

        self.handle = display({"text/plain": ""}, raw=True, display_id=True)
        super().__init__(items, file=io.StringIO(), **settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar; tqdm calls this with an empty `msg` at the end."""
        if self.handle is None:  # a front end without displays
            return
        if msg == "":
            self.handle.update({"text/plain": "", "text/html": ""}, raw=True)
            return
        text = str(self)
        ends = f'max="{self.total}" value="{self.n}"' if self.total else ""
        name = escape(self.desc.removesuffix(": ") if self.desc else "progress")
        _, _, counted = text.rpartition("|")
        line = f'<progress {ends} aria-label="{name}"></progress> {name} {escape(counted.strip())}'
        self.handle.update({"text/plain": text, "text/html": f"<div>{line}</div>"}, raw=True)
