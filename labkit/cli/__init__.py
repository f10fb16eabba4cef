"""The command line. A problem is one line on stderr and exit code 2; an interrupt keeps what is done."""

import codecs
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from labkit import failures
from labkit.cli import commands
from labkit.cli.flags import TABLE, Command, Parsed, add_fields, parse
from labkit.course.slurm import FSDP
from labkit.errors import Interrupted, LabError
from labkit.machine.one_line import first_line
from labkit.shown import readable

__all__ = ["FSDP", "TABLE", "add_fields", "commands", "main", "parsed"]

DONE, PROBLEM, INTERRUPTED, HUNG_UP = 0, 2, 130, 141
COMMANDS: dict[str, Command] = {name: getattr(commands, name.replace("-", "_")) for name in TABLE["commands"]}
# what is written in place of a letter that a stream's encoding does not have; of others the escape
SPELT = {
    "→": "->",
    "–": "-",
    "—": "-",
    "’": "'",
    "“": '"',
    "”": '"',
    "…": "...",
    "×": "x",
    "≈": "~",
    "≤": "<=",
    "✓": "ok",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit code is 0 (done), 1 (doctor: BLOCKED), 2 (a problem) or 130 (interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        _make_lossless(stream)
    try:
        with _sigterm_interrupts():
            asked = parsed(sys.argv[1:] if argv is None else argv)
            return COMMANDS[asked.command](**asked.arguments) or DONE
    except Interrupted as error:
        return _stop(str(error), INTERRUPTED)
    except LabError as error:
        return _stop(str(error), PROBLEM)
    except KeyboardInterrupt:
        return _stop("interrupted → the same command goes on from what is on disk", INTERRUPTED)
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return HUNG_UP
    except Exception as error:
        if os.environ.get("LAB_DEBUG"):
            raise
        failure = failures.explain(error)
        return _stop(f"{failure or _unexpected(error)}; LAB_DEBUG=1 shows the traceback", PROBLEM)


def parsed(argv: Sequence[str]) -> Parsed:
    """The command and its arguments, read and checked; nothing is run.

    Raises:
        LabError: see `labkit.cli.flags.parse`.
    """
    about = {name: str(command.__doc__) for name, command in COMMANDS.items()}
    return parse(argv, about)


def _stop(message: str, exit_code: int) -> int:
    """Say in one line on stderr why nothing more is done."""
    line = " ".join(readable(failures.hidden(message)).split())
    print(f"labkit: {line}", file=sys.stderr)
    return exit_code


def _unexpected(error: Exception) -> str:
    """A fault of labkit's own in one line, with the place where it happened."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    return f"unexpected {type(error).__name__}: {first_line(error)} ({place}) → report it with `labkit doctor --json`"


# --- streams and signals ----------------------------------------------------------------------------------------------


def _make_lossless(stream: TextIO) -> None:
    """Write a letter that the stream's encoding (Windows: cp1252; a container: ASCII) does not have in another way."""
    codecs.register_error("labkit", _spell)
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="labkit")


def _spell(error: UnicodeError) -> tuple[str, int]:
    """An error handler of `codecs`: what to write in place of letters that cannot be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    spelt = [SPELT.get(letter) or letter.encode("unicode_escape").decode() for letter in letters]
    return "".join(spelt), error.end


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does."""
    is_main = threading.current_thread() is threading.main_thread()  # signals go to the main thread only
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C would do now: training, for one, ends its step first."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)
