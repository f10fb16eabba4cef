"""Weights as a CPU multiplies them fastest, while replies are written.

A step of writing multiplies large matrices with few rows. At every product torch copies a matrix into the processor's
order, bitsandbytes writes out what 4 bits stand for, and peft multiplies with two more matrices. All of this is done
once here, before the first token (tests/benchmarks/against.md has what it brings).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from labkit.compat import packed_linear, packed_weight
from labkit.machine.processes import n_processes
from labkit.models.whole_weights import is_4_bit, is_lora, whole_weight

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module

Forward = Callable[..., "Tensor"]
ROWS = 64  # that a weight is packed for
FEWEST, MOST = 4, 256  # rows for which a packed weight is faster
LEAST_NUMBERS = 2**18  # in a weight that is worth it
MOST_BYTES = 2**30  # that copies may take, beside the weights themselves


@dataclass(frozen=True)
class Wanted:
    """Which columns of a batch somebody sees; the others are padding, or places without a row."""

    shape: "torch.Size"  # D, Q
    places: "Tensor"  # [n] numbers below D * Q


_wanted: ContextVar[Wanted | None] = ContextVar("of the batch that this thread reads; None: all columns", default=None)


@contextmanager
def only_wanted(wanted: "Tensor") -> Iterator[None]:
    """Within it, copied layers multiply those columns of [D, Q, I] that are `wanted` [D, Q], and give zeros for others.

    Only on a CPU: a GPU multiplies them in no time.
    """
    if wanted.device.type != "cpu" or wanted.all():
        yield
        return
    places = wanted.flatten().nonzero()[:, 0]
    before = _wanted.set(Wanted(wanted.shape, places))
    try:
        yield
    finally:
        _wanted.reset(before)


@dataclass(frozen=True)
class Copies:
    """A layer's weight as one matrix, and that in the processor's order."""

    whole: "Tensor"  # [O, I]; the layer's own weight where that is one already
    packed: "Tensor | None"
    bias: "Tensor | None"

    def multiply(self, x: "Tensor") -> "Tensor":
        """x W^T + bias, [..., O], for x [..., I]; zeros for columns that are not wanted."""
        wanted = _wanted.get()
        if wanted is None or x.shape[:-1] != wanted.shape:
            return self._multiply_all(x)
        columns = x.flatten(0, 1)  # [D * Q, I]
        some = self._multiply_all(columns[wanted.places])  # [n, O]
        every = some.new_zeros(len(columns), some.shape[-1])
        every[wanted.places] = some
        return every.unflatten(0, wanted.shape)

    def _multiply_all(self, x: "Tensor") -> "Tensor":
        import torch

        n_rows = x.numel() // x.shape[-1]
        if self.packed is not None and FEWEST <= n_rows <= MOST:
            return packed_linear(x, self.packed, self.bias)
        return torch.nn.functional.linear(x, self.whole, self.bias)


@contextmanager
def packed_weights(model: "Module", n_rows: int) -> Iterator[None]:
    """Within it, linear layers in float32 on a CPU multiply faster, without a gradient.

    Weights of 4 bits are written out and LoRAs added to them; large weights are packed for 4 to 256 rows, unless
    `n_rows` says that there are fewer. The copies are there within this context only; one inside it adds none. Where
    they would take more than a GiB, the last layers stay as they are; so do all where several processes may share the
    weights out (FSDP).
    """
    if any(map(_is_copied, model.modules())):
        yield
        return
    pack = n_rows >= FEWEST
    room = MOST_BYTES if n_processes() == 1 else 0
    changed: dict[Module, Forward | None] = {}  # and what the layer had in the place of its class's forward
    try:
        for layer in _layers_to_copy(model, pack):
            needed = _n_bytes(layer, pack)
            copies = _copies(layer, pack) if needed <= room else None
            if copies is not None:
                room -= needed
                changed[layer] = vars(layer).get("forward")
                layer.forward = partial(_forward, copies, layer.forward)
        yield
    finally:
        for layer, forward in changed.items():
            del layer.forward
            if forward is not None:
                layer.forward = forward


def _layers_to_copy(model: "Module", pack: bool) -> list["Module"]:
    """The layers that may gain. What is inside a LoRA layer is done with it, unless somebody looks at it."""
    layers = []
    inside: set[Module] = set()
    for layer in model.modules():
        if layer in inside:
            continue
        if _computes_otherwise(layer):
            continue
        elif is_lora(layer):
            parts = list(layer.modules())[1:]
            if not any(map(_is_watched, parts)):
                inside.update(parts)
                layers.append(layer)
        elif is_4_bit(layer) or (pack and _is_large(layer)):
            layers.append(layer)
    return layers


def _is_copied(layer: "Module") -> bool:
    forward = vars(layer).get("forward")
    return isinstance(forward, partial) and forward.func is _forward


def _is_watched(layer: "Module") -> bool:
    """Whether somebody looks at what goes through a layer, or has replaced how it computes."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or _computes_otherwise(layer))


def _computes_otherwise(layer: "Module") -> bool:
    """Whether somebody has replaced how it computes, by more than a quicker way to the same."""
    forward = vars(layer).get("forward")
    return forward is not None and not getattr(getattr(forward, "func", None), "is_only_quicker", False)


def _n_numbers(layer: "Module") -> int:
    """In the weight of a linear layer; 0 for any other."""
    frozen = layer.get_base_layer() if is_lora(layer) else layer
    return getattr(frozen, "out_features", 0) * getattr(frozen, "in_features", 0)


def _is_large(layer: "Module") -> bool:
    """Whether it is a linear layer with so many numbers that packing them is worth it."""
    return _n_numbers(layer) >= LEAST_NUMBERS


def _n_bytes(layer: "Module", pack: bool) -> int:
    """What the copies of a layer's weight take, in float32."""
    n_copies = int(is_lora(layer) or is_4_bit(layer)) + int(pack and _is_large(layer))
    return 4 * n_copies * _n_numbers(layer)


def _copies(layer: "Module", pack: bool) -> Copies | None:
    """None for a layer that does not compute in float32 on a CPU, and where nothing would be gained."""
    whole = whole_weight(layer)
    if whole is None:
        return None
    packed = packed_weight(whole, ROWS) if pack and _is_large(layer) else None
    is_new = is_lora(layer) or is_4_bit(layer)
    return Copies(whole, packed, layer.bias) if is_new or packed is not None else None


def _forward(copies: Copies, before: Forward, x: "Tensor", *args: object, **kwargs: object) -> "Tensor":
    import torch

    is_plain = x.dtype == torch.float32 and not (args or kwargs)
    needs_more = torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type)
    if is_plain and not needs_more:
        return copies.multiply(x)
    return before(x, *args, **kwargs)
