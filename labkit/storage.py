"""Files and folders that are whole or not there, whatever happens; what may be written at all, writable.py says.

What is published was made beside its target, forced to the disk (fsync), and then renamed. A killed run leaves
`.NAME.<hex>` behind; the next writer of the same target removes it.
"""

import errno
import gc
import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import tomllib
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from labkit.errors import LabError
from labkit.writable import (
    LIST,
    foreign_files,
    is_as_listed,
    is_stream,
    listed_files,
    sha256,
    writable_file,
    writable_folder,
)

__all__ = [
    "LIST",
    "alone_in",
    "atomic_folder",
    "atomic_path",
    "claim",
    "foreign_files",
    "gc_paused",
    "last_checkpoint",
    "listed_files",
    "read_json",
    "read_record",
    "remove_leftovers",
    "seal",
    "sha256",
    "shipped",
    "writable_file",
    "writable_folder",
    "write_json",
    "write_record",
    "write_text",
]

Json = dict[str, Any]  # an object of a JSON file: whatever it holds
A_DAY = 24 * 60 * 60  # seconds


def shipped(module: str, name: str) -> Any:  # whatever the file holds
    """The TOML or JSON file that ships beside a module (its `__file__`)."""
    path = Path(module).with_name(name)
    if path.suffix == ".json":
        return read_json(path)
    return tomllib.loads(path.read_text(encoding="utf-8"))


# --- whole or not at all ----------------------------------------------------------------------------------------------


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yield a path to write a file at; on a clean exit it becomes `target`, on an error it is removed.

    A new file has the permissions of the umask, a replaced one keeps those it had.

    Raises:
        LabError: see `writable_file`; or the disk is full. The old file is left as it was.
    """
    target = writable_file(target)
    try:
        with _into_stream(target) if is_stream(target) else _beside(target) as partial:
            yield partial
    except OSError as error:
        action = "free space or choose another folder (LAB_HOME)"
        raise LabError(f"cannot write {target}", str(error), action) from error


@contextmanager
def _into_stream(target: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / "output"
        yield partial
        sys.stdout.flush()  # where `target` is the same file, what was printed comes first
        with partial.open("rb") as source, target.open("ab") as stream:
            shutil.copyfileobj(source, stream)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    partial = _partial(target)
    try:
        yield partial
        if target.exists():
            shutil.copymode(target, partial)
        _flush(partial)
        os.replace(partial, target)
        _flush_folder(target.parent)
    finally:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def atomic_folder(target: Path | str, *, known: Collection[str] = ()) -> Iterator[Path]:
    """Yield an empty folder to write into; on a clean exit it becomes `target`, on an error it is removed.

    The list of its files goes with it, so that the same call may replace it later. Permissions follow the umask.

    Args:
        known: as for `writable_folder`; these names are deleted with the old folder.

    Raises:
        LabError: see `writable_folder`; or the disk is full. What was there is left as it was.
    """
    target = Path(target)
    remove_leftovers(target)
    target = writable_folder(target, known=known)
    partial = _partial(target)
    try:
        partial.mkdir(parents=True)
        yield partial
        seal(partial)
        _exchange(partial, target, known)
    except OSError as error:
        action = "free space or choose another folder (LAB_HOME)"
        raise LabError(f"cannot write {target}", str(error), action) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def seal(folder: Path) -> None:
    """Write the list of a folder's files; give them the permissions of the umask, and force them to the disk."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LIST)
    hashes = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    written = folder / LIST
    written.write_text(json.dumps({"files": hashes}, indent=1) + "\n", encoding="utf-8", newline="\n")
    permissions = written.stat().st_mode  # safetensors makes files that only their owner may read
    for path in [*files, written]:
        path.chmod(permissions)
        _flush(path)
    for place, _, _ in os.walk(folder):
        _flush_folder(Path(place))


def _exchange(new: Path, target: Path, known: Collection[str]) -> None:
    """Put `new` in the place of `target`; the old folder comes back if anything fails, or is foreign by now."""
    old = new.with_name(f"{new.name}.old")
    if target.exists():
        os.replace(target, old)
    try:
        if names := list(islice(foreign_files(old, known), 3)):
            raise LabError(f"{target} changed in the meantime", ", ".join(names), "name a new or an empty folder")
        os.replace(new, target)
        _flush_folder(target.parent)
    except BaseException:
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _partial(target: Path) -> Path:
    """A new name beside `target`, which says who writes there: `.NAME.<machine, process and a random number in hex>`.

    Not tempfile's: the mode of its files shuts others out.
    """
    return target.with_name(f".{_stem(target)}.{_machine():08x}{os.getpid():08x}{uuid4().hex[:8]}")


def _stem(target: Path) -> str:
    name = target.name
    return name if len(os.fsencode(name)) < 200 else hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _machine() -> int:
    """A number for this machine and, in a container, its own count of processes."""
    where = platform.node()
    with suppress(OSError):
        where += os.readlink("/proc/self/ns/pid")
    return zlib.crc32(where.encode())


