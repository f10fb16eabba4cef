"""Prompts in batches: those with a common beginning together."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from labkit.decoding.tree import _Group, _Row, _shared


def _rows(prompts: Sequence[list[int]], keys: Sequence[str] | None, seed: int) -> list[_Row]:
    """A row for each prompt; by default the same prompt has the same random numbers, but others when it comes again."""
    count, rows = Counter(), []
    for index, prompt in enumerate(prompts):
        key = keys[index] if keys else f"{list(prompt)}/{count[tuple(prompt)]}"
        count[tuple(prompt)] += 1
        rows.append(_Row(index, list(prompt), random.Random(f"{seed}/{key}")))
    return rows


def _batches(rows: list[_Row], size: int) -> Iterator[list[_Group]]:
    """Groups with at most `size` rows in all, trunks of like length together; a family with more rows is cut."""
    near = sorted(rows, key=lambda row: row.prompt)  # rows that share a beginning are neighbours: look there only
    families = [family for i in range(0, len(near), 2 * size) for family in _families(near[i : i + 2 * size])]
    groups = [family[i : i + size] for family in families for i in range(0, len(family), size)]
    return _packed(sorted(groups, key=lambda group: -len(group[0].prompt)), len, size)


def _packed(items: Iterable[Any], weight: Callable[[Any], int], most: int) -> Iterator[list[Any]]:
    """The items, in their order, in lists that weigh at most `most`; what weighs more stands alone."""
    pack: list[Any] = []
    for item in items:
        if pack and sum(map(weight, [*pack, item])) > most:
            yield pack
            pack = []
        pack.append(item)
    if pack:
        yield pack


def _families(rows: list[_Row]) -> list[_Group]:
    """Rows that share at least half of their prompt with the first of their family, which is the longest."""
    families: list[_Group] = []
    for row in sorted(rows, key=lambda row: -len(row.prompt)):
        near = max(families, key=lambda family: _shared(family[0].prompt, row.prompt), default=None)
        if near is None or 2 * _shared(near[0].prompt, row.prompt) < len(row.prompt) - 1:
            families.append(near := [])
        near.append(row)
    return families
