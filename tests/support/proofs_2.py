"""Right and wrong answers to the exercises of notebook 2; test_proofs.py judges them all."""

from fractions import Fraction

import numpy as np
import torch

from labkit.notebook.exercises.notebook2 import NF4


def quantise(weights, codebook):
    scale = np.abs(weights).max() or 1.0
    return codebook[np.abs(weights[:, None] / scale - codebook).argmin(axis=1)] * scale


def quantise_without_a_guard(weights, codebook):
    scale = np.abs(weights).max()
    return codebook[np.abs(weights[:, None] / scale - codebook).argmin(axis=1)] * scale


def quantise_by_loop(weights, codebook):
    scale = max(abs(w) for w in weights)
    return [0.0 if scale == 0 else min(codebook, key=lambda c: abs(w / scale - c)) * scale for w in weights]


def layer(x, W, A, B, alpha, r):
    return x @ W.T + alpha / r * (x @ A.T) @ B.T


def codebook_by_list(quantile, offset):
    half = [quantile(float(share)) for share in np.linspace(offset, 0.5, 9)[:-1]]
    other = [-quantile(float(share)) for share in np.linspace(offset, 0.5, 8)[:-1]]
    numbers = sorted([*other, 0, *half])
    return [number / numbers[-1] for number in numbers]


def codebook_by_index(quantile, offset):
    numbers = torch.zeros(16)
    for i in range(8):
        numbers[15 - i] = quantile(offset - (offset - 0.5) * i / 8)
        if i < 7:
            numbers[i] = -quantile(offset - (offset - 0.5) * i / 7)
    return numbers / numbers.max()


def table_nf4(quantile, offset):
    return NF4


def memory(model, batch, length):
    trained = model["trained"] * 4 / 1e6
    return {
        "weights": model["frozen"] * model["bits"] / 8e6,
        "adapter": trained,
        "gradients": trained,
        "optimiser": 2 * trained,
        "checkpoints": model["layers"] * batch * length * model["hidden"] * 4 / 1e6,
    }


def memory_with(**factors):
    def variant(model, batch, length):
        return {part: size * factors.get(part, 1) for part, size in memory(model, batch, length).items()}

    return variant


def memory_of_all(model, batch, length):
    both = {**model, "trained": model["frozen"] + model["trained"]}
    return {**memory(model, batch, length), "gradients": memory(both, batch, length)["gradients"]}


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
    "2.7": [
        layer,
        lambda x, W, A, B, alpha, r: (W @ x.T + alpha / r * (B @ A) @ x.T).T,
        lambda x, W, A, B, alpha, r: [W @ row + (alpha / r) * (B @ (A @ row)) for row in x],
    ],
    "2.8": [codebook_by_list, codebook_by_index],
    "2.9": [
        memory,
        lambda *case: {part: torch.tensor(size) for part, size in memory(*case).items()},
        lambda *case: {**memory(*case), "total": sum(memory(*case).values())},
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
    "2.7": [
        (lambda x, W, A, B, alpha, r: x @ W.T, "A and B add nothing"),
        (lambda x, W, A, B, alpha, r: layer(x, W, A, B, r, r), "its scale is not: yours is 0.5 times"),
        (lambda x, W, A, B, alpha, r: layer(x, W, A, B, -alpha, r), "yours is -1 times as large"),
        (lambda x, W, A, B, alpha, r: layer(x, 0 * W, A, B, alpha, r), "with B = 0 the layer must give"),
        (lambda x, W, A, B, alpha, r: layer(x, W, A, B + 0.1, alpha, r), "with B = 0 the layer must give"),
        (lambda x, W, A, B, alpha, r: layer(x, W, A, np.abs(B), alpha, r), "First x goes through A"),
        (lambda x, W, A, B, alpha, r: layer(x, W, A, B, alpha, r).T, "shape"),
    ],
    "2.8": [
        (table_nf4, "offset 0.9"),
        (lambda quantile, offset: codebook_by_list(quantile, offset)[::-1], "they should ascend"),
        (lambda quantile, offset: [-number for number in codebook_by_list(quantile, offset)], "the other way round"),
        (lambda quantile, offset: 2 * codebook_by_index(quantile, offset), "your largest is 2.000"),
        (
            lambda quantile, offset: [quantile(s) / quantile(offset) for s in np.linspace(1 - offset, offset, 16)],
            "is 0",
        ),
        (lambda quantile, offset: np.linspace(-1, 1, 17)[:16], "yours is"),
        (lambda quantile, offset: codebook_by_list(quantile, offset)[1:], "shape"),
    ],
    "2.9": [
        (memory_with(optimiser=0.5), "AdamW keeps two moments"),
        (memory_with(weights=8), "a byte has 8 of them"),
        (memory_with(gradients=0.5), "every trained parameter has one gradient"),
        (memory_of_all, "a frozen one has none"),
        (memory_with(checkpoints=0.25), "each layer keeps its input"),
        (memory_with(weights=1e6), "that is in bytes"),
        (memory_with(weights=1e-3), "that is in GB"),
        (memory_with(weights=1e6 / 2**20), "1,000,000 bytes here"),
        (lambda *case: {"weights": memory(*case)["weights"]}, "The part 'adapter' is missing"),
        (lambda *case: sum(memory(*case).values()), "Expected a dict with the parts"),
    ],
}
