"""Two trees of modules over the same weights: what is put into one of them is not in the other."""

import copy
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Model = TypeVar("Model", bound="torch.nn.Module")


def second_tree(model: Model) -> Model:
    """The same model in modules of its own, over the same weights: LoRA layers, hooks, mode and number types that one
    tree gets stay out of the other.

    No weight is copied. A parameter's data can be replaced in one tree (as `parameter.data = …` does) without a change
    in the other; writing INTO the data changes both, so only frozen weights may be shared. Quantised weights are the
    same objects in both trees, since bitsandbytes keeps their scales beside them.
    """
    import torch

    known: dict[int, object] = {}  # what deepcopy takes as already copied
    for parameter in model.parameters():
        known[id(parameter)] = _alias(parameter)
    for buffer in model.buffers():
        known[id(buffer)] = buffer
    for module in model.modules():
        for value in _tensors_of_eight_bits(module):
            known[id(value)] = value
    with torch.no_grad():
        return copy.deepcopy(model, known)


def _alias(parameter: "torch.nn.Parameter") -> "torch.nn.Parameter":
    """Another parameter over the same data."""
    import torch

    if not parameter.is_floating_point():  # 4 or 8 bits
        return parameter
    return torch.nn.Parameter(parameter.data, requires_grad=parameter.requires_grad)


def _tensors_of_eight_bits(module: "torch.nn.Module") -> "list[torch.Tensor]":
    """The weights that bitsandbytes' Linear8bitLt moves out of its parameter into its state."""
    import torch

    state = getattr(module, "state", None)
    values = vars(state).values() if hasattr(state, "__dict__") else ()
    return [value for value in values if isinstance(value, torch.Tensor)]
