"""LoftQ (Li et al. 2024): a LoRA that begins with what quantisation lost."""

from typing import TYPE_CHECKING

from labkit.models.base import load_base

if TYPE_CHECKING:
    import torch

POWER_ITERATIONS = 4  # of the randomised SVD (Halko et al. 2011): more change the figures by less than float32 can hold


def begin_with_the_loss(model: "torch.nn.Module", source: str) -> None:
    """Set every LoRA to the best rank-r approximation of what quantisation lost, W - Q (algorithm 1, one iteration).

    The one in peft computes on CUDA only.
    """
    exact = load_base(source, bits=32, device="cpu").model
    for name, layer in model.named_modules():
        if hasattr(layer, "lora_A"):
            _set_to_the_loss(layer, exact.get_submodule(name).weight)


def _set_to_the_loss(layer: "torch.nn.Module", weight: "torch.Tensor") -> None:
    import torch
    from peft.utils.integrations import dequantize_module_weight

    quantised = dequantize_module_weight(layer.base_layer).float().cpu()  # [out, in]
    lost = (weight - quantised).detach()  # [out, in]
    r = layer.r["default"]
    rank = min(2 * r, *lost.shape)
    u, s, v = torch.svd_lowrank(lost, rank, niter=POWER_ITERATIONS)  # [out, rank], [rank], [in, rank]
    root = s.sqrt()
    a = (v * root).T[:r]  # [r, in]
    b = (u * root)[:, :r]  # [out, r]
    layer.lora_A["default"].weight.data.copy_(a)
    layer.lora_B["default"].weight.data.copy_(b / layer.scaling["default"])
