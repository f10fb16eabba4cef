"""Prompts in batches: those with a common beginning together."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

from labkit.decoding.kept import goes_on
from labkit.decoding.rows import Group, Kept, OwnFilter, Row, shared

Item = TypeVar("Item")
OWN_PART = 1 / 8  # of a row's prompt, at most, beside a trunk: new columns of all rows look at each other's places


def make_rows(
    prompts: Sequence[list[int]],
    keys: Sequence[str] | None,
    seed: int,
    filters: Sequence[OwnFilter] = (),
    kept: Sequence[Kept | None] = (),
) -> list[Row]:
    """A row for each prompt; by default the same prompt has the same random numbers, but others when it comes again."""
    seen: Counter[tuple[int, ...]] = Counter()
    rows = []
    for index, prompt in enumerate(prompts):
        ids = tuple(prompt)
        key = keys[index] if keys else f"{list(prompt)}/{seen[ids]}"
        seen[ids] += 1
        draw = random.Random(f"{seed}/{key}")
        of_row = kept[index] if kept else None
        rows.append(Row(index, list(prompt), draw, filters=filters, kept=of_row))
    return rows


def tree_batches(rows: list[Row], size: int) -> Iterator[list[Group]]:
    """Groups for at most `size` rows that share nothing, trunks of like length together (see `batches_of`).

    Rows whose conversation is kept are by themselves: each goes on from its own cache.
    """
    going_on = [row for row in rows if goes_on(row)]
    going_on.sort(key=lambda row: row.kept.known(row.prompt) - len(row.prompt))  # those with most to read first
    others = [row for row in rows if not goes_on(row)]
    alone = batches_of(([row] for row in going_on), len, size)
    return chain(alone, _batches_of_families(others, size))


def _batches_of_families(rows: list[Row], size: int) -> Iterator[list[Group]]:
    near = sorted(rows, key=lambda row: row.prompt)  # rows that share a beginning are neighbours: look there only
    groups: list[Group] = []
    for neighbours in _cut(near, 2 * size):
        for family in _families(neighbours):
            groups.extend(_cut(family, 2 * size - 1))
    groups.sort(key=lambda group: -len(group[0].prompt))
    return batches_of(groups, len, size)


def _cut(rows: list[Row], size: int) -> Iterator[list[Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def equal_length_batches(rows: list[Row], size: int) -> Iterator[list[Group]]:
    """At most `size` rows with prompts of one length: a batch without padding, which some families cannot ignore."""
    batch: list[Group] = []
    length = 0  # of the prompts in the batch
    for row in sorted(rows, key=lambda row: -len(row.prompt)):
        n_tokens = len(row.prompt)
        if batch and (n_tokens != length or len(batch) == size):
            yield batch
            batch = []
        length = n_tokens
        batch.append([row])
    if batch:
        yield batch


def batches_of(items: Iterable[Item], n_rows: Callable[[Item], int], size: int) -> Iterator[list[Item]]:
    """The items, each of rows that share a beginning, in batches of the size of `size` rows that share nothing.

    Rows after the first of an item weigh half: most of the memory is the beginning's, and a CPU gets through a step
    of 128 rows in less than twice the time of one of 64.
    """
    return packed(items, lambda item: n_rows(item) + 1, 2 * size)


def packed(items: Iterable[Item], weight: Callable[[Item], int], most: int) -> Iterator[list[Item]]:
    """The items, in their order, in lists that weigh at most `most`; what weighs more stands alone."""
    pack: list[Item] = []
    total = 0
    for item in items:
        heavy = weight(item)
        if pack and total + heavy > most:
            yield pack
            pack, total = [], 0
        pack.append(item)
        total += heavy
    if pack:
        yield pack


def _families(rows: list[Row]) -> list[Group]:
    """Rows that share nearly all of their prompt with the first of their family, which is the longest."""
    families: list[Group] = []
    for row in sorted(rows, key=lambda row: -len(row.prompt)):
        nearest: Group = []
        most = -1
        for family in families:
            in_common = shared(family[0].prompt, row.prompt)
            if in_common > most:
                nearest, most = family, in_common
        own = len(row.prompt) - 1 - most
        if own > OWN_PART * len(row.prompt):
            nearest = []
            families.append(nearest)
        nearest.append(row)
    return families
