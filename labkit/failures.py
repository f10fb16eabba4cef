"""Known failures in plain words: what is wrong, what to do, and where to read more. The table is failures.toml.

`install` makes IPython show them so. The error itself is sent on: nbmake, nbclient and code hosts see a failure.
"""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.storage import shipped

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

TABLE: dict[str, dict[str, str]] = shipped(__file__, "failures.toml")  # {anchor: symptom, cause, action}
PAGE = Path(__file__).with_name("course") / "troubleshooting.md"
_SECRET = re.compile(r"\bhf_[A-Za-z0-9]{20,}|(?<=Bearer )[\w.-]+")
# user:password@ in an address; where a password holds a slash, the address is none, and is repeated in an error
_CREDENTIALS = re.compile(r"""(?<=://)(?:[^\s/?#"'<>]*@|[^\s/@:"'<>]+:[^\s@"'<>]*@)""")
_BOX = "border-left:6px solid #cf222e;padding-left:12px"
_PRE = "white-space:pre-wrap;overflow-wrap:anywhere"


@dataclass(frozen=True)
class Failure:
    """What is wrong, what to do next, and the section of the troubleshooting page ("" where it has none)."""

    cause: str
    action: str
    anchor: str

    def __str__(self) -> str:
        text = self.cause
        if self.action:
            text += f" → {self.action}"
        if self.anchor:
            text += f" ({self.where()})"
        return text

    def where(self) -> str:
        """The section, as a link from the working folder; "" where there is none."""
        if not self.anchor:
            return ""
        same_drive = PAGE.drive == Path.cwd().drive  # Windows: no relative path leads to another one
        page = os.path.relpath(PAGE) if same_drive else PAGE.as_posix()
        return f"{page}#{self.anchor}"

    def section(self) -> str:
        """The section's text, so that it can be read where no link to a file opens (Colab, Kaggle)."""
        for section in PAGE.read_text(encoding="utf-8").split("\n## "):
            heading = section.split("\n")[0]
            if heading.lower().replace(" ", "-") == self.anchor:
                return section
        return ""


def explain(error: BaseException | str) -> Failure | None:
    """The known failure that an error, or the text of one, is; None for others. A LabError explains itself."""
    text = error if isinstance(error, str) else "\n".join(_chain(error))
    anchor = _anchor(text)
    if isinstance(error, LabError):
        cause = f"{error.what}: {error.found}" if error.found else f"{error.what}."
        return Failure(hidden(cause), hidden(error.action), anchor)
    if not anchor:
        return None
    known = TABLE[anchor]
    return Failure(known["cause"], known["action"], anchor)


def _anchor(text: str) -> str:
    """The first row of the table whose symptom is in the text; "" if there is none."""
    for anchor, known in TABLE.items():
        if re.search(known["symptom"], text):
            return anchor
    return ""


def _chain(error: BaseException | None) -> Iterator[str]:
    """The error and what it came from, one `module.Type: message` each."""
    while error:
        kind = type(error)
        yield f"{kind.__module__}.{kind.__qualname__}: {error}"
        said_from = error.__cause__ is not None or error.__suppress_context__  # `raise … from …`
        error = error.__cause__ if said_from else error.__context__


def hidden(text: str) -> str:
    """Text without tokens, and addresses without user and password, for what a notebook or a log would keep.

    Some libraries repeat a header or an address in their message.
    """
    return _CREDENTIALS.sub("(hidden)@", _SECRET.sub("(token hidden)", text))


def install() -> None:
    """Show known failures in plain words in this notebook or IPython session; elsewhere nothing changes."""
    if "IPython" not in sys.modules:
        return
    shell = sys.modules["IPython"].get_ipython()
    if shell:
        shell.set_custom_exc((Exception,), _show)


def _show(
    shell: "InteractiveShell", kind: type, error: Exception, tb: TracebackType, tb_offset: int | None = None
) -> None:
    """IPython's handler: a card with the traceback folded away, then the error as the cell's error output."""
    from IPython.display import display

    failure = explain(error)
    if failure is None:
        shell.showtraceback((kind, error, tb), tb_offset=tb_offset, running_compiled_code=True)
        return
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, tb  # for %debug
    without_ipython = tb.tb_next
    full = hidden("".join(traceback.format_exception(kind, error, without_ipython)))
    display({"text/html": card(failure, full), "text/plain": full}, raw=True)
    shell._showtraceback(kind, hidden(str(error)), _cell_output(failure, error, full))


def _cell_output(failure: Failure, error: Exception, full: str) -> list[str]:
    """The lines of the cell's error output."""
    lines = [f"\x1b[31m✗\x1b[0m {failure}"]
    if not isinstance(error, LabError):
        lines.append(f"{type(error).__name__}: {hidden(str(error))}")
    if "PYTEST_CURRENT_TEST" in os.environ:  # nobody can unfold a card in the log of a test run
        lines += full.split("\n")
    return lines


def card(failure: Failure, full: str) -> str:
    """The failure as HTML: cause, action, a link, and the page's section and the full traceback to unfold."""
    parts = [f"<b>✗ {escape(failure.cause)}</b>"]
    if failure.action:
        parts.append(f"<p>→ {escape(failure.action)}</p>")
    section = failure.section()
    if section:
        link = f'<a href="{escape(failure.where())}">Troubleshooting: {failure.anchor}</a>'
        text = f'<div style="{_PRE}">{escape(section)}</div>'
        parts.append(f"<p>{link}</p>")
        parts.append(f"<details><summary>Read it here</summary>{text}</details>")
    trace = f'<pre style="{_PRE}">{escape(full)}</pre>'
    parts.append(f"<details><summary>Full traceback</summary>{trace}</details>")
    return f'<div role="alert" style="{_BOX}">{"".join(parts)}</div>'
