"""Files that are never half-written: write beside the target, then rename; read plain or gzipped JSON."""

import gzip
import json
import os
import shutil
import tomllib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from labkit.errors import LabError


def shipped(module: str, name: str) -> Any:
    """The TOML or JSON file that ships beside a module (its `__file__`)."""
    path = Path(module).with_name(name)
    return read_json(path) if path.suffix == ".json" else tomllib.loads(path.read_text(encoding="utf-8"))


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on a clean exit it replaces `target`, on an error it is removed.

    Raises:
        LabError: the disk is full or the folder cannot be written; the old file is left as it was.
    """
    target = Path(target)
    partial = target.with_name(f".{target.name}.{uuid4().hex[:8]}")  # not tempfile's: its mode shuts others out
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, target)
    except OSError as error:
        action = "free space or choose another folder (LAB_HOME)"
        raise LabError(f"cannot write {target}", str(error), action) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # where it was made a folder
        with suppress(OSError):
            partial.unlink()


def write_text(target: Path | str, text: str) -> Path:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(target) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(target)


def write_json(target: Path | str, value: Any, indent: int | None = 1) -> Path:
    """Write `value` as JSON, whole or not at all. Half emojis (lone surrogates), which UTF-8 has not, are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent) + "\n"
    return write_text(target, text.encode("utf-8", "backslashreplace").decode("utf-8"))


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


def read_json(path: Path | str, **options: Any) -> Any:
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
