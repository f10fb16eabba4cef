"""Checkers of notebook 3: perplexity, what fits, whether bigger is better, the logit lens."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from labkit.notebook.exercises.answers import Wrong, array, shown, times
from labkit.notebook.exercises.attempt import ReturnedNone
from labkit.notebook.exercises.texts import cases, texts

METRICS = ("bleu", "inform", "success")
Row = Mapping[str, float | None]


def perplexity(own: Callable) -> str:
    for case in cases("3.1"):
        probabilities = case["probabilities"]
        logarithms = np.log(probabilities)
        expected = float(np.exp(-logarithms.mean()))
        answer = array(own(logarithms), (), "one number for the text")
        got = float(answer)
        if np.isclose(got, expected):
            continue
        if np.isclose(got, 1 / expected):
            raise Wrong("That is the mean probability of a token; perplexity is the other way up: a sign is missing.")
        text = f"Token probabilities {probabilities} (you get their logarithms)"
        raise Wrong(f"{text} have perplexity {expected:.3f}; yours is {got:.3f}.")
    return "A perplexity of n: as unsure as if the model chose between n equally likely tokens each time."


def largest_that_fits(largest: Callable) -> str:
    plans = texts()["3.2"]["plans"]
    needs = {name: sum(parts.values()) for name, parts in plans.items()}
    for case in cases("3.2"):
        memory = case["memory"]
        expected = case["expected"]
        told = f"With {memory:.0f} MB and needs of {needs} MB"
        try:
            got = largest(plans, memory)
        except ReturnedNone as error:
            if expected != "none":
                raise
            raise Wrong(f"{told}, it should be {expected!r}, the text; yours is None.") from error
        if got != expected:
            raise Wrong(f"{told}, it should be {expected!r}; yours is {shown(got)}.")
    return (
        "All parts have to be in memory at once: a model whose weights alone fit is loaded, and fails when it writes."
    )


# --- 3.3 --------------------------------------------------------------------------------------------------------------


def bigger(answer: tuple[Sequence[Row], Iterable[str]]) -> str:
    """`answer` is (rows of the sweep with "parameters" and the three scores, set of metrics that grew)."""
    rows, given = answer
    if not rows:
        raise Wrong("Your sweep has no tuned model: its lines above say why.")
    if isinstance(given, str):
        raise Wrong("Give a set: put the names into braces, as in the text above.")
    grew = {str(name).strip().casefold() for name in given}
    small = min(rows, key=lambda row: row["parameters"])
    large = max(rows, key=lambda row: row["parameters"])
    measured = _measured(small, large)
    unknown = sorted(grew - measured.keys())
    if unknown:
        raise Wrong(f"Choose out of {', '.join(measured)}; you also have {', '.join(unknown)}.")
    for metric, (first, last) in measured.items():
        it_grew = last > first
        if it_grew != (metric in grew):
            went = f"goes from {first:.2f} to {last:.2f} between the smallest and the largest model"
            raise Wrong(f"{metric} {went}; look at your answer again.")
    return (
        f"Right, in your measurement on {times(len(rows), 'model')}. With few test dialogues a difference of some "
        "points is within the noise: compare the intervals before you call it an effect of size."
    )


def _measured(small: Row, large: Row) -> dict[str, tuple[float, float]]:
    """{metric: (score of the smallest, of the largest)}; a corpus without goals has no Inform and no Success."""
    pairs = {}
    for metric in METRICS:
        first = small[metric]
        last = large[metric]
        if _is_score(first) and _is_score(last):
            pairs[metric] = (first, last)
    return pairs


def _is_score(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


# --- 3.4 --------------------------------------------------------------------------------------------------------------


def logit_lens(lens: Callable) -> str:
    draw = np.random.default_rng(3)
    hidden = 3 * draw.normal(size=(4, 6))  # [layers, H]
    head = draw.normal(size=(9, 6))  # [V, H]
    gain = draw.uniform(0.5, 2, size=6)
    bias = draw.normal(size=6)

    def norm(states: np.ndarray) -> np.ndarray:
        """Root mean square normalisation; its gain and bias show whether it was applied once."""
        mean_square = (states**2).mean(-1, keepdims=True)
        return gain * states / np.sqrt(mean_square) + bias

    expected = _softmax(norm(hidden) @ head.T)  # [layers, V]
    got = array(lens(hidden, norm, head), expected.shape, "probabilities, a row for each layer")
    sums = got.sum(-1)
    if not np.allclose(sums, 1):
        rounded = np.round(sums, 2)
        raise Wrong(f"Every layer has probabilities of its own: your rows sum to {rounded}, not to 1.")
    if np.allclose(got, _softmax(hidden @ head.T)):
        raise Wrong("The head expects what the final normalisation hands it; you gave it the raw states.")
    twice = norm(norm(hidden))
    if np.allclose(got[-1], _softmax(twice @ head.T)[-1]):
        raise Wrong("The normalisation was applied twice; its gain and bias then count twice, too.")
    differs = ~np.isclose(got, expected, atol=1e-6)
    if differs.any():
        place = np.argwhere(differs)[0]
        right = expected[tuple(place)]
        mine = got[tuple(place)]
        layer, token = place
        raise Wrong(f"Layer {layer} gives token {token} the probability {right:.3f}; yours is {mine:.3f}.")
    return "The last row is the model's own answer; the rows before it say where the answer came up."


def _softmax(logits: np.ndarray) -> np.ndarray:
    largest = logits.max(-1, keepdims=True)
    weights = np.exp(logits - largest)
    return weights / weights.sum(-1, keepdims=True)


CHECKERS = {
    "3.1": perplexity,
    "3.2": largest_that_fits,
    "3.3": bigger,
    "3.4": logit_lens,
}
