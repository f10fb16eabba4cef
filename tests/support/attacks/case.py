"""A bad input, what is right about it, and what came of it.

A case is tried in a fork of this process: what it does to the environment, to files and to signals ends with the fork,
and a case that does not come back is killed.
"""

import contextlib
import io
import json
import os
import re
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch

from labkit.errors import Interrupted, LabError
from labkit.storage import LIST

LINE = "clear line"  # a LabError, or the command line's one line and exit code 2
STOPPED = "interrupted"  # one line and exit code 130
RESULT = "result"
TRACEBACK = "traceback"
WRONG = "wrong"  # the wrong one of the above, a wrong value, or no end
LOST = "lost"  # a file that was there is gone or changed
OUTCOMES = (LINE, STOPPED, RESULT, TRACEBACK, WRONG, LOST)

EITHER = (LINE, RESULT)  # both are right: a stranger's value may make sense or not
LONGEST_LINE = 1500  # characters
PROGRESS = re.compile(r"\d+%\||\d+(it|s|unit| texts|dialogue)/|^\r*$")  # a bar of tqdm's
SECRET = "hunter2-is-secret"  # stands in addresses and tokens; nothing may repeat it


class Refused(Exception):
    """The command line ended with exit code 2; the text is what it wrote on stderr."""


class StoppedByHand(Exception):
    """The command line ended with exit code 130."""


class Wrong(Exception):
    """Something came out that is not right."""


class Lost(Exception):
    """A file that was there before is gone or changed."""


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        point: 1 to 10, of issue 18.
        name: the input in words.
        act: gives it to labkit, in an empty working folder. What it returns does not matter.
        right: the outcomes that are right.
        says: a regular expression that the clear line must contain.
        seconds: the time limit.
    """

    point: int
    name: str
    act: Callable[[], object]
    right: tuple[str, ...] = (LINE,)
    says: str = ""
    seconds: float = 20.0


@dataclass(frozen=True)
class Seen:
    """What came of a case, and the message that belongs to it."""

    outcome: str
    message: str = ""
    seconds: float = 0.0


# --- trying a case ----------------------------------------------------------------------------------------------------


def tried(case: Case) -> Seen:
    """What comes of a case, in a process and a folder of its own."""
    begun = monotonic()
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    read_end, write_end = os.pipe()
    process = os.fork()
    if process == 0:
        _in_the_fork(case, folder, write_end)
    os.close(write_end)
    try:
        said = _heard(read_end, case.seconds)
    finally:
        os.close(read_end)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        shutil.rmtree(folder, ignore_errors=True)
    seconds = monotonic() - begun
    if said is None:
        return Seen(WRONG, f"no end within {case.seconds:g} s", seconds)
    if not said:
        return Seen(TRACEBACK, "the process ended before its end", seconds)
    outcome, message = json.loads(said)
    return Seen(outcome, message, seconds)


def _heard(read_end: int, seconds: float) -> bytes | None:
    """All that the fork sends; None where it has not ended in time."""
    end = monotonic() + seconds
    said = b""
    while True:
        left = end - monotonic()
        if left <= 0 or not select.select([read_end], [], [], left)[0]:
            return None
        part = os.read(read_end, 65536)
        if not part:
            return said
        said += part


def _in_the_fork(case: Case, folder: Path, write_end: int) -> None:
    try:
        os.setsid()
        # After a fork torch makes a new pool of threads at first use, and fails where two threads of a loader ask at
        # once.
        torch.set_num_threads(1)
        work = _settle_in(folder)
        outcome, message = judged(case)
        if _leaks(message) or _leaks_into_files(folder, work):
            outcome, message = WRONG, "a password or token is repeated"
        answer = json.dumps([outcome, message])
        os.write(write_end, answer.encode("ascii"))
    finally:
        os._exit(0)


def _settle_in(folder: Path) -> Path:
    """An empty working folder, the lab's folders beside it, nothing on the terminal, and no network."""
    work = folder / "work"
    work.mkdir()
    os.chdir(work)
    os.environ.update({"LAB_HOME": str(folder / "home"), "LAB_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"})
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    return work


def _leaks(text: str) -> bool:
    return SECRET in text


