"""LoRA layers that go through memory fewer times than peft's. Importing this module imports torch and peft."""

from collections.abc import Callable
from functools import partial

import torch
from peft.tuners.lora import Linear

from labkit.training.together import n_processes


class LoraLinear(torch.autograd.Function):
    """x W^T + bias + s (x A^T) B^T with W and the bias frozen; x [..., I], the result [..., O].

    peft computes the second product, that product times s and the sum, each as large as the result, and autograd as
    many gradients. Here both products are written into one place, and so are both gradients of x.
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
        rows = x.flatten(0, -2)  # [N, I]
        low = rows @ a.mT  # [N, r]
        whole = x.new_empty(*x.shape[:-1], len(base.weight))  # [..., O]
        out = whole.flatten(0, -2)  # [N, O], the same memory; a model may change `whole` in place, but not a view
        if base.bias is None:
            torch.mm(rows, base.weight.mT, out=out)
        else:
            torch.addmm(base.bias, rows, base.weight.mT, out=out)
        out.addmm_(low, b.mT, alpha=scaling)
        ctx.save_for_backward(rows, low, base.weight, a, b)
        ctx.scaling = scaling
        return whole

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, low, weight, a, b = ctx.saved_tensors
        of_out = gradient.flatten(0, -2)  # [N, O]
        of_low = (of_out @ b).mul_(ctx.scaling)  # [N, r]
        of_b = (of_out.mT @ low).mul_(ctx.scaling)  # [O, r]
        of_a = of_low.mT @ rows  # [r, I]
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = of_out @ weight  # [N, I]
            of_x.addmm_(of_low, a)
            of_x = of_x.unflatten(0, gradient.shape[:-1])
        return of_x, of_a, of_b, None


def quicken(model: torch.nn.Module) -> None:
    """Let LoRA layers of `model` that are plain ones in float32 compute as LoraLinear; the others stay peft's.

    Where several processes share the weights out (FSDP), a weight is there only while its own layer is called.
    """
    if n_processes() > 1:
        return
    for layer in model.modules():
        if type(layer) is Linear and _is_plain(layer):
            layer.forward = partial(_forward, layer, layer.forward)


def _is_plain(layer: Linear) -> bool:
    """Whether its one adapter is a LoRA as in the paper, without dropout, on a frozen layer in float32."""
    base = layer.get_base_layer()
    names = list(layer.lora_A)
    if type(base) is not torch.nn.Linear or len(names) != 1 or layer.lora_variant:
        return False
    if not isinstance(layer.lora_dropout[names[0]], torch.nn.Identity) or layer.lora_B[names[0]].bias is not None:
        return False
    of_adapter = [layer.lora_A[names[0]].weight, layer.lora_B[names[0]].weight]
    is_frozen = not any(parameter.requires_grad for parameter in base.parameters())
    return is_frozen and all(weight.dtype == torch.float32 for weight in (base.weight, *of_adapter))


def _forward(
    layer: Linear, as_in_peft: Callable[..., torch.Tensor], x: torch.Tensor, *args: object, **kwargs: object
) -> torch.Tensor:
    has_one = len(layer.lora_A) == 1  # another may have come since
    is_other = layer.disable_adapters or layer.merged or not has_one or args or kwargs
    if is_other or x.dtype != torch.float32 or torch.is_autocast_enabled(x.device.type):
        return as_in_peft(x, *args, **kwargs)
    (name,) = layer.lora_A
    a = layer.lora_A[name].weight  # [r, I]
    b = layer.lora_B[name].weight  # [O, r]
    return LoraLinear.apply(x, a, b, layer)
