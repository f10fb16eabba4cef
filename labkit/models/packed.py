"""Weights in the order in which a CPU reads them, while replies are written.

A step of writing multiplies large matrices with few rows, and torch copies a matrix into the processor's order at every
product. Without the packed copies pythia-70m's shape takes 1.2 times as long greedily, and 1.4 times with two beams
(tests/benchmarks/against.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from labkit.compat import packed_linear, packed_weight

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear, Module

ROWS = 64  # that a weight is packed for
FEWEST, MOST = 4, 256  # rows for which a packed weight is faster
LEAST_NUMBERS = 2**19  # in a weight that is worth it
MOST_BYTES = 2**30  # that packed weights may take, beside the weights themselves


@contextmanager
def packed_weights(model: "Module", n_rows: int) -> Iterator[None]:
    """Within it, large linear layers in float32 on a CPU multiply faster with 4 to 256 rows, without a gradient.

    The packed weights are copies: they are there within this context only, and not where they would take more than a
    GiB, or where `n_rows` says that there are too few rows.
    """
    layers = [layer for layer in model.modules() if _is_worth_it(layer)]
    needed = sum(layer.weight.nbytes for layer in layers)
    if n_rows < FEWEST or needed > MOST_BYTES:
        layers = []
    changed = []
    try:
        for layer in layers:
            packed = packed_weight(layer.weight.detach(), ROWS)
            if packed is not None:
                layer.forward = partial(_forward, layer, packed)
                changed.append(layer)
        yield
    finally:
        for layer in changed:
            del layer.forward


def _is_worth_it(layer: "Module") -> bool:
    """Whether it is a plain, large linear layer in float32 on a CPU that computes as torch's own does."""
    import torch

    if type(layer) is not torch.nn.Linear or "forward" in vars(layer):  # another thread may have packed it
        return False
    weight = layer.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= LEAST_NUMBERS


def _forward(layer: "Linear", packed: "Tensor", x: "Tensor") -> "Tensor":
    import torch

    n_rows = x.numel() // x.shape[-1]
    fits = FEWEST <= n_rows <= MOST and x.dtype == torch.float32
    if fits and not torch.is_grad_enabled():
        return packed_linear(x, packed, layer.bias)
    return torch.nn.functional.linear(x, layer.weight, layer.bias)
