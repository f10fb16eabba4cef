"""What tells rows apart: the settings that are not the same in all of them, in a few words."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from labkit.results.row import Row

PLAIN = ("bits", "dialogues", "dialogue_ids", "device", "seed")  # fields of a row that are settings
TOLD_ELSEWHERE = {"decoding": ("seed",), "training": ("model", "bits"), "prompt": ()}  # in another field of the row
Told = dict[str, object]  # {setting: value}


def settings(row: Row) -> Told:
    """All settings of a row, one level deep; a training setting that decoding has, too, is called "training …"."""
    told: Told = {}
    for name in PLAIN:
        value = row.get(name)
        if value is not None:
            told[name] = value
    for part, left_out in TOLD_ELSEWHERE.items():
        chosen = row.get(part) or {}
        for name, value in chosen.items():
            if name in left_out:
                continue
            if name in told:
                name = f"{part} {name}"
            told[name] = value
    return told


def differing(rows: Sequence[Row]) -> list[str]:
    """For each row, the settings that tell it from the others: `tuned, bits=4, top_p=0.9`.

    A value that most rows have is not repeated in each of them; see `usual`.
    """
    told = [settings(row) for row in rows]
    names = _varying(told)
    most_have = _usual(told, names)
    tuned = [bool(row.get("adapter")) for row in rows]
    adapters = {row["adapter"] for row in rows if row.get("adapter")}
    have_several = len(adapters) > 1
    result = []
    for row, values, is_tuned in zip(rows, told, tuned, strict=True):
        words = []
        if is_tuned and not have_several and not all(tuned):
            words.append("tuned")
        for name in names:
            if name in values and str(values[name]) != most_have.get(name):
                words.append(f"{name}={values[name]}")
        if is_tuned and have_several:
            folder = PurePath(row["adapter"])
            words.append(f"adapter {folder.name}")
        line = ", ".join(words)
        result.append(line)
    return result


def usual(rows: Sequence[Row]) -> dict[str, str]:
    """Of the settings in which the rows differ, the values that most have: what a row has where nothing is said."""
    told = [settings(row) for row in rows]
    return _usual(told, _varying(told))


def _usual(told: Sequence[Told], names: Sequence[str]) -> dict[str, str]:
    """The value of a setting that more than half of the rows with that setting have, as text."""
    result = {}
    for name in names:
        values = [str(setting[name]) for setting in told if name in setting]
        value, count = Counter(values).most_common(1)[0]
        if 2 * count > len(values):
            result[name] = value
    return result


def _varying(told: Sequence[Told]) -> list[str]:
    """Names of settings that have several values; rows without a setting do not count as another value."""
    values: dict[str, set[str]] = {}
    for setting in told:
        for name, value in setting.items():
            values.setdefault(name, set()).add(str(value))
    names = [name for name, seen in values.items() if len(seen) > 1]
    if "dialogues" in names and "dialogue_ids" in names:
        names.remove("dialogue_ids")  # of another number of dialogues, which is told already
    return names


def common(rows: Sequence[Row], names: Sequence[str]) -> dict[str, object]:
    """Those of the fields that have one value in all rows."""
    result = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if not values or values[0] is None:
            continue
        first = values[0]
        if all(value == first for value in values):
            result[name] = first
    return result
