"""Right and wrong answers to the exercises of notebook 2; test_proofs.py judges them all."""

from fractions import Fraction

import numpy as np
import torch


def quantise(weights, codebook):
    scale = np.abs(weights).max() or 1.0
    return codebook[np.abs(weights[:, None] / scale - codebook).argmin(axis=1)] * scale


def quantise_without_a_guard(weights, codebook):
    scale = np.abs(weights).max()
    return codebook[np.abs(weights[:, None] / scale - codebook).argmin(axis=1)] * scale


def quantise_by_loop(weights, codebook):
    scale = max(abs(w) for w in weights)
    return [0.0 if scale == 0 else min(codebook, key=lambda c: abs(w / scale - c)) * scale for w in weights]


LOSSES = {"modules ffn": 2.1, "learning rate 0.001": 2.0, "learning rate 0.01": 5.5}
RIGHT = {
    "2.1": [
        lambda ids, flags: [i if f else -100 for i, f in zip(ids, flags, strict=True)],
        lambda ids, flags: torch.where(torch.tensor(flags), torch.tensor(ids), -100),
    ],
    "2.2": [lambda W, A, B, alpha, r: W + alpha / r * B @ A, lambda W, A, B, alpha, r: W + (alpha * (A.T @ B.T).T) / r],
    "2.3": [quantise, quantise_by_loop],
    "2.4": ["b", "b ", "b:"],
    "2.5": [4 + 8 / 64 + 32 / 64 / 256, np.float32(4.127), torch.tensor(4.127), Fraction(4127, 1000)],
    "2.6": [
        (LOSSES, "learning rate 0.001"),
        (LOSSES, " Learning rate 0.001"),
        ({"a": float("nan"), "b": 1.0}, "b"),
        (dict(reversed(LOSSES.items())), min(LOSSES, key=LOSSES.get)),
    ],
}
WRONG = {  # (answer, words of the message that it must get)
    "2.1": [
        (
            lambda ids, flags: [ids[i + 1] if i + 1 < len(ids) and flags[i + 1] else -100 for i in range(len(ids))],
            "shifted",
        ),
        (lambda ids, flags: [-100 if f else i for i, f in zip(ids, flags, strict=True)], "not part of a reply"),
        (lambda ids, flags: [i for i, f in zip(ids, flags, strict=True) if f], "shape"),
        (lambda ids, flags: [i if f else None for i, f in zip(ids, flags, strict=True)], "could not read what you"),
        (lambda ids, flags: [i if f else float("nan") for i, f in zip(ids, flags, strict=True)], "its label is nan"),
    ],
    "2.2": [
        (lambda W, A, B, alpha, r: W + B @ A, "its scale is not"),
        (lambda W, A, B, alpha, r: W + r / alpha * B @ A, "its scale is not: yours is 0.0625 times"),
        (lambda W, A, B, alpha, r: alpha / r * B @ A, "with B = 0"),
        (lambda W, A, B, alpha, r: W - alpha / r * B @ A, "its sign is not"),
        (lambda W, A, B, alpha, r: W + alpha * B @ A, "its scale is not: yours is 2 times"),
        (lambda W, A, B, alpha, r: W, "the adapter adds nothing"),
        (lambda W, A, B, alpha, r: W + alpha / r * np.abs(B @ A), "norm is 1.00"),
    ],
    "2.3": [
        (lambda w, c: quantise(w, c) / np.abs(w).max(), "in the units that it had"),
        (lambda w, c: c[np.abs(w[:, None] - c).argmin(axis=1)], "come back as"),
        (lambda w, c: c[np.searchsorted(c, w / np.abs(w).max(), "right") - 1] * np.abs(w).max(), "come back as"),
        (quantise_without_a_guard, "A block of zeros"),
    ],
    "2.4": [("a", "other way round"), ("c", "nothing is computed in 4 bits"), ("d", "exist for the adapter only")],
    "2.5": [
        (4, "a block's constant is stored, too"),
        (4.5, "before the constants are quantised themselves"),
        (4.125, "constants of their own"),
        (0.127, "a block of 64 weights"),
        ("four", "should be a number"),
        ((4, 127), "decimals with a point"),
        ("4,127", "decimals with a point"),
        (4.13, "two decimals do not tell"),
        (4 + 8 / 64 + 32 / 256, "shared by 256 constants"),
    ],
    "2.6": [
        ((LOSSES, "learning rate 0.01"), "2 of your settings end lower"),
        ((LOSSES, "modules ffn"), "ends at 2.100, and 1 of"),
        ((LOSSES, 1e-3), "the name of one of your settings"),
        ((LOSSES, "attention"), "modules ffn"),
        (({"a": float("nan"), "b": 1.0}, "a"), "that training diverged"),
        (([2.1, 2.0], "a"), "could not read what you gave"),
        ((LOSSES, ["learning rate 0.001"]), "the name of one of your settings"),
    ],
}
