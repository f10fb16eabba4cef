"""Layers of one kind: what a step takes with two and with four of them says what it takes with all.

With L equal layers, memory at each moment of a step is linear in L: a pass that has reached layer l holds what is kept
of l layers, gradients of L - l, and what one layer needs meanwhile. So its highest is the larger of two lines in L: the
peak until the backward pass is in the middle of the model, where the most is kept, and the peak after, where gradients
are.
"""

from typing import TYPE_CHECKING

from labkit.models.shared_weights import second_tree

if TYPE_CHECKING:
    import torch

FEW, MORE = 2, 4
ENOUGH = 8  # layers: up to here, all of them take no longer
NUMBERS = ("idx", "id", "index", "number", "num")  # how a family may call a layer's place
PLAIN = (bool, int, float, str, tuple, type(None))


def alike_layers(model: "torch.nn.Module", targets: list[str]) -> str | None:
    """The name of the list of a model's layers, where there are more than ENOUGH, all of one kind; else None.

    Of one kind: the same modules, shapes and settings, and the same of them in `targets`, the full names of layers that
    get a LoRA.
    """
    from torch.nn import ModuleList

    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
    lists = []
    for name, module in model.named_modules():
        if isinstance(module, ModuleList) and len(module) == n_layers:
            lists.append(name)
    if len(lists) != 1 or n_layers <= ENOUGH:
        return None
    tuned = {model.get_submodule(name) for name in targets}
    first, *others = (_kind(layer, tuned) for layer in model.get_submodule(lists[0]))
    return lists[0] if all(other == first for other in others) else None


def _kind(layer: "torch.nn.Module", tuned: "set[torch.nn.Module]") -> list[object]:
    """What makes a layer what it is: of each module name, class, shapes and settings, and whether it gets a LoRA."""
    kind = []
    for name, module in layer.named_modules():
        shapes = {own: (tensor.shape, tensor.dtype) for own, tensor in module.named_parameters(recurse=False)}
        kind.append((name, type(module), shapes, _settings(module), module in tuned))
    return kind


def _settings(module: "torch.nn.Module") -> dict[str, object]:
    settings = {}
    for name, value in vars(module).items():
        if isinstance(value, PLAIN) and name.split("_")[-1] not in NUMBERS:
            settings[name] = value
    return settings


def shortened(model: "torch.nn.Module", list_name: str, n_layers: int) -> "torch.nn.Module":
    """The same model, over the same weights, with the first of its layers only."""
    parent, _, own_name = list_name.rpartition(".")
    holder = model.get_submodule(parent)
    layers = getattr(holder, own_name)
    setattr(holder, own_name, layers[:n_layers])
    try:
        return second_tree(model)
    finally:
        setattr(holder, own_name, layers)


def with_all_layers(few: dict[str, int], more: dict[str, int], n_layers: int) -> dict[str, float]:
    """What is counted with `n_layers`, on lines through what was counted with FEW and with MORE of them."""
    counts = {}
    for name, n_few in few.items():
        each = (more[name] - n_few) / (MORE - FEW)
        counts[name] = n_few + each * (n_layers - FEW)
    return counts
