"""Checkers of notebook 2: the loss mask, LoRA, 4-bit quantisation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from labkit.notebook.exercises import Wrong, exercise, number
from labkit.notebook.exercises.notebook1 import vector

# NormalFloat 4: quantiles of a normal distribution in [-1, 1], with an exact 0 (Dettmers et al. 2023, appendix E)
_NEGATIVE = (-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500)
_POSITIVE = (0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0)
NF4 = np.array([*_NEGATIVE, 0.0, *_POSITIVE])


@exercise("2.1")
def loss_mask(mask: Callable) -> str:
    cases = [([5, 6, 7, 8, 9], [0, 0, 1, 1, 0]), ([0, 4, 0], [1, 0, 1]), ([3, 4], [0, 0])]
    for ids, flags in cases:
        expected = [token if flag else -100 for token, flag in zip(ids, flags, strict=True)]
        got = [int(label) for label in vector(mask(ids, [bool(flag) for flag in flags]), np.array(ids), "labels")]
        if got != expected and got in ([*expected[1:], -100], [-100, *expected[:-1]]):
            raise Wrong("The labels are shifted by one. The model shifts them itself: label i belongs to token i.")
        if got != expected:
            index = next(i for i in range(len(ids)) if got[i] != expected[i])
            why = "is part of a reply" if flags[index] else "is not part of a reply"
            raise Wrong(f"ids {ids}, target flags {flags}: token {index} {why}, and its label is {got[index]}.")
    return "Only replies are learnt; what the user says is read, never imitated."


@exercise("2.2")
def lora_merge(merge: Callable) -> str:
    draw = np.random.default_rng(0)
    for out, into, r, alpha in ((4, 3, 2, 2), (4, 3, 2, 8), (4, 4, 1, 16)):
        W, A, B = draw.normal(size=(out, into)), draw.normal(size=(r, into)), draw.normal(size=(out, r))
        case = f"W {W.shape}, A {A.shape}, B {B.shape}, alpha {alpha}, r {r}"
        if not np.allclose(vector(merge(W, A, np.zeros_like(B), alpha, r), W, "merged weights"), W):
            raise Wrong(f"{case}: with B = 0 the adapter does nothing, but your merged weights differ from W.")
        change = vector(merge(W, A, B, alpha, r), W, "merged weights") - W
        if np.allclose(change, B @ A) and alpha != r:
            raise Wrong(f"{case}: the product is right; its scale is not.")
        if not np.allclose(change, alpha / r * B @ A):
            ratio = np.linalg.norm(change) / np.linalg.norm(alpha / r * B @ A)
            raise Wrong(f"{case}: the update of the weights differs; its norm is {ratio:.2f} of what it should be.")
    return "Merged, the adapter costs nothing at inference: there is one matrix again."


@exercise("2.3")
def quantise(own: Callable) -> str:
    draw = np.random.default_rng(0)
    normal, coarse = draw.normal(size=64), np.linspace(-1, 1, 5)
    for block, codebook in ((normal, NF4), (-normal, NF4), (draw.normal(size=8) * 0.01, coarse)):
        scale = np.abs(block).max()
        expected = codebook[np.abs(block[:, None] / scale - codebook).argmin(axis=1)] * scale
        got = vector(own(block, codebook), block, "weights")
        if np.allclose(got * scale, expected, atol=1e-7):
            raise Wrong("These are codebook entries, between -1 and 1: a weight comes back in the units that it had.")
        if not np.allclose(got, expected, atol=1e-7):
            worst = np.abs(got - expected).argmax()
            message = (
                f"A weight of {block[worst]:.4f} in a block whose largest absolute value is {scale:.4f} should come "
            )
            raise Wrong(message + f"back as {expected[worst]:.4f}; yours comes back as {got[worst]:.4f}.")
    with np.errstate(all="ignore"):
        zeros = vector(own(np.zeros(4), NF4), np.zeros(4), "weights")
    if not np.allclose(zeros, 0):
        raise Wrong("A block of zeros should come back as zeros: its scale is 0, and 0 / 0 is not a number.")
    return "bitsandbytes' NF4 does the same for each block of 64 weights, and stores one scale a block."


@exercise("2.5")
def bits_per_weight(answer: Any) -> str:
    """Dettmers et al. 2023, section 3: a constant of 8 bits for 64 weights, and one of 32 bits for 256 of those."""
    bits, exact = number(answer, "bits"), 4 + 8 / 64 + 32 / (64 * 256)
    if abs(bits - exact) > 0.0005:
        told = {4.0: "a block's constant is stored, too", 4.5: "that is before the constants are quantised themselves"}
        told[4.125] = "the 8-bit constants have constants of their own; three decimals show them"
        near = min(told, key=lambda known: abs(known - bits))
        why = told[near] if abs(near - bits) < 0.0005 else "add up what a block of 64 weights stores, and divide by 64"
        raise Wrong(f"{bits:g} bits: {why}.")
    return "The paper says 0.127 bits for the constants, where it was 0.5: 3 GB less for a model of 65 billion weights."


@exercise("2.6")
def best_setting(answer: Any) -> str:
    """`answer` is (dev losses of the sweep {setting: nats per token}, the setting that is best)."""
    losses, name = answer
    if name not in losses:
        raise Wrong(f"Answer with the name of one of your settings: {', '.join(losses)}. You gave {name!r}.")
    lower = sum(loss < losses[name] for loss in losses.values())
    if lower:
        raise Wrong(f"{name} ends at {losses[name]:.3f}, and {lower} of your settings end lower. Which way is good?")
    return "Another seed moves a loss as well: run the two best with one more before you trust the order."
