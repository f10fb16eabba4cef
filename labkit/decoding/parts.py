"""A batch on a CPU in parts, each written on threads of its own (labkit.machine.threads).

Threads that share out every product wait for each other some hundred times a token. And trunks with many rows are
apart from those with few, beside which they would leave slots empty.
"""

import math
from collections.abc import Sequence

from labkit.decoding.rows import Group
from labkit.machine.device import device_kind
from labkit.models import LanguageModel

IN_CACHE = 2**24  # weights that stay in a processor's cache, about
LEAST_NUMBERS = 512  # hidden numbers of a part's rows for each part: one thread at a time runs Python, at every token
LEAST_ROWS = 4  # of a part for each part, where every part reads all weights from memory at every token


def n_parts(lm: LanguageModel, groups: Sequence[Group]) -> int:
    """In how many parts a batch is best written: at most one for each thread.

    In one where somebody's own filter is called: it need not stand to be called by two threads at once.
    """
    import torch

    filters = [own for group in groups for row in group for own in row.filters]
    if device_kind(lm.device) != "cpu" or not all(getattr(own, "stands_threads", False) for own in filters):
        return 1
    n_rows = sum(map(len, groups))
    needed = LEAST_NUMBERS / lm.hidden_size if lm.n_parameters <= IN_CACHE else LEAST_ROWS
    n_worth_it = math.isqrt(int(n_rows / needed))
    return max(1, min(n_worth_it, torch.get_num_threads()))


def parts_of(groups: Sequence[Group], n_most: int, new_tokens: int) -> list[list[Group]]:
    """The groups in up to `n_most` lists for which there is about as much to do; those of like size are together."""
    order = sorted(groups, key=lambda group: -len(group))
    weights = [len(group[0].prompt) + len(group) * new_tokens for group in order]
    parts: list[list[Group]] = [[] for _ in range(n_most)]
    before = 0
    for group, weight in zip(order, weights, strict=True):
        middle = before + weight / 2
        number = int(n_most * middle / sum(weights))
        parts[number].append(group)
        before += weight
    for part in parts:
        part.sort(key=lambda group: -len(group[0].prompt))  # trunks of like length are read together
    return [part for part in parts if part]
