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
from typing import Any

from labkit.errors import LabError
from labkit.storage import shipped

TABLE: dict[str, dict[str, str]] = shipped(__file__, "failures.toml")
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
        parts = (self.cause, f"→ {self.action}" if self.action else "", f"({self.where()})" if self.anchor else "")
        return " ".join(filter(None, parts))

    def where(self) -> str:
        """The section, as a link from the working folder."""
        near = os.path.relpath(PAGE) if PAGE.drive == Path.cwd().drive else PAGE.as_posix()
        return f"{near}#{self.anchor}" if self.anchor else ""

    def section(self) -> str:
        """The section's text, so that it can be read where no link to a file opens (Colab, Kaggle)."""
        parts = PAGE.read_text(encoding="utf-8").split("\n## ")
        return next((part for part in parts if part.split("\n")[0].lower().replace(" ", "-") == self.anchor), "")


def explain(error: BaseException | str) -> Failure | None:
    """The known failure that an error, or the text of one, is; None for others. A LabError explains itself."""
    told = error if isinstance(error, str) else "\n".join(_told(error))
    anchor = next((anchor for anchor, row in TABLE.items() if re.search(row["symptom"], told)), "")
    if isinstance(error, LabError):
        cause = f"{error.what}: {error.found}" if error.found else f"{error.what}."
        return Failure(hidden(cause), hidden(error.action), anchor)
    return Failure(TABLE[anchor]["cause"], TABLE[anchor]["action"], anchor) if anchor else None


def _told(error: BaseException | None) -> Iterator[str]:
    """The error and what it came from, one `module.Type: message` each."""
    while error:
        yield f"{type(error).__module__}.{type(error).__qualname__}: {error}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def hidden(text: str) -> str:
    """Text without tokens, and addresses without user and password, for what a notebook or a log would keep.

    Some libraries repeat a header or an address in their message.
    """
    return _CREDENTIALS.sub("(hidden)@", _SECRET.sub("(token hidden)", text))


def install() -> None:
    """Show known failures in plain words in this notebook or IPython session; elsewhere nothing changes."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell:
        shell.set_custom_exc((Exception,), _show)


def _show(shell: Any, kind: type, error: Exception, tb: TracebackType, tb_offset: int | None = None) -> None:
    """IPython's handler: a card with the traceback folded away, then the error as the cell's error output."""
    from IPython.display import display

    failure = explain(error)
    if failure is None:
        return shell.showtraceback((kind, error, tb), tb_offset=tb_offset, running_compiled_code=True)
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, tb  # for %debug
    full = hidden("".join(traceback.format_exception(kind, error, tb.tb_next)))  # without IPython's own frame
    display({"text/html": card(failure, full), "text/plain": full}, raw=True)
    told = [f"\x1b[31m✗\x1b[0m {failure}"]
    if not isinstance(error, LabError):
        told.append(f"{kind.__name__}: {hidden(str(error))}")
    # nobody can unfold a card in the log of a test run
    told += full.split("\n") if "PYTEST_CURRENT_TEST" in os.environ else []
    shell._showtraceback(kind, hidden(str(error)), told)


def card(failure: Failure, full: str) -> str:
    """The failure as HTML: cause, action, a link, and the page's section and the full traceback to unfold."""
    link = ""
    if section := failure.section():
        link = f'<p><a href="{escape(failure.where())}">Troubleshooting: {failure.anchor}</a></p>'
        link += f'<details><summary>Read it here</summary><div style="{_PRE}">{escape(section)}</div></details>'
    folded = f'<details><summary>Full traceback</summary><pre style="{_PRE}">{escape(full)}</pre></details>'
    action = f"<p>→ {escape(failure.action)}</p>" if failure.action else ""
    return f'<div role="alert" style="{_BOX}"><b>✗ {escape(failure.cause)}</b>{action}{link}{folded}</div>'
