"""A linear layer's weight as one matrix: what 4 bits stand for, and what a LoRA adds to it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer
    from torch import Tensor
    from torch.nn import Module


def whole_weight(layer: "Module") -> "Tensor | None":
    """The matrix W [O, I] of a layer that computes x W^T + bias in float32 on a CPU; None for any other layer.

    Of 4 bits it is what they stand for, of a LoRA layer the frozen weight and s B A (Hu et al. 2021): a new matrix in
    either case, and the layer's own weight in all others.
    """
    import torch

    if is_lora(layer):
        return _with_loras(layer)
    if type(layer) is not torch.nn.Linear and not is_4_bit(layer):
        return None
    if layer.weight.device.type != "cpu" or not multiplies_in_float32(layer) or _has_a_kernel(layer):
        return None
    return written_out(layer).detach()


def is_lora(layer: "Module") -> bool:
    """Whether it is a linear layer of peft with LoRAs on it."""
    return hasattr(layer, "lora_A") and hasattr(layer, "get_base_layer")


def is_4_bit(layer: "Module") -> bool:
    """Whether it is a linear layer of bitsandbytes whose weights have 4 bits."""
    return getattr(getattr(layer, "weight", None), "quant_state", None) is not None


def multiplies_in_float32(layer: "Module") -> bool:
    """Whether a linear layer is torch's own in float32, or bitsandbytes' of 4 bits that multiplies in it on a CPU."""
    import torch

    if type(layer) is torch.nn.Linear:
        return layer.weight.dtype == torch.float32
    if not is_4_bit(layer) or layer.weight.device.type != "cpu":
        return False
    state = layer.weight.quant_state
    is_float32 = state.dtype == torch.float32 and getattr(layer, "compute_dtype", None) == torch.float32
    return is_float32 and not getattr(state, "packing_format_for_cpu", False)


def _has_a_kernel(layer: "Module") -> bool:
    """Whether bitsandbytes packs a weight of 4 bits at its first call, for a CPU with AVX-512 BF16."""
    return is_4_bit(layer) and getattr(layer, "support_avx512bf16_for_cpu", False)


def written_out(layer: "Module") -> "Tensor":
    """The weight [O, I] of a frozen layer; of 4 bits, what they stand for, which is made anew each time."""
    if not is_4_bit(layer):
        return layer.weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(layer.weight.data, layer.weight.quant_state)


def _with_loras(layer: "LoraLayer") -> "Tensor | None":
    """The frozen weight with every active LoRA; None where one does more than to add (DoRA), or is in it already."""
    import torch

    weight = whole_weight(layer.get_base_layer())
    if weight is None or layer.merged:
        return None
    if layer.disable_adapters:
        return weight
    for name in layer.active_adapters:
        if name not in layer.lora_A:
            continue
        if _does_more(layer, name) or layer.lora_A[name].weight.dtype != torch.float32:
            return None
        with torch.no_grad():
            weight = weight + layer.get_delta_weight(name)
    return weight


def _does_more(layer: "LoraLayer", name: str) -> bool:
    """Whether an adapter does not only add s B A to the weight."""
    import torch

    drops = layer.training and not isinstance(layer.lora_dropout[name], torch.nn.Identity)
    return drops or name in layer.lora_variant or layer.lora_B[name].bias is not None
