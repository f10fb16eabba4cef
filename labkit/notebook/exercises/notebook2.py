"""Checkers of notebook 2: the loss mask, LoRA, 4-bit quantisation, the best of some settings."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from labkit.notebook.exercises import training_by_hand
from labkit.notebook.exercises.answers import Wrong, array, number, shown
from labkit.notebook.exercises.texts import cases

# NormalFloat 4: quantiles of a normal distribution in [-1, 1], with an exact 0 (Dettmers et al. 2023, appendix E)
_NEGATIVE = (-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500)
_POSITIVE = (0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0)
NF4 = np.array([*_NEGATIVE, 0.0, *_POSITIVE])

# Dettmers et al. 2023, section 3: a constant of 8 bits for 64 weights, and one of 32 bits for 256 of those
_OF_CONSTANT = 8 / 64
_OF_SECOND_CONSTANT = 32 / (64 * 256)
BITS = 4 + _OF_CONSTANT + _OF_SECOND_CONSTANT
_NOT_THE_BITS = {
    4.0: "a block's constant is stored, too",
    4.5: "that is before the constants are quantised themselves",
    4.125: "the 8-bit constants have constants of their own; three decimals show them",
    4.25: "the constant of 32 bits is shared by 256 constants, and each of these by 64 weights",
    round(BITS, 2): "two decimals do not tell it from other answers; give three",
}
_NO_LOSS = -100


# --- 2.1 --------------------------------------------------------------------------------------------------------------


def loss_mask(mask: Callable) -> str:
    for case in cases("2.1"):
        ids = case["ids"]
        flags = case["flags"]
        answer = mask(ids, flags)
        shape = (len(ids),)
        labels = array(answer, shape, "labels")
        got = labels.tolist()
        expected = _masked(ids, flags)
        if got != expected:
            told = f"ids {ids}, target flags {flags}"
            why = _about_labels(got, expected, flags, told)
            raise Wrong(why)
    return "Only replies are learnt; what the user says is read, never imitated."


def _masked(ids: list[int], flags: list[bool]) -> list[int]:
    """The labels: a token that is a target, elsewhere what has no loss."""
    labels = []
    for token, is_target in zip(ids, flags, strict=True):
        labels.append(token if is_target else _NO_LOSS)
    return labels


def _about_labels(
    got: list[float],
    expected: list[int],
    flags: list[bool],
    case: str,
) -> str:
    to_the_left = [*expected[1:], _NO_LOSS]
    to_the_right = [_NO_LOSS, *expected[:-1]]
    if got in (to_the_left, to_the_right):
        return "The labels are shifted by one. The model shifts them itself: label i belongs to token i."
    index = 0
    while got[index] == expected[index]:
        index += 1
    label = got[index]
    why = "is not part of a reply"
    if flags[index]:
        why = "is part of a reply"
    return f"{case}: token {index} {why}, and its label is {label:g}."


# --- 2.2 --------------------------------------------------------------------------------------------------------------


def lora_merge(merge: Callable) -> str:
    draw = np.random.default_rng(0)
    for case in cases("2.2"):
        alpha = case["alpha"]
        r = case["r"]
        into = case["into"]
        out = case["out"]
        down = (r, into)
        up = (out, r)
        W = draw.normal(size=(out, into))
        A = draw.normal(size=down)
        B = draw.normal(size=up)
        zeros = np.zeros_like(B)
        shapes = f"W {W.shape}, A {A.shape}, B {B.shape}"
        told = f"{shapes}, alpha {alpha}, r {r}"
        answer = merge(W, A, zeros, alpha, r)
        untrained = array(answer, W.shape, "merged weights")
        if not np.allclose(untrained, W):
            raise Wrong(f"{told}: with B = 0 the adapter does nothing, but your merged weights differ from W.")
        answer = merge(W, A, B, alpha, r)
        merged = array(answer, W.shape, "merged weights")
        change = merged - W
        scale = alpha / r
        expected = scale * B @ A
        if not np.allclose(change, expected):
            why = _about_change(change, expected)
            raise Wrong(f"{told}: {why}")
    return "Merged, the adapter costs nothing at inference: there is one matrix again."


def _about_change(change: np.ndarray, expected: np.ndarray) -> str:
    """How a change of the weights differs from the right one: by a factor, or in its direction."""
    if np.allclose(change, 0):
        return "your merged weights are W itself: the adapter adds nothing."
    along = (change * expected).sum()
    square = (expected**2).sum()
    factor = along / square
    along_expected = factor * expected
    if not np.allclose(change, along_expected):
        mine = np.linalg.norm(change)
        right = np.linalg.norm(expected)
        share = mine / right
        return f"the update of the weights differs; its norm is {share:.2f} of what it should be."
    if np.isclose(factor, -1):
        return "the product is right; its sign is not."
    return f"the product is right; its scale is not: yours is {factor:.3g} times as large."


# --- 2.3 --------------------------------------------------------------------------------------------------------------


def quantise(own: Callable) -> str:
    draw = np.random.default_rng(0)
    normal = draw.normal(size=64)
    eight = draw.normal(size=8)
    small = eight * 0.01
    coarse = np.linspace(-1, 1, 5)
    _check_block(own, normal, NF4)
    _check_block(own, -normal, NF4)
    _check_block(own, small, coarse)
    answer = own(np.zeros(4), NF4)
    zeros = array(answer, (4,), "weights")
    if not np.allclose(zeros, 0):
        raise Wrong("A block of zeros should come back as zeros: its scale is 0, and 0 / 0 is not a number.")
    is_negative = np.signbit(zeros)
    if is_negative.all():  # -1 times 0: the codebook's first entry
        raise Wrong(
            "A block of zeros: its scale is 0, 0 / 0 is not a number, and nothing is nearest to it. You take the "
            "codebook's first entry for that, -1, and are lucky that -1 times 0 is 0. Treat such a block apart."
        )
    return "bitsandbytes' NF4 does the same for each block of 64 weights, and stores one scale a block."


def _check_block(
    own: Callable,
    block: np.ndarray,
    codebook: np.ndarray,
) -> None:
    scale = np.abs(block).max()
    scaled = block / scale  # [weights]
    column = scaled[:, None]  # [weights, 1]
    differences = column - codebook  # [weights, entries]
    distances = np.abs(differences)
    nearest = distances.argmin(axis=1)  # [weights]
    expected = codebook[nearest] * scale
    answer = own(block, codebook)
    got = array(answer, block.shape, "weights")
    scaled_again = got * scale
    if np.allclose(scaled_again, expected, atol=1e-7):
        raise Wrong("These are codebook entries, between -1 and 1: a weight comes back in the units that it had.")
    if np.allclose(got, expected, atol=1e-7):
        return
    errors = np.abs(got - expected)
    worst = errors.argmax()
    before = block[worst]
    after = expected[worst]
    mine = got[worst]
    weight = f"A weight of {before:.4f} in a block whose largest absolute value is {scale:.4f}"
    raise Wrong(f"{weight} should come back as {after:.4f}; yours comes back as {mine:.4f}.")


# --- 2.5 and 2.6 ------------------------------------------------------------------------------------------------------


def bits_per_weight(answer: float) -> str:
    bits = number(answer, "bits")
    error = abs(bits - BITS)
    if error <= 0.0005:
        return "In the paper: 0.127 bits for the constants, where it was 0.5. For 65 billion weights that is 3 GB less."
    for mistake, explanation in _NOT_THE_BITS.items():
        distance = abs(mistake - bits)
        if distance < 0.0005:
            raise Wrong(f"{bits:g} bits: {explanation}.")
    raise Wrong(f"{bits:g} bits: add up what a block of 64 weights stores, and divide by 64.")


def best_setting(answer: tuple[Mapping[str, float], str]) -> str:
    """`answer` is (dev losses of the sweep {setting: nats per token}, the setting that is best)."""
    losses, given = answer
    spelt = _as_spelt(given)
    known = {_as_spelt(name): name for name in losses}
    if spelt not in known:
        names = ", ".join(losses)
        mine = shown(given)
        raise Wrong(f"Answer with the name of one of your settings: {names}. You gave {mine}.")
    name = known[spelt]
    loss_of_answer = number(losses[name], name)
    if math.isnan(loss_of_answer):
        raise Wrong(f"{name} ends at nan, which is no number: that training diverged. Look at those that did not.")
    lower = 0
    for other, ends_at in losses.items():
        loss = number(ends_at, other)
        if loss < loss_of_answer:
            lower += 1
    if lower:
        end = f"{name} ends at {loss_of_answer:.3f}"
        raise Wrong(f"{end}, and {lower} of your settings end lower. Which way is good?")
    return "Another seed moves a loss as well: run the two best with one more before you trust the order."


def _as_spelt(name: object) -> str:
    """A setting's name without the spaces around it and in one case: how it is compared."""
    text = str(name).strip()
    return text.casefold()


CHECKERS = {
    "2.1": loss_mask,
    "2.2": lora_merge,
    "2.3": quantise,
    "2.5": bits_per_weight,
    "2.6": best_setting,
    "2.7": training_by_hand.lora_layer,
    "2.8": training_by_hand.codebook,
    "2.9": training_by_hand.step_memory,
}
