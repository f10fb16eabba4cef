"""Counts the bytes of tensors that are alive. Importing this module imports torch."""

import weakref
from collections.abc import Callable, Iterable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from labkit.compat import storage_key


class LiveBytes(TorchDispatchMode):
    """A context that counts the bytes of tensors made in it, beside those in `known`: `live` now, and their `peak`.

    `peak_before`: the highest of the peaks that were ended by `begin_another_peak`.
    """

    def __init__(self, known: Iterable[torch.Tensor]):
        super().__init__()
        self.live = 0
        self.peak = 0
        self.peak_before = 0
        self.seen = {storage_key(tensor.untyped_storage()) for tensor in known}

    def __torch_dispatch__(
        self, func: Callable[..., object], types: object, args: tuple = (), kwargs: dict[str, object] | None = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return out

    def begin_another_peak(self) -> None:
        self.peak_before = max(self.peak_before, self.peak)
        self.peak = self.live

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage_key(storage)
        if key in self.seen:
            return
        size = storage.nbytes()
        self.seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.live -= size
