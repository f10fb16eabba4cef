"""What may be written where, and files that are never half-written.

Every writer follows one rule. `writable_file` and `writable_folder` state it, and are called before any work begins:

- A file that the user names is replaced, whole or not at all. A file of another kind (`--out thesis.tex`) is not.
- A folder that the user names is replaced only if labkit wrote everything in it. `atomic_folder` leaves a list of its
  files with their SHA-256 in the folder (`.labkit.json`); what is not on the list, or was changed since, is foreign.
- A symbolic link stays, and what it points to is written, on the disk where that is.
- A device or a pipe (/dev/null, /dev/stdout) is written into, and never replaced.

What is published was made beside its target, forced to the disk (fsync), and then renamed. A killed run leaves
`.NAME.<hex>` behind; the next writer of the same target removes it.
"""

import errno
import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import stat
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

LIST = ".labkit.json"  # in a folder: the files that labkit wrote there
NOBODYS = (LIST, ".lock", ".DS_Store", "Thumbs.db", "desktop.ini")  # locks, and what file managers leave everywhere
LONGEST_NAME = 255  # bytes, on every common file system
A_DAY = 24 * 60 * 60  # seconds


def shipped(module: str, name: str) -> Any:  # whatever the file holds
    """The TOML or JSON file that ships beside a module (its `__file__`)."""
    path = Path(module).with_name(name)
    if path.suffix == ".json":
        return read_json(path)
    return tomllib.loads(path.read_text(encoding="utf-8"))


# --- what may be written ----------------------------------------------------------------------------------------------


def writable_file(path: Path | str, *, kinds: Collection[str] = ()) -> Path:
    """The file that `path` leads to, if it may be written; nothing is changed.

    Args:
        kinds: the suffixes of what the caller writes (".json"). A file with another suffix that is there already, and
            not empty, was not written by labkit. A new file may have any name.

    Returns:
        The target of a symbolic link; for a device or a pipe, `path` itself.

    Raises:
        LabError: a folder, a disk, a file of another kind, a name that cannot be, or a place where nothing can be made.
    """
    path = Path(path)
    status = _status(path)
    if status and stat.S_ISDIR(status.st_mode):
        raise _refusal(path, "it is a folder", "name a file")
    if status and (stat.S_ISBLK(status.st_mode) or stat.S_ISSOCK(status.st_mode)):
        raise _refusal(path, "it is a disk or a socket", "name a file")
    if is_stream(path):
        return path
    target = Path(os.path.realpath(path))
    if status and kinds and status.st_size and target.suffix and target.suffix not in kinds:
        found = f"it is there already, and no {' or '.join(kinds)} file that labkit wrote"
        raise _refusal(path, found, "choose another name")
    if status and not os.access(target, os.W_OK):
        raise _refusal(path, "it is write-protected", "choose another name")
    _try_to_make(target, path)
    return target


def writable_folder(path: Path | str, *, writes: Iterable[str] | None = None, known: Collection[str] = ()) -> Path:
    """The folder that `path` leads to, if it may be written; nothing is changed.

    Args:
        writes: the names that the caller puts into the folder, beside whatever else is there; only these must not be
            somebody else's. None: the folder is replaced as a whole, so everything in it must be labkit's.
        known: names in the folder that the caller knows as its own although they are on no list: those that an earlier
            version wrote, or checkpoints.

    Raises:
        LabError: a file or device, the working folder or one above it, a mounted disk that would have to be replaced,
            foreign files, a name that cannot be, or a place where nothing can be made.
    """
    path = Path(path)
    status = _status(path)
    target = Path(os.path.realpath(path))
    if status and not stat.S_ISDIR(status.st_mode):
        raise _refusal(path, "it is a file, not a folder", "name a new or an empty folder")
    if _is_around_here(target):
        raise _refusal(path, "it is, or holds, the folder you work in", "name a new or an empty folder")
    if writes is None and os.path.ismount(target):
        raise _refusal(path, "a disk is mounted there", "name a folder in it")
    found = foreign_files(target, known)
    if writes is not None:
        written = set(writes)
        found = (name for name in found if name.split("/")[0] in written)
    if names := list(islice(found, 3)):
        raise LabError(
            f"{path} holds what labkit did not write, or what was changed since",
            ", ".join(names),
            "name a new or an empty folder",
        )
    inside = target / LIST if writes is not None else target
    _try_to_make(inside, path)
    return target


