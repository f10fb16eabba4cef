"""LoRA layers that go through memory fewer times than peft's. Importing this module imports torch and peft."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from peft.import_utils import is_bnb_4bit_available
from peft.tuners.lora import Linear

from labkit.machine.processes import n_processes
from labkit.models.whole_weights import is_4_bit, multiplies_in_float32, written_out


class LoraLinear(torch.autograd.Function):
    """x W^T + bias + s (x A^T) B^T with W and the bias frozen; x [..., I], the result [..., O].

    peft computes the second product, that product times s and the sum, each as large as the result, and autograd as
    many gradients. Here both products are written into one place, and so are both gradients of x. A weight of 4 bits is
    written out anew for either pass, unless `written_out_once` says otherwise: one of 32 bits that was kept for the
    second would be what quantising saves.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        layer: Linear,
    ) -> torch.Tensor:
        base = layer.get_base_layer()
        (scaling,) = layer.scaling.values()
        weight = _weight(base)  # [O, I]
        rows = x.flatten(0, -2)  # [N, I]
        low = rows @ a.mT  # [N, r]
        whole = x.new_empty(*x.shape[:-1], len(weight))  # [..., O]
        out = whole.flatten(0, -2)  # [N, O], the same memory; a model may change `whole` in place, but not a view
        if base.bias is None:
            torch.mm(rows, weight.mT, out=out)
        else:
            torch.addmm(base.bias, rows, weight.mT, out=out)
        out.addmm_(low, b.mT, alpha=scaling)
        ctx.save_for_backward(rows, low, a, b)
        ctx.base = base
        ctx.scaling = scaling
        return whole

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, low, a, b = ctx.saved_tensors
        of_out = gradient.flatten(0, -2)  # [N, O]
        of_low = (of_out @ b).mul_(ctx.scaling)  # [N, r]
        of_b = (of_out.mT @ low).mul_(ctx.scaling)  # [O, r]
        of_a = of_low.mT @ rows  # [r, I]
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = of_out @ _weight(ctx.base)  # [N, I]
            of_x.addmm_(of_low, a)
            of_x = of_x.unflatten(0, gradient.shape[:-1])
        return of_x, of_a, of_b, None


@contextmanager
def written_out_once(model: torch.nn.Module) -> Iterator[None]:
    """Within it each weight of 4 bits in a quick layer is in memory as float32, for both passes and every thread."""
    quick = filter(_is_quick, model.modules())
    bases = [layer.get_base_layer() for layer in quick if is_4_bit(layer.get_base_layer())]
    for base in bases:
        base.written_out = written_out(base)
    try:
        yield
    finally:
        for base in bases:
            del base.written_out


def _weight(base: torch.nn.Module) -> torch.Tensor:
    """[O, I]"""
    once = vars(base).get("written_out")
    return written_out(base) if once is None else once


def _is_quick(layer: torch.nn.Module) -> bool:
    return getattr(vars(layer).get("forward"), "func", None) is _forward


def quicken(model: torch.nn.Module) -> None:
    """Let LoRA layers of `model` that are plain ones in float32 compute as LoraLinear; the others stay peft's.

    Weights of 4 bits that a CPU multiplies in float32 are among them.

    Where several processes share the weights out (FSDP), a weight is there only while its own layer is called.
    """
    if n_processes() > 1:
        return
    for layer in model.modules():
        if type(layer) in _kinds() and _is_plain(layer):
            layer.forward = partial(_forward, layer, layer.forward)


def _kinds() -> tuple[type, ...]:
    """peft's LoRA layers over weights of 32 and, where bitsandbytes is, of 4 bits."""
    if not is_bnb_4bit_available():
        return (Linear,)
    from peft.tuners.lora import Linear4bit

    return Linear, Linear4bit


def _is_plain(layer: Linear) -> bool:
    """Whether its one adapter is a LoRA as in the paper, without dropout, on a frozen layer in float32."""
    base = layer.get_base_layer()
    names = list(layer.lora_A)
    if len(names) != 1 or layer.lora_variant or not multiplies_in_float32(base):
        return False
    if not isinstance(layer.lora_dropout[names[0]], torch.nn.Identity) or layer.lora_B[names[0]].bias is not None:
        return False
    of_adapter = [layer.lora_A[names[0]].weight, layer.lora_B[names[0]].weight]
    is_frozen = not any(parameter.requires_grad for parameter in base.parameters())
    return is_frozen and all(weight.dtype == torch.float32 for weight in of_adapter)


def _forward(
    layer: Linear, as_in_peft: Callable[..., torch.Tensor], x: torch.Tensor, *args: object, **kwargs: object
) -> torch.Tensor:
    has_one = len(layer.lora_A) == 1  # another may have come since
    base = layer.get_base_layer()
    is_copied = "forward" in vars(base)  # while replies are written (labkit.models.packed)
    is_other = layer.disable_adapters or layer.merged or not has_one or is_copied or args or kwargs
    is_float32 = x.dtype == torch.float32 and multiplies_in_float32(base)
    if is_other or not is_float32 or torch.is_autocast_enabled(x.device.type):
        return as_in_peft(x, *args, **kwargs)
    (name,) = layer.lora_A
    a = layer.lora_A[name].weight  # [r, I]
    b = layer.lora_B[name].weight  # [O, r]
    return LoraLinear.apply(x, a, b, layer)


_forward.is_only_quicker = True  # labkit.models.packed may take another way to the same
