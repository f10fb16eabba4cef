"""Checkers of notebook 3: perplexity, what fits, whether bigger is better, the logit lens."""

from collections.abc import Callable
from typing import Any

import numpy as np

from labkit.notebook.exercises import Wrong, exercise
from labkit.notebook.exercises.notebook1 import vector

METRICS = ("bleu", "inform", "success")


@exercise("3.1")
def perplexity(own: Callable) -> str:
    cases = [[0.25] * 4, [0.25] * 9, [1.0, 1.0], [0.5, 0.1, 0.9]]
    for probabilities in cases:
        expected = float(np.exp(-np.mean(np.log(probabilities))))
        got = vector(own(np.log(probabilities)), np.array(expected), "one number for the text")
        if np.isclose(got, 1 / expected) and expected > 1:
            raise Wrong("That is the mean probability of a token; perplexity is the other way up: a sign is missing.")
        if not np.isclose(got, expected):
            said = f"Token probabilities {probabilities} (you get their logarithms) have perplexity {expected:.3f}; "
            raise Wrong(said + f"yours is {got:.3f}.")
    return "A perplexity of n: as unsure as if the model chose between n equally likely tokens each time."


@exercise("3.2")
def largest_that_fits(largest: Callable) -> str:
    plans = {"1b": {"weights": 2000.0, "cache": 300.0}, "7b": {"weights": 14000.0, "cache": 2500.0}}
    plans |= {"410m": {"weights": 800.0, "cache": 200.0}, "3b": {"weights": 6000.0, "cache": 900.0}}
    for memory, expected in ((16_000.0, "3b"), (16_500.0, "7b"), (1_000.0, "410m"), (100.0, "none")):
        got = largest(plans, memory)
        if got != expected:
            sums = {name: sum(parts.values()) for name, parts in plans.items()}
            raise Wrong(f"With {memory:.0f} MB and needs of {sums} MB, it should be {expected!r}; yours is {got!r}.")
    return (
        "All parts have to be in memory at once: a model whose weights alone fit is loaded, and fails when it writes."
    )


@exercise("3.4")
def logit_lens(lens: Callable) -> str:
    draw = np.random.default_rng(3)
    hidden, head = 3 * draw.normal(size=(4, 6)), draw.normal(size=(9, 6))

    def norm(states: np.ndarray) -> np.ndarray:
        return states / np.sqrt((states**2).mean(-1, keepdims=True))

    def softmax(logits: np.ndarray) -> np.ndarray:
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True)

    logits = norm(hidden) @ head.T  # [4, 9]
    expected = softmax(logits)
    got = vector(lens(hidden, norm, head), logits, "probabilities, a row for each layer")
    if not np.allclose(got.sum(-1), 1):
        raise Wrong(f"Every layer has probabilities of its own: your rows sum to {np.round(got.sum(-1), 2)}, not to 1.")
    if np.allclose(got, softmax(hidden @ head.T)):
        raise Wrong("The head expects what the final normalisation hands it; you gave it the raw states.")
    if not np.allclose(got, expected, atol=1e-6):
        row, token = np.argwhere(~np.isclose(got, expected, atol=1e-6))[0]
        said = f"Layer {row} gives token {token} the probability {expected[row, token]:.3f}"
        raise Wrong(f"{said}; yours is {got[row, token]:.3f}.")
    return "The last row is the model's own answer; the rows before it say where the answer came up."


@exercise("3.3")
def bigger(answer: Any) -> str:
    """`answer` is (rows of the sweep with "parameters" and the three scores, set of metrics that grew)."""
    rows, grew = answer
    if not rows:
        raise Wrong("Your sweep has no tuned model: its lines above say why.")
    if isinstance(grew, str):
        raise Wrong("Give a set: put the names into braces, as in the text above.")
    ordered = sorted(rows, key=lambda row: row["parameters"])
    small, large = ordered[0], ordered[-1]
    if unknown := set(grew) - set(METRICS):
        raise Wrong(f"Choose out of {', '.join(METRICS)}; you also have {', '.join(map(str, unknown))}.")
    for metric in METRICS:
        if (large[metric] > small[metric]) != (metric in grew):
            went = f"goes from {small[metric]:.2f} to {large[metric]:.2f} between the smallest and the largest model"
            raise Wrong(f"{metric} {went}; look at your answer again.")
    return (
        f"Right, in your measurement on {len(rows)} models. With few test dialogues a difference of some points is "
        "within the noise: compare the intervals before you call it an effect of size."
    )
