"""The file of the board: rows as lines of JSON, appended whole, and checked when they are read."""

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from labkit.errors import LabError
from labkit.metrics.checks import printable
from labkit.results.row import LARGEST, SCORES, Row, is_number
from labkit.storage import gc_paused

try:
    import orjson
except ImportError:  # the same rows, three times as slowly
    orjson = None

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

    Rows with the same decoding or training settings share the dict: see `with_own_settings`.

    Raises:
        LabError: the file cannot be read.
    """
    if not path.is_file():
        return []
    skipped = Skipped()
    try:
        with gc_paused(), path.open("rb") as file:
            rows = _checked(_lines(file), skipped)
    except OSError as error:
        raise LabError(f"cannot read {path}", str(error), "mend its permissions, or set LAB_HOME") from error
    _say(path, skipped)
    return rows


def checked_rows(lines: Iterable[bytes], path: Path) -> list[Row]:
    """The rows in lines of JSON; what is none, or of a wrong type in one, is left out, and said about `path`."""
    skipped = Skipped()
    rows = _checked(lines, skipped)
    _say(path, skipped)
    return rows


def with_own_settings(row: Row) -> Row:
    """The row with settings that no other row shares, so that they may be changed."""
    for name in SHARED:
        if isinstance(row.get(name), dict):
            row[name] = dict(row[name])
    return row


@dataclass
class Skipped:
    """What of a board was left out."""

    torn: int = 0  # lines
    strange: int = 0  # lines
    wrong: dict[str, int] = field(default_factory=dict)  # {field: rows}


def _lines(file: BinaryIO) -> Iterator[bytes]:
    for line in file:
        if b"\r" in line:  # an editor's line ends
            yield from line.replace(b"\r\n", b"\n").split(b"\r")
        else:
            yield line


def _checked(lines: Iterable[bytes], skipped: Skipped) -> list[Row]:
    rows = []
    known: Known = {name: {} for name in SHARED}
    to_check: dict[tuple[object, ...], list[str]] = {}
    for line in lines:
        try:
            row = _parsed(line, known)
        except (ValueError, RecursionError):
            skipped.torn += 1
            continue
        if row is BLANK:
            continue
        if not isinstance(row, dict):
            skipped.strange += 1
            continue
        shape = (*row, *map(type, row.values()))
        if shape not in to_check:
            to_check[shape] = _to_check(row)
        _leave_out_wrong(row, to_check[shape], skipped.wrong)
        rows.append(row)
    return rows


Known = dict[str, dict[bytes, object]]  # {field: {settings as text: settings}}
BLANK = object()  # what a line of spaces holds
ALL_DIGITS_0 = bytes.maketrans(b"123456789", b"0" * 9)
LONG = b"0" * 19  # digits: a whole number of 64 bits has at most 18 of any kind
SHARED = {name: f', "{name}": {{'.encode() for name in ("decoding", "training")}  # as these fields begin in a line
MOST_KNOWN = 5_000  # different settings of a field; with more there is little to share, and looking takes longer
PLACE = uuid4().hex  # stands in a line where settings were: no file can hold it by chance


def _parsed(line: bytes, known: Known) -> object:
    """What a line of JSON holds; `BLANK` of a line without any. Rows with the same settings share them.

    orjson reads 100,000 rows in a second, but refuses NaN, half emojis and deep nesting, and rounds whole numbers of
    more than 64 bits. Such lines are json's, and so is the last word on what is no JSON.

    Args:
        known: of this file, for each field that may be shared.

    Raises:
        ValueError, RecursionError: it is no JSON.
    """
    if orjson and LONG not in line.translate(ALL_DIGITS_0):
        try:
            return _with_shared(line, known)
        except ValueError:
            pass
    text = line.decode("utf-8", errors="replace")
    if not text.strip():
        return BLANK
    value = json.loads(text)
    if "\\ud" in text.lower():  # perhaps half an emoji, which neither pandas nor a file can hold
        return _with_whole_letters(value)
    return value


def _with_shared(line: bytes, known: Known) -> object:
    """The row of a line, whose settings are parsed once: they are half of its text, and most rows' are another row's.

    `, "training": {` is no part of a text, since a quotation mark in a text has a backslash before it. What begins
    there and is an object up to the first `}` is the field's value, and the field is the row's own if `PLACE` is in
    the row afterwards.

    Raises:
        ValueError: orjson cannot read it.
    """
    short = line
    found = {}
    for name, begin in SHARED.items():
        of_field = known[name]
        if len(of_field) > MOST_KNOWN:
            continue
        before, start, after = short.partition(begin)
        inside, end, rest = after.partition(b"}")
        if not end or b"[" in inside:  # a list could be changed by whoever has the row
            continue
        if inside not in of_field:
            try:
                of_field[inside] = orjson.loads(b"{" + inside + end)
            except ValueError:
                continue  # it holds other objects
        found[name] = of_field[inside]
        short = b"".join((before, start[:-1], b'"', PLACE.encode(), b'"', rest))
    row = orjson.loads(short)
    for name, settings in found.items():
        if not isinstance(row, dict) or row.get(name) != PLACE:
            return orjson.loads(line)
        row[name] = settings
    return row


def _with_whole_letters(value: object) -> object:
    """The same JSON with half emojis as escapes."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_with_whole_letters(item) for item in value]
    if isinstance(value, dict):
        return {printable(name): _with_whole_letters(item) for name, item in value.items()}
    return value


def _say(path: Path, skipped: Skipped) -> None:
    if skipped.torn:
        print(f"results board: {skipped.torn} unfinished line(s) of an interrupted run skipped in {path}")
    if skipped.strange:
        print(f"results board: {skipped.strange} line(s) that are no rows skipped in {path}")
    if skipped.wrong:
        names = ", ".join(f"{name} in {count} row(s)" for name, count in skipped.wrong.items())
        print(f"results board: values of a wrong type left out in {path}: {names}")


def _to_check(row: Row) -> list[str]:
    """The fields of a row whose types do not tell yet that they are right. Most rows share them with many others."""
    names = []
    for name in EXPECTED:
        value = row.get(name)
        if value is not None and type(value) is not PLAIN.get(name):
            names.append(name)
    return names


def _leave_out_wrong(row: Row, names: Iterable[str], wrong: dict[str, int]) -> None:
    """Take values of a wrong type out of a row, so that every view can rely on the types; count them by field."""
    for name in names:
        is_right = EXPECTED[name]
        if not is_right(row[name]):
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
    wrong = [number for number in value.values() if not is_number(number) and number is not None]
    return not wrong


def _are_intervals(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    for ends in value.values():
        if not isinstance(ends, list) or len(ends) != 2:
            return False
        low, high = ends
        are_plain = type(low) is float and type(high) is float  # asked first, since nearly all are
        if are_plain and abs(low) < LARGEST and abs(high) < LARGEST:  # NaN is not, either
            continue
        if not is_number(low) or not is_number(high):
            return False
    return True


EXPECTED: dict[str, Callable[[object], bool]] = {  # of the fields that views read; all others may hold anything
    **dict.fromkeys(("time", "task", "model", "adapter", "merged", "corpus", "split", "device", "failed"), _is_text),
    **dict.fromkeys(("bits", "parameters", "dialogues"), _is_count),
    **dict.fromkeys(("seed", "seconds", "perplexity", "memory", "flops", *SCORES), is_number),
    **dict.fromkeys(("decoding", "training", "prompt", "sweep", "versions", "per_domain"), _is_object),
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
