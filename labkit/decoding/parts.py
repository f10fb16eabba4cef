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

    if device_kind(lm.device) != "cpu" or not _filters_stand_threads(groups):
        return 1
    n_rows = sum(map(len, groups))
    if lm.n_parameters <= IN_CACHE:
        needed = LEAST_NUMBERS / lm.hidden_size
    else:
        needed = LEAST_ROWS
    n_worth_it = math.isqrt(int(n_rows / needed))
    n_threads = torch.get_num_threads()
    return max(1, min(n_worth_it, n_threads))


def _filters_stand_threads(groups: Sequence[Group]) -> bool:
    for group in groups:
        for row in group:
            for own in row.filters:
                if not getattr(own, "stands_threads", False):
                    return False
    return True


def parts_of(groups: Sequence[Group], n_most: int, new_tokens: int) -> list[list[Group]]:
    """The groups in up to `n_most` lists for which there is about as much to do; those of like size are together."""

    def work(group: Group) -> int:
        trunk = group[0].prompt
        return len(trunk) + len(group) * new_tokens

    all_work = sum(map(work, groups))
    parts: list[list[Group]] = [[] for _ in range(n_most)]
    before = 0
    for group in sorted(groups, key=len, reverse=True):
        middle = before + work(group) / 2
        number = int(n_most * middle / all_work)
        parts[number].append(group)
        before += work(group)
    for part in parts:
        part.sort(key=_trunk_length, reverse=True)  # trunks of like length are read together
    return [part for part in parts if part]


def _trunk_length(group: Group) -> int:
    return len(group[0].prompt)
