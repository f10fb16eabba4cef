"""Which weights these are: what tells two models of one name apart."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SAMPLED = 64  # numbers of a tensor, or some more


def fingerprint_of(weights: Mapping[str, "Tensor"]) -> str:
    """A hash of some numbers of every tensor: a retrained model, or another adapter, under the same name differs."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        step = max(1, tensor.numel() // SAMPLED)
        flat = tensor.flatten()
        some = flat[::step]
        numbers = some.float().cpu().numpy()
        digest.update(name.encode())
        digest.update(numbers.tobytes())
    return digest.hexdigest()
