"""Checkers of notebook 3: perplexity, and whether bigger is better."""

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
def bigger(answer: Any) -> str:
    """`answer` is (rows of the sweep with "parameters" and the three scores, set of metrics that grew)."""
    rows, grew = answer
    small, *_, large = sorted(rows, key=lambda row: row["parameters"])
    if unknown := set(grew) - set(METRICS):
        raise Wrong(f"Choose out of {', '.join(METRICS)}; you also have {', '.join(map(str, unknown))}.")
    for metric in METRICS:
        if (large[metric] > small[metric]) != (metric in grew):
            went = f"goes from {small[metric]:.1f} to {large[metric]:.1f} between the smallest and the largest model"
            raise Wrong(f"{metric} {went}; look at your answer again.")
    return (
        f"Right, in your measurement on {len(rows)} models. With few test dialogues a difference of some points is "
        "within the noise: compare the intervals before you call it an effect of size."
    )