def remove_leftovers(target: Path | str) -> None:
    """Remove what killed runs left beside `target`; a folder that one had moved away and not replaced comes back."""
    try:
        target = Path(os.path.realpath(target))
    except ValueError:  # a NUL, or half a character: nothing was ever written there
        return
    pattern = re.compile(rf"\.{re.escape(_stem(target))}\.([0-9a-f]{{8}})([0-9a-f]{{8}})[0-9a-f]{{8}}(\.old)?")
    with suppress(OSError):
        for name in sorted(os.listdir(target.parent)):
            found = pattern.fullmatch(name)
            left = target.parent / name
            if found is None or _is_at_work(int(found[1], 16), int(found[2], 16), left):
                continue
            if found[3] and not target.exists():
                os.replace(left, target)
            elif left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _is_at_work(machine: int, process: int, left: Path) -> bool:
    """Whether the writer of `left` may still be running; one of another machine is given a day."""
    import psutil

    if machine == _machine():
        return psutil.pid_exists(process)
    return time.time() - left.lstat().st_mtime < A_DAY


def _flush(path: Path) -> None:
    """Force a file to the disk: without it, a power cut after the rename leaves an empty file under the new name."""
    with path.open("r+b") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without it
                raise


def _flush_folder(folder: Path) -> None:
    """Force the names in a folder to the disk, where the system can (Windows cannot)."""
    if os.name == "nt":
        return
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def claim(folder: Path, names: Iterable[str]) -> None:
    """List names as labkit's before they are written into a folder one after the other, so that a killed run of the
    same command can be repeated. `writable_folder(folder, writes=names)` comes first."""
    listed = listed_files(folder) or {}
    write_json(folder / LIST, {"files": {**listed, **dict.fromkeys(names, "")}})


def write_text(target: Path | str, text: str) -> Path:
    """Write `text` as UTF-8 with "\\n" at the end of lines, whole or not at all.

    Raises:
        LabError: see `atomic_path`; or the text has half a character, which UTF-8 cannot say.
    """
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LabError(f"cannot write {target}", str(error), "take half a character out of the text") from error
    with atomic_path(target) as partial:
        partial.write_bytes(data)
    return Path(target)


def write_json(target: Path | str, value: object, indent: int | None = 1) -> Path:  # whatever JSON can say
    """Write `value` as JSON, whole or not at all. Half a character is written as an escape."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if not is_unicode(text):
        text = json.dumps(value, ensure_ascii=True, indent=indent)
    return write_text(target, text + "\n")


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can say a text: not where it holds half a character."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# --- checkpoints ------------------------------------------------------------------------------------------------------


def last_checkpoint(folder: Path) -> str | None:
    """The newest of Trainer's checkpoints in a folder that is whole; None if there is none.

    Trainer writes trainer_state.json last. A sealed checkpoint (`seal`) is whole if every file is as it was written.
    """
    numbers = {}
    for path in folder.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if number.isdecimal():
            numbers[path] = int(number)
    for checkpoint in sorted(numbers, key=numbers.__getitem__, reverse=True):
        if _is_whole(checkpoint):
            return str(checkpoint)
    return None


def _is_whole(checkpoint: Path) -> bool:
    try:
        read_json(checkpoint / "trainer_state.json")
    except LabError:
        return False
    listed = listed_files(checkpoint) or {}
    return all(is_as_listed(checkpoint, name, listed) for name in listed)


# --- two files that belong together -----------------------------------------------------------------------------------


def write_record(target: Path | str, record: Json, *, about: Path | str) -> Path:  # a record is free JSON
    """Write what made the file `about`, after it and with its SHA-256: a kill between the two cannot mix them up."""
    return write_json(target, {**record, "sha256": sha256(about)})


def read_record(target: Path | str, *, about: Path | str) -> Json:  # a record is free JSON
    """What made the file `about`; empty where nothing is known, or where the record is of another file.

    A record without a SHA-256 (an earlier version's) is taken as it is.

    Raises:
        LabError: the record cannot be read, or is no JSON object.
    """
    target = Path(target)
    if not target.is_file():
        return {}
    record = read_json(target)
    if not isinstance(record, dict):
        raise LabError(f"{target} is no record of a run", f"a JSON {type(record).__name__}", "delete it")
    said = record.pop("sha256", None)
    return record if said is None or said == sha256(about) else {}


# --- one at a time, and reading ---------------------------------------------------------------------------------------


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold `folder`: another process that wants it waits, and says so. Of processes launched together, the first holds.

    Raises:
        LabError: the folder cannot be written.
    """
    if int(os.environ.get("RANK", "0")):
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"another process works in {folder}: waiting until it is done")
            lock.acquire()
    except OSError as error:
        raise LabError(f"cannot write {folder}", str(error), "choose another folder") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def gc_paused() -> Iterator[None]:
    """Garbage collection off: its passes over millions of new objects take up to three quarters of the reading time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_json(path: Path | str, **options: object) -> Any:  # options of json.load; whatever the file holds
    """Read a JSON file, gzipped when its name ends in `.gz`; `options` are those of `json.load`.

    Raises:
        LabError: no such file, or it is not JSON (the line is named).
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            return json.load(file, **options)
    except FileNotFoundError as error:
        raise LabError(f"no file {path}", "", "check the path") from error
    except (ValueError, EOFError, OSError, RecursionError, zlib.error) as error:
        raise LabError(f"{path} is not readable JSON", str(error), "fetch or write the file again") from error
