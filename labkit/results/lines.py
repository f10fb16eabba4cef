"""The file of the board: rows as lines of JSON, appended whole, and checked when they are read."""

import errno
import gc
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from labkit.errors import LabError
from labkit.metrics.checks import printable
from labkit.results.row import SCORES, Row, is_number

# --- writing ----------------------------------------------------------------------------------------------------------


def as_line(row: Mapping[str, object]) -> bytes:
    """A row as a line of JSON; numbers of numpy become numbers, what JSON does not know its text.

    Raises:
        LabError: it cannot be written as JSON.
    """
    try:
        text = json.dumps(row, ensure_ascii=False, default=_plain)
        return f"{text}\n".encode()
    except UnicodeEncodeError:  # half an emoji
        return f"{json.dumps(row, default=_plain)}\n".encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise LabError("this is no row for the board", str(error), "give a dict of texts and numbers") from error


def _plain(value: object) -> object:
    if hasattr(value, "item"):
        return value.item()  # numpy's numbers are no JSON
    return str(value)


def append(file: BinaryIO, line: bytes) -> None:
    """Write and sync one line on a line of its own; on an error the file gets its old length back.

    Args:
        file: opened for appending, not buffered: what did not fit must not be written by close().
    """
    before = file.seek(0, os.SEEK_END)
    try:
        if before and _last_byte(Path(file.name)) != b"\n":  # a killed writer left half a line
            line = b"\n" + line
        written = file.write(line)
        if written < len(line):
            raise OSError(errno.ENOSPC, "No space left on device")
        os.fsync(file.fileno())
    except OSError:
        os.truncate(file.name, before)
        raise


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as reader:
        reader.seek(-1, os.SEEK_END)
        return reader.read(1)


# --- reading ----------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> list[Row]:
    """The rows of a board, oldest first. What is no row, or of a wrong type in one, is left out, and said.

    Raises:
        LabError: the file cannot be read.
    """
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LabError(f"cannot read {path}", str(error), "mend its permissions, or set LAB_HOME") from error
    with _gc_paused():
        return checked_rows(text.split("\n"), path)


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Without garbage collection: its passes over many new objects take longer than the reading."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def checked_rows(lines: Iterable[str], path: Path) -> list[Row]:
    """The rows in lines of JSON; what is none, or of a wrong type in one, is left out, and said about `path`."""
    rows = []
    torn = 0
    strange = 0
    wrong: dict[str, int] = {}
    for line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            torn += 1
            continue
        if not isinstance(row, dict):
            strange += 1
            continue
        if "\\ud" in line.lower():  # perhaps half an emoji, which neither pandas nor a file can hold
            row = _with_whole_letters(row)
        _leave_out_wrong(row, wrong)
        rows.append(row)
    _say(path, torn, strange, wrong)
    return rows


def _with_whole_letters(value: object) -> object:
    """The same JSON with half emojis as escapes."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_with_whole_letters(item) for item in value]
    if isinstance(value, dict):
        return {printable(name): _with_whole_letters(item) for name, item in value.items()}
    return value


def _say(path: Path, torn: int, strange: int, wrong: dict[str, int]) -> None:
    if torn:
        print(f"results board: {torn} unfinished line(s) of an interrupted run skipped in {path}")
    if strange:
        print(f"results board: {strange} line(s) that are no rows skipped in {path}")
    if wrong:
        names = ", ".join(f"{name} in {count} row(s)" for name, count in wrong.items())
        print(f"results board: values of a wrong type left out in {path}: {names}")


def _leave_out_wrong(row: Row, wrong: dict[str, int]) -> None:
    """Take values of a wrong type out of a row, so that every view can rely on the types; count them by field."""
    for name, is_right in EXPECTED.items():
        value = row.get(name)
        if value is None or type(value) is PLAIN.get(name):
            continue
        if not is_right(value):
            row[name] = None
            wrong[name] = wrong.get(name, 0) + 1


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1e300


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _are_numbers(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    return all(number is None or is_number(number) for number in value.values())


def _are_intervals(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    return all(_is_interval(ends) for ends in value.values())


def _is_interval(ends: object) -> bool:
    return isinstance(ends, list) and len(ends) == 2 and all(is_number(end) for end in ends)


EXPECTED: dict[str, Callable[[object], bool]] = {  # of the fields that views read; all others may hold anything
    **dict.fromkeys(("time", "task", "model", "adapter", "corpus", "split", "device", "failed"), _is_text),
    **dict.fromkeys(("bits", "parameters", "dialogues"), _is_count),
    **dict.fromkeys(("seed", "seconds", "perplexity", "memory", "flops", *SCORES), is_number),
    **dict.fromkeys(("decoding", "training", "sweep", "versions", "per_domain"), _is_object),
    **dict.fromkeys(("richness", "dst", "spans", "speed"), _are_numbers),
    "dialogue_ids": _is_text,
    "stand_in": _is_flag,
    "notes": _is_list,
    "intervals": _are_intervals,
}
# fields of which every value of one type is right: no need to look at it
PLAIN = {
    **{name: str for name, is_right in EXPECTED.items() if is_right is _is_text},
    **{name: dict for name, is_right in EXPECTED.items() if is_right is _is_object},
    "stand_in": bool,
    "notes": list,
}
