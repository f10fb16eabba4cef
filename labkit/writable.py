"""What may be written where: one rule for every writer, asked before any work begins.

- A file that the user names is replaced, whole or not at all. A file of another kind (`--out thesis.tex`) is not.
- A folder that the user names is replaced only if labkit wrote everything in it. `storage.atomic_folder` leaves a list
  of its files with their SHA-256 in the folder (`.labkit.json`); what is not on the list, or was changed since, is
  foreign.
- A symbolic link stays, and what it points to is written, on the disk where that is.
- A device or a pipe (/dev/null, /dev/stdout) is written into, and never replaced.
"""

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

from labkit.errors import LabError

LIST = ".labkit.json"  # in a folder: the files that labkit wrote there
NOBODYS = (LIST, ".lock", ".DS_Store", "Thumbs.db", "desktop.ini")  # locks, and what file managers leave everywhere
LONGEST_NAME = 255  # bytes, on every common file system
LONGEST_SHOWN = 300  # letters of a path that an error repeats


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
    listed = listed_files(folder)
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
            if name not in NOBODYS and relative not in known and not is_as_listed(folder, relative, listed):
                yield relative


def is_stream(path: Path) -> bool:
    """Whether `path` is a device, a pipe, or what this process has open (/dev/stdout): nothing that can be replaced."""
    status = _status(path)
    if status is None or stat.S_ISDIR(status.st_mode):
        return False
    is_open_here = str(path) in ("/dev/stdout", "/dev/stderr") or os.path.realpath(path.parent).startswith("/proc/")
    return is_open_here or not stat.S_ISREG(status.st_mode)


def _refusal(path: Path, found: str, action: str) -> LabError:
    name = str(path)
    if len(name) > LONGEST_SHOWN:
        name = f"{name[:LONGEST_SHOWN]}…"
    return LabError(f"cannot write {name}", found, action)


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


def listed_files(folder: Path) -> dict[str, str] | None:
    """{name: SHA-256, or "" where any content will do} of what labkit wrote into a folder; None without a list."""
    try:
        files = json.loads((folder / LIST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return files if isinstance(files, dict) else None


def is_as_listed(folder: Path, name: str, listed: dict[str, str]) -> bool:
    """Whether a file of a folder has the content that the folder's list says."""
    path = folder / name
    if name not in listed or path.is_symlink() or not path.is_file():
        return False
    return listed[name] == "" or listed[name] == sha256(path)


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
