"""Keys and values of what was read, with room for what comes. Importing this module imports torch and transformers."""

from collections.abc import Iterable, Sequence

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

MORE = 4  # room is made for a fourth more columns than are wanted
LEAST = 64  # and for so many at least


def with_room(n_columns: int) -> int:
    """How many columns there is made room for, where so many are wanted."""
    return n_columns + max(LEAST, n_columns // MORE)


class GrowingLayer(DynamicLayer):
    """A layer's keys and values [D, heads, C, width], written into memory that has room for more columns.

    transformers' own layer copies all columns into new memory at every token. Here `keys` and `values` are what is
    filled of `room`; they are copied only where the room is used up.
    """

    room: tuple[torch.Tensor, torch.Tensor] | None = None  # keys and values [D, heads, more than C, width]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the keys and values [D, heads, Q, width] of new columns; returns those of all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        if not self._fits(end):
            self.room = self._roomier(self.keys, key_states, end), self._roomier(self.values, value_states, end)
        filled = []
        for room, new in zip(self.room, (key_states, value_states), strict=True):
            room[..., begin:end, :] = new
            filled.append(room[..., :end, :])
        self.keys, self.values = filled
        return self.keys, self.values

    def _fits(self, end: int) -> bool:
        """Whether `end` columns have room behind what is filled; keys that were selected or reordered are elsewhere."""
        if self.room is None or self.keys.data_ptr() != self.room[0].data_ptr():
            return False
        return end <= self.room[0].shape[-2]

    @staticmethod
    def _roomier(old: torch.Tensor, new: torch.Tensor, wanted: int) -> torch.Tensor:
        """Room for more than `wanted` columns, that begins with the `old` ones."""
        n_columns = with_room(wanted)
        room = new.new_empty(*new.shape[:-2], n_columns, new.shape[-1])
        if old.numel():
            room[..., : old.shape[-2], :] = old
        return room


def growing_cache() -> DynamicCache:
    """A cache of growing layers, full in every layer: what a window hides, the tree's mask hides."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = GrowingLayer
    return cache


def close_up(cache: DynamicCache, trunks: Sequence[int]) -> None:
    """Keep these trunks of a growing cache, in places of this order. One that stays where it is is not copied; the
    others come from behind.
    """
    for layer in cache.layers:
        for place, trunk in enumerate(trunks):
            if place != trunk:
                layer.keys[place] = layer.keys[trunk]
                layer.values[place] = layer.values[trunk]
        n_trunks = len(trunks)
        layer.keys = layer.keys[:n_trunks]
        layer.values = layer.values[:n_trunks]
        if layer.room is not None:
            keys, values = layer.room
            layer.room = keys[:n_trunks], values[:n_trunks]


def begun_cache(layers: Iterable[tuple[torch.Tensor, torch.Tensor]], n_columns: int) -> DynamicCache:
    """A growing cache that begins with the first `n_columns` of each layer's keys and values [D, heads, C, width], and
    grows into what is behind them: they are its own from now on.
    """
    cache = growing_cache()
    for keys, values in layers:
        layer = GrowingLayer()
        layer.lazy_initialization(keys, values)
        layer.room = keys, values
        layer.keys = keys[..., :n_columns, :]
        layer.values = values[..., :n_columns, :]
        cache.layers.append(layer)
    return cache