def _leaks_into_files(folder: Path, work: Path) -> bool:
    """What the case wrote (its output, the lab's folders) repeats a secret; its own inputs in `work` may hold one."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_relative_to(work):
            content = path.read_bytes()
            if SECRET.encode() in content:
                return True
    return False


def judged(case: Case) -> tuple[str, str]:
    """The outcome of a case in this process, held against what is right."""
    outcome, message = _outcome(case)
    if outcome in (TRACEBACK, WRONG, LOST):
        return outcome, message
    if outcome not in case.right:
        return WRONG, f"{outcome} instead of {' or '.join(case.right)}: {message}"
    if outcome == LINE and not re.search(case.says, message):
        return WRONG, f"the line does not say {case.says!r}: {message}"
    return outcome, message


def _outcome(case: Case) -> tuple[str, str]:
    try:
        case.act()
    except Wrong as error:
        return WRONG, str(error)
    except Lost as error:
        return LOST, str(error)
    except Refused as error:
        return _line_of_stderr(str(error), LINE)
    except StoppedByHand as error:
        return _line_of_stderr(str(error), STOPPED)
    except Interrupted as error:
        return STOPPED, str(error)
    except LabError as error:
        return _line_of_error(error)
    except BaseException as error:
        return TRACEBACK, _words(error)
    return RESULT, ""


def _line_of_error(error: LabError) -> tuple[str, str]:
    text = str(error)
    if not text.isprintable() or len(text) > LONGEST_LINE:
        return WRONG, f"no clear line: {text[:300]!a}"
    if not error.action:
        return WRONG, f"no next action: {text}"
    return LINE, text


def _line_of_stderr(text: str, outcome: str) -> tuple[str, str]:
    """One line that begins with "labkit:"; bars of progress above it do not count."""
    lines = []
    for line in text.split("\n"):
        last = line.split("\r")[-1]
        if last.strip() and not PROGRESS.search(last):
            lines.append(last)
    if "Traceback" in text:
        return TRACEBACK, text[-300:]
    if len(lines) != 1 or not lines[0].startswith("labkit: ") or not lines[0].isprintable():
        return WRONG, f"{len(lines)} lines instead of one clear one: {text[-400:]!a}"
    if len(lines[0]) > LONGEST_LINE:
        return WRONG, f"a line of {len(lines[0])} characters"
    return outcome, lines[0].removeprefix("labkit: ")


def _words(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).strip().split("\n")[0][:150]
    return ascii(f"{type(error).__name__}: {text} ({Path(last.filename).name}:{last.lineno})")


# --- what cases are made of -------------------------------------------------------------------------------------------


def command(*words: object) -> str:
    """Run the command line in this process. Returns what it printed.

    Raises:
        Refused: exit code 2.
        StoppedByHand: exit code 130.
        Wrong: another exit code than 0, or 1 of the doctor's.
    """
    from labkit.cli import main

    said = io.StringIO()
    printed = io.StringIO()
    argv = [str(word) for word in words]
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
        try:
            code = main(argv)
        except SystemExit as leaving:
            code = leaving.code
    os.write(1, (printed.getvalue() + said.getvalue()).encode("utf-8", "replace"))  # searched for secrets
    if code == 2:
        raise Refused(said.getvalue())
    if code == 130:
        raise StoppedByHand(said.getvalue())
    if code not in (0, None) and not (code == 1 and argv[0] == "doctor"):
        raise Wrong(f"exit code {code}: {said.getvalue()[-300:]}")
    if "Traceback" in said.getvalue():
        raise Wrong(f"a traceback on stderr: {said.getvalue()[-300:]}")
    return printed.getvalue()


@contextlib.contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Everything in a folder is afterwards what it was before; new files may come, and labkit's list may grow.

    Raises:
        Lost: it is not.
    """
    before = _contents(folder)
    try:
        yield
    finally:
        after = _contents(folder)
        for name, content in before.items():
            if after.get(name) != content and not name.endswith(LIST):
                raise Lost(f"{name} is gone or changed")


def _contents(folder: Path) -> dict[str, bytes | str]:
    contents: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            contents[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            contents[name] = path.read_bytes()
        else:
            contents[name] = "folder"
    return contents


def written(path: Path | str, content: str | bytes) -> Path:
    """A new file with this content, in folders that may be new."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    path.write_bytes(content)
    return path


def expect(is_right: bool, message: str) -> None:
    """Raises Wrong with the message where something is not right."""
    if not is_right:
        raise Wrong(message)


def seconds_of_cpu() -> float:
    """CPU seconds of this process so far."""
    times = os.times()
    return times.user + times.system


def import_all() -> None:
    """What cases need is imported once, before the forks."""
    import peft  # noqa: F401
    import sklearn.cluster  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import labkit.cli
    import labkit.course.datacard
    import labkit.course.preflight
    import labkit.course.standins.pretrain
    import labkit.notebook.plots  # noqa: F401

    torch.set_num_threads(1)  # a fork has none of its parent's threads
    sys.setrecursionlimit(1000)
