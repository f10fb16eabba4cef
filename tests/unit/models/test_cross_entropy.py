"""The logits that become their own gradient: the gradient of the plain way."""

import pytest
import torch

from labkit.models import cross_entropy as module
from labkit.models.cross_entropy import SummedCrossEntropy


@pytest.mark.parametrize("at_once", [600, 10**6])
def test_the_gradient_in_the_place_of_the_logits_is_the_gradient(at_once, monkeypatch):
    """Traps: rows after the first piece that are forgotten; a loss that is scaled before it is differentiated."""
    monkeypatch.setattr(module, "IN_CACHE", at_once)
    torch.manual_seed(0)
    states, weight = torch.randn(7, 5), torch.randn(290, 5, requires_grad=True)
    labels = torch.randint(290, (7,))
    grads = []
    for loss in (torch.nn.functional.cross_entropy, SummedCrossEntropy.apply):
        logits = 30 * states @ weight.T
        logits[0, 3] = -torch.inf  # as a model that never says a token
        how = {"reduction": "sum"} if loss is torch.nn.functional.cross_entropy else {}
        value = loss(logits, labels.clamp(min=4), **how)
        (value / 3).backward()
        grads.append((value.detach(), weight.grad))
        weight.grad = None
    torch.testing.assert_close(grads[1], grads[0])


def test_logits_that_somebody_still_needs_are_not_lost_without_a_word():
    """Trap: a layer after the head that keeps its result for the backward pass gets the gradient in its place."""
    logits = torch.randn(3, 9, requires_grad=True).tanh()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        SummedCrossEntropy.apply(logits, torch.tensor([1, 2, 3])).backward()
