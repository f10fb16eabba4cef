"""Cross-entropy over a large vocabulary in little memory. Importing this module imports torch."""

import torch

IN_CACHE = 2**18  # logits that a CPU works on at once: 1 MB of float32, which stays in its second cache


class SummedCrossEntropy(torch.autograd.Function):
    """Sum of -log softmax(logits)[label] over N rows; the logits [N, V] are lost.

    torch's own writes the logarithm of the softmax, zeros and the gradient, each as large as the logits. Here the
    logits become their own gradient, softmax - one-hot, in the forward pass, a few rows at a time.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Nats, scalar, from logits [N, V] in float32 and labels [N]."""
        gradient = logits.detach()  # the same memory; autograd notices if somebody still needs the logits
        n_rows = max(1, IN_CACHE // gradient.shape[1])
        if gradient.device.type != "cpu":
            n_rows = max(1, len(gradient))
        nats = [_to_gradient(some, of) for some, of in zip(gradient.split(n_rows), labels.split(n_rows), strict=True)]
        ctx.save_for_backward(gradient)
        return torch.cat(nats).sum()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, of_loss: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(of_loss), None


def _to_gradient(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Nats [N]; the logits [N, V] become softmax - one-hot."""
    column = labels[:, None]  # [N, 1]
    highest = logits.amax(-1, keepdim=True)  # [N, 1]
    of_label = logits.gather(1, column)  # [N, 1]
    logits.sub_(highest).exp_()
    total = logits.sum(-1, keepdim=True)  # [N, 1]
    logits.div_(total)
    logits.scatter_add_(1, column, torch.full_like(of_label, -1.0))
    nats = total.log() + highest - of_label  # [N, 1]
    return nats[:, 0]
