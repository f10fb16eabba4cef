"""What tells rows apart: the settings that are not the same in all of them, in a few words."""

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
    """For each row, its values of the settings in which the rows differ: `tuned, bits=4, top_p=0.9`."""
    told = [settings(row) for row in rows]
    names = _varying(told)
    tuned = [bool(row.get("adapter")) for row in rows]
    adapters = {row["adapter"] for row in rows if row.get("adapter")}
    have_several = len(adapters) > 1
    result = []
    for row, values, is_tuned in zip(rows, told, tuned, strict=True):
        words = []
        if is_tuned and have_several:
            folder = PurePath(row["adapter"])
            words.append(f"adapter {folder.name}")
        elif is_tuned and not all(tuned):
            words.append("tuned")
        for name in names:
            if name in values:
                words.append(f"{name}={values[name]}")
        line = ", ".join(words)
        result.append(line)
    return result


def _varying(told: Sequence[Told]) -> list[str]:
    """Names of settings that have several values; rows without a setting do not count as another value."""
    values: dict[str, set[str]] = {}
    for setting in told:
        for name, value in setting.items():
            values.setdefault(name, set()).add(str(value))
    return [name for name, seen in values.items() if len(seen) > 1]


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