def foreign_files(folder: Path, known: Collection[str] = ()) -> Iterator[str]:
    """Names of what is in a folder and was not written by labkit, relative to it; a folder's name ends in "/"."""
    listed = _listed(folder)
    if listed is None and (folder / LIST).exists():
        yield LIST
    listed = listed or {}
    ours = {str(parent) for name in listed for parent in Path(name).parents}
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        for name in sorted(folders):
            relative = inside / name
            if relative.as_posix() in known:
                folders.remove(name)  # not looked into
            elif str(relative) not in ours or (folder / relative).is_symlink():
                folders.remove(name)
                yield f"{relative.as_posix()}/"
        for name in sorted(files):
            relative = (inside / name).as_posix()
            if name not in NOBODYS and relative not in known and not _is_as_listed(folder, relative, listed):
                yield relative


def claim(folder: Path, names: Iterable[str]) -> None:
    """List names as labkit's before they are written into a folder one after the other, so that a killed run of the
    same command can be repeated. `writable_folder(folder, writes=names)` comes first."""
    listed = _listed(folder) or {}
    write_json(folder / LIST, {"files": {**listed, **dict.fromkeys(names, "")}})


def is_stream(path: Path) -> bool:
    """Whether `path` is a device, a pipe, or what this process has open (/dev/stdout): nothing that can be replaced."""
    status = _status(path)
    if status is None or stat.S_ISDIR(status.st_mode):
        return False
    is_open_here = str(path) in ("/dev/stdout", "/dev/stderr") or os.path.realpath(path.parent).startswith("/proc/")
    return is_open_here or not stat.S_ISREG(status.st_mode)


def _refusal(path: Path, found: str, action: str) -> LabError:
    return LabError(f"cannot write {path}", found, action)


def _status(path: Path) -> os.stat_result | None:
    """What is at `path`, links followed; None where nothing is yet."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:  # a name too long, links in a circle, a file where a folder should be, no permission
        raise _refusal(path, error.strerror or str(error), "choose another name") from error
    except ValueError as error:  # a NUL, or half a character
        raise _refusal(Path(ascii(str(path))), str(error), "choose another name") from error


def _is_around_here(folder: Path) -> bool:
    try:
        here = Path.cwd().resolve()
    except OSError:  # it was deleted
        return False
    return folder == here or folder in here.parents


def _try_to_make(target: Path, named: Path) -> None:
    """Make a nameless file where `target` would begin: permissions, read-only disks and quotas answer only then.

    `named` is what the user calls it.
    """
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in target.parts):
        raise _refusal(named, "File name too long", "choose another name")
    place = target.parent
    while not os.path.lexists(place):
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise _refusal(named, f"{place}: {error.strerror or error}", "choose another folder") from error


def _listed(folder: Path) -> dict[str, str] | None:
    """{name: SHA-256, or "" where any content will do} of what labkit wrote into a folder; None without a list."""
    try:
        files = json.loads((folder / LIST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return files if isinstance(files, dict) else None


def _is_as_listed(folder: Path, name: str, listed: dict[str, str]) -> bool:
    path = folder / name
    if name not in listed or path.is_symlink() or not path.is_file():
        return False
    return listed[name] == "" or listed[name] == sha256(path)


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
        _list_files(partial)
        _exchange(partial, target, known)
    except OSError as error:
        action = "free space or choose another folder (LAB_HOME)"
        raise LabError(f"cannot write {target}", str(error), action) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _list_files(folder: Path) -> None:
    """Write the list of a folder's files; give them the permissions of the umask, and force them to the disk."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
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
    target = Path(os.path.realpath(target))
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


def write_json(target: Path | str, value: Any, indent: int | None = 1) -> Path:  # whatever JSON can say
    """Write `value` as JSON, whole or not at all. Half a character is written as an escape."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if not _is_unicode(text):
        text = json.dumps(value, ensure_ascii=True, indent=indent)
    return write_text(target, text + "\n")


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# --- two files that belong together -----------------------------------------------------------------------------------


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(target: Path | str, record: dict[str, Any], *, about: Path | str) -> Path:  # a record is free JSON
    """Write what made the file `about`, after it and with its SHA-256: a kill between the two cannot mix them up."""
    return write_json(target, {**record, "sha256": sha256(about)})


def read_record(target: Path | str, *, about: Path | str) -> dict[str, Any]:  # a record is free JSON
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


def read_json(path: Path | str, **options: Any) -> Any:  # options of json.load; whatever the file holds
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
