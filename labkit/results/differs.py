"""What tells rows apart: the settings that are not the same in all of them, in a few words."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from labkit.results.row import Row, is_tuned

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
    tuned = [is_tuned(row) for row in rows]
    adapters = [_adapter(row) for row in rows]
    have_several = len(set(filter(None, adapters))) > 1
    result = []
    for values, learnt, adapter in zip(told, tuned, adapters, strict=True):
        words = []
        names_adapter = have_several and adapter
        if learnt and not names_adapter and not all(tuned):
            words.append("tuned")
        for name in names:
            if name in values and str(values[name]) != most_have.get(name):
                words.append(f"{name}={values[name]}")
        if names_adapter:
            words.append(adapter)
        line = ", ".join(words)
        result.append(line)
    return result


def _adapter(row: Row) -> str:
    """The adapter of a row in words; "" where there is none."""
    if row.get("adapter"):
        folder = PurePath(row["adapter"])
        return f"adapter {folder.name}"
    if row.get("merged"):
        return f"merged adapter {row['merged']}"
    return ""


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
