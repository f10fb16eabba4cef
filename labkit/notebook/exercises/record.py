"""A student's progress on disk: {exercise id: {"outcome", "tries", "hints", "solution"}}.

Answers, notes on open questions and guesses stand in the same file, under ids of their own:
{"answer 1.3": {"answer"}, "4.a": {"note"}, "1.floor": {"guess"}}.

Several notebooks write the file at once, so every change is made under a lock. A file that cannot be read, or an entry
that makes no sense, is never written over: the file is first set aside under another name.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from labkit.errors import LabError
from labkit.machine.paths import lab_home
from labkit.storage import read_json, write_json

Entry = dict[str, object]  # JSON: what this version knows, and what another one may have added
PROGRESS = "progress.json"
_BLANK = "not attempted"
_PATIENCE = 10.0  # seconds to wait for another notebook that writes


def answer_id(id: str) -> str:
    """Where the answer to an exercise is kept."""
    return f"answer {id}"


def recorded(path: Path | None = None) -> dict[str, Entry]:
    """What is recorded of each exercise; empty where nothing was done. What makes no sense is left out.

    Args:
        path: another student's file; by default that of the lab's output folder.

    Raises:
        LabError: the file must not be read.
    """
    return _read(path or _file())[0]


def note(id: str, **news: object) -> None:
    """Add to what is recorded for an exercise. A damaged file is set aside first, with one line that says so.

    Raises:
        LabError: the file cannot be read or written.
    """
    with _alone():
        entries, whole = _read(_file())
        if not whole:
            _set_aside(_file())
        entries[id] = _changed(entries.get(id, {}), news)
        write_json(_file(), entries)


def _changed(entry: Entry, news: Entry) -> Entry:
    changed = dict(entry)
    tries = entry.get("tries", 0)
    if news.get("outcome", _BLANK) != _BLANK:
        tries = tries + 1  # type: ignore[operator]
    changed.update(news)
    changed["tries"] = tries
    was_right = entry.get("outcome") == "right"
    if was_right and changed["outcome"] != "right":
        changed["outcome"] = "right"  # once right stays right, and so does the answer
        if "answer" in entry:
            changed["answer"] = entry["answer"]
    return changed


def _file() -> Path:
    return lab_home() / PROGRESS


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the file against other notebooks."""
    from filelock import FileLock, Timeout

    lock = FileLock(lab_home() / f"{PROGRESS}.lock", timeout=_PATIENCE)
    try:
        lab_home().mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        action = "end what holds it, and run the cell again"
        raise LabError(f"{lock.lock_file} is held by another process", "", action) from None
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        raise LabError(f"cannot write {_file()}", str(error), "choose another folder (LAB_HOME)") from error
    try:
        yield
    finally:
        lock.release()


def _read(path: Path) -> tuple[dict[str, Entry], bool]:
    """The entries that make sense, and whether those are all that the file holds.

    Raises:
        LabError: the file is there and must not be read.
    """
    if not os.path.lexists(path):
        return {}, True
    if not os.access(path, os.R_OK) and path.exists():
        raise LabError(f"{path} must not be read", "", "give yourself the right to read it")
    try:
        content = read_json(path)
    except LabError:
        return {}, False
    if not isinstance(content, dict):
        return {}, False
    entries = {id: entry for id, entry in content.items() if _makes_sense(id, entry)}
    return entries, len(entries) == len(content)


def _makes_sense(id: str, entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    if not _is_count(entry.get("tries", 0)) or not _is_count(entry.get("hints", 0)):
        return False
    try:
        json.dumps([id, entry], ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # NaN, or half an emoji
        return False
    return isinstance(entry.get("outcome", _BLANK), str)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1_000_000


def _set_aside(path: Path) -> None:
    """Keep a damaged file under another name, beside it."""
    now = time.strftime("%Y%m%d-%H%M%S")
    unique = uuid4().hex[:4]
    kept = path.with_name(f"{path.stem}.damaged-{now}-{unique}{path.suffix}")
    try:
        if path.is_file():
            shutil.copy2(path, kept)  # a copy: a kill before the new file is written loses nothing
        else:
            path.rename(kept)  # a folder, or a link to nowhere
    except OSError as error:
        raise LabError(f"cannot set the damaged {path} aside", str(error), "move it away yourself") from error
    print(f"{path.name} was damaged in part or whole: it is kept as {kept}, and what could be read goes on.")
