"""One prompt on its way to a reply, and what prompts share."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from labkit.models.beginnings import common_prefix

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class Written(NamedTuple):
    """What a filter of one's own may look at beside the scores: a prompt, and its reply so far."""

    index: int  # place of the prompt in the call
    prompt: Sequence[int]
    reply: Sequence[int]


OwnFilter = Callable[["np.ndarray", Written], "np.ndarray"]  # (scores [V], what is written) -> scores [V]


@dataclass
class Kept:
    """The prompt of a conversation that was read last, with what the model computed from it."""

    tokens: list[int] = field(default_factory=list)
    layers: list[tuple["Tensor", "Tensor"]] = field(default_factory=list)  # keys and values [heads, T, width] of each

    def known(self, prompt: Sequence[int]) -> int:
        """How many tokens of a prompt need not be read; the last is always read, since its logits are wanted."""
        return shared(self.tokens, prompt)

    def helps(self, prompt: Sequence[int]) -> bool:
        """Whether it has at least half of a prompt: a batch reads as many new columns as the row with most of them."""
        return 2 * self.known(prompt) >= len(prompt)

    @property
    def n_bytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)


@dataclass
class Row:
    """One prompt on its way to a reply."""

    index: int  # place of the prompt in the call
    prompt: list[int]
    draw: random.Random  # the row's own random numbers: its samples do not depend on its neighbours
    reply: list[int] = field(default_factory=list)
    filters: Sequence[OwnFilter] = ()  # of the caller, before those of the configuration
    kept: Kept | None = None  # what was read of its conversation at an earlier turn; it is renewed


Group = list[Row]  # rows that share a beginning; the prompt of the first, the longest, is their trunk
Steps = Iterator[list[tuple[Row, int]]]  # (row, token) of every row still writing, step by step


def pad_left(ids: list[int], width: int, fill: int = 0) -> list[int]:
    """The ids at the end of `width` places."""
    empty = width - len(ids)
    return [fill] * empty + ids


def shared(trunk: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens of `prompt` the trunk's cache can give; the last is always read, since its logits are wanted."""
    return min(common_prefix(trunk, prompt), len(prompt) - 1)
