"""The number type of a training step, and how parts of another type stand in the model."""

from typing import TYPE_CHECKING

from labkit.machine.hardware import FAST_BF16, bf16_speedup
from labkit.models import LanguageModel

if TYPE_CHECKING:
    import torch


WIDE = 512  # hidden numbers; with 320, casts took more time than the products saved (tests/benchmarks/against.md)


def computes_in(lm: LanguageModel) -> str:
    """The type of a step's matrix products: bfloat16 for 4 bits on a CPU with units for it, though it loads as float32.

    Weights of 4 bits are no more exact than bfloat16's 8. A narrow model stays in float32, in which threads train its
    rows side by side (`labkit.training.parts`). The answer is measured, so it is asked for once in a run and kept in
    run.json.
    """
    if lm.bits == 4 and lm.device == "cpu" and lm.hidden_size >= WIDE and bf16_speedup() > FAST_BF16:
        return "bfloat16"
    return lm.dtype


def compute_in(model: "torch.nn.Module", dtype: str) -> None:
    """Let bitsandbytes' 4-bit layers compute in `dtype`."""
    import torch

    for module in model.modules():
        if hasattr(module, "compute_type_is_set"):  # its Linear4bit
            module.compute_dtype = getattr(torch, dtype)


def keep_trained_in_float32(model: "torch.nn.Module", dtype: str) -> None:
    """What is trained is kept in float32: a step is lost in bfloat16's 8 bits. Trained embeddings hand on and take
    `dtype`, the type of the layers around them, with autocast and without it.
    """
    import torch
    from peft.utils import ModulesToSaveWrapper

    around = getattr(torch, dtype)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if around == torch.float32:
        return
    for module in model.modules():
        if not isinstance(module, ModulesToSaveWrapper):
            continue
        if isinstance(module.original_module, torch.nn.Embedding):
            module.register_forward_hook(lambda _, inputs, output: output.to(around))
        else:  # the output head
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
