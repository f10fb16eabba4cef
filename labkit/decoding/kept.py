"""What a model has read of a conversation, kept from turn to turn: the next prompt goes on from there.

The keys and values of a token depend on nothing that comes after it, so those of a common beginning are the same in
every longer prompt.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.decoding.rows import Group, Kept, Row

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

MOST_BYTES = 2 * 2**30  # of keys and values in all; conversations beyond it are read anew at every turn


class KeptCaches:
    """A `Kept` for each conversation that one model answers, by name; for `labkit.generate(…, kept=…)`.

    Conversations that are not asked for have ended, and are forgotten.
    """

    def __init__(self, most_bytes: int = MOST_BYTES):
        self.most_bytes = most_bytes
        self._kept: dict[str, Kept] = {}

    def of(self, names: Sequence[str]) -> list[Kept | None]:
        """What is kept of some conversations, to be read and renewed; None where there is no more room."""
        going_on: dict[str, Kept] = {}
        n_bytes = 0
        for name in names:
            kept = self._kept.get(name) or Kept()
            n_bytes += kept.n_bytes
            if n_bytes <= self.most_bytes:
                going_on[name] = kept
        self._kept = going_on
        return [going_on.get(name) for name in names]


def goes_on(row: Row) -> bool:
    """Whether a row's conversation is known well enough to go on from it."""
    return row.kept is not None and row.kept.helps(row.prompt)


def all_go_on(groups: Sequence[Group]) -> bool:
    """Whether every row of a batch goes on from its conversation, each on a trunk of its own."""
    return all(len(group) == 1 and goes_on(group[0]) for group in groups)


def cache_of(rows: Sequence[Row]) -> "DynamicCache":
    """The caches of the rows' conversations side by side, [D, heads, C, width], padded on the right."""
    from labkit.decoding.cache import begun_cache

    kept = [row.kept for row in rows]
    lengths = [row.kept.known(row.prompt) for row in rows]
    layers = []
    for layer in range(len(kept[0].layers)):
        keys = _side_by_side([one.layers[layer][0] for one in kept], lengths)
        values = _side_by_side([one.layers[layer][1] for one in kept], lengths)
        layers.append((keys, values))
    return begun_cache(layers, max(lengths))


def joined(caches: Sequence["DynamicCache"], lengths: Sequence[int]) -> "DynamicCache":
    """Caches of some trunks each as one of all, [D, heads, C, width], padded on the right; `lengths` of the trunks."""
    from labkit.decoding.cache import begun_cache

    joined_layers = []
    for layers in zip(*(one.layers for one in caches), strict=True):
        keys = [of_trunk for layer in layers for of_trunk in layer.keys]  # D times [heads, T, width]
        values = [of_trunk for layer in layers for of_trunk in layer.values]
        joined_layers.append((_side_by_side(keys, lengths), _side_by_side(values, lengths)))
    return begun_cache(joined_layers, max(lengths))


def _side_by_side(tensors: Sequence["Tensor"], lengths: Sequence[int]) -> "Tensor":
    """The beginnings of tensors [heads, T, width] as one, padded on the right, with room for more columns behind."""
    from labkit.decoding.cache import with_room

    first = tensors[0]
    longest = max(lengths)
    padded = first.new_empty(len(tensors), first.shape[0], with_room(longest), first.shape[2])
    for place, tensor, length in zip(padded, tensors, lengths, strict=True):
        place[:, :length] = tensor[:, :length]
        place[:, length:longest] = 0  # a column that no row sees must be a number all the same
    return padded


def remember(row: Row, cache: "DynamicCache", trunk: int, columns: "Tensor") -> None:
    """Keep a row's whole prompt: `columns` are its places in the cache of its trunk, in their order."""
    layers = []
    for layer in cache.layers:
        keys = layer.keys[trunk].index_select(1, columns)  # [heads, T, width]
        values = layer.values[trunk].index_select(1, columns)
        layers.append((keys, values))
    row.kept.tokens = row.prompt
    row.kept.layers = layers
