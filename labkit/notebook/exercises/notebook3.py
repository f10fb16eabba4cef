"""Checkers of notebook 3: perplexity, what fits, whether bigger is better, the logit lens."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from labkit.notebook.exercises import cache_by_hand, scores_by_hand
from labkit.notebook.exercises.answers import Wrong, array, shown, times
from labkit.notebook.exercises.attempt import ReturnedNone
from labkit.notebook.exercises.texts import cases, texts

METRICS = ("bleu", "inform", "success")
Row = Mapping[str, float | None]
Answer = tuple[Sequence[Row], Iterable[str]]
Pair = tuple[float, float]  # (score of the smallest model, of the largest)


def perplexity(own: Callable) -> str:
    for case in cases("3.1"):
        probabilities = case["probabilities"]
        logarithms = np.log(probabilities)
        mean = logarithms.mean()
        expected = float(np.exp(-mean))
        answer = own(logarithms)
        scalar = array(answer, (), "one number for the text")
        got = float(scalar)
        if np.isclose(got, expected):
            continue
        upside_down = 1 / expected
        if np.isclose(got, upside_down):
            raise Wrong("That is the mean probability of a token; perplexity is the other way up: a sign is missing.")
        text = f"Token probabilities {probabilities} (you get their logarithms)"
        raise Wrong(f"{text} have perplexity {expected:.3f}; yours is {got:.3f}.")
    return "A perplexity of n: as unsure as if the model chose between n equally likely tokens each time."


def largest_that_fits(largest: Callable) -> str:
    exercise = texts()["3.2"]
    plans = exercise["plans"]
    needs = {}
    for name, parts in plans.items():
        needs[name] = sum(parts.values())
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
            mine = shown(got)
            raise Wrong(f"{told}, it should be {expected!r}; yours is {mine}.")
    return (
        "All parts have to be in memory at once: a model whose weights alone fit is loaded, and fails when it writes."
    )


# --- 3.3 --------------------------------------------------------------------------------------------------------------


def bigger(answer: Answer) -> str:
    """`answer` is (rows of the sweep with "parameters" and the three scores, set of metrics that grew)."""
    rows, given = answer
    if not rows:
        raise Wrong("Your sweep has no tuned model: its lines above say why.")
    if isinstance(given, str):
        raise Wrong("Give a set: put the names into braces, as in the text above.")
    grew = set()
    for name in given:
        text = str(name).strip()
        grew.add(text.casefold())
    small = min(rows, key=lambda row: row["parameters"])
    large = max(rows, key=lambda row: row["parameters"])
    measured = _measured(small, large)
    unknown = sorted(grew - measured.keys())
    if unknown:
        choice = ", ".join(measured)
        others = ", ".join(unknown)
        raise Wrong(f"Choose out of {choice}; you also have {others}.")
    for metric, (first, last) in measured.items():
        it_grew = last > first
        said_so = metric in grew
        if it_grew != said_so:
            went = f"goes from {first:.2f} to {last:.2f} between the smallest and the largest model"
            raise Wrong(f"{metric} {went}; look at your answer again.")
    models = times(len(rows), "model")
    return (
        f"Right, in your measurement on {models}. With few test dialogues a difference of some "
        "points is within the noise: compare the intervals before you call it an effect of size."
    )


def _measured(small: Row, large: Row) -> dict[str, Pair]:
    """{metric: (score of the smallest, of the largest)}; a corpus without goals has no Inform and no Success."""
    pairs = {}
    for metric in METRICS:
        first = small[metric]
        last = large[metric]
        both = _is_score(first) and _is_score(last)
        if both:
            pairs[metric] = (first, last)
    return pairs


def _is_score(value: float | None) -> bool:
    if value is None:
        return False
    return not math.isnan(value)


# --- 3.4 --------------------------------------------------------------------------------------------------------------


def logit_lens(lens: Callable) -> str:
    draw = np.random.default_rng(3)
    normal = draw.normal(size=(4, 6))  # [layers, H]
    hidden = 3 * normal
    head = draw.normal(size=(9, 6))  # [V, H]
    to_logits = head.T  # [H, V]
    gain = draw.uniform(0.5, 2, size=6)
    bias = draw.normal(size=6)

    def norm(states: np.ndarray) -> np.ndarray:
        """Root mean square normalisation; its gain and bias show whether it was applied once."""
        squares = states**2
        mean_square = squares.mean(-1, keepdims=True)
        root = np.sqrt(mean_square)
        return gain * states / root + bias

    once = norm(hidden)  # [layers, H]
    logits = once @ to_logits  # [layers, V]
    expected = _softmax(logits)  # [layers, V]
    answer = lens(hidden, norm, head)
    got = array(answer, expected.shape, "probabilities, a row for each layer")
    sums = got.sum(-1)  # [layers]
    if not np.allclose(sums, 1):
        rounded = np.round(sums, 2)
        raise Wrong(f"Every layer has probabilities of its own: your rows sum to {rounded}, not to 1.")
    raw_logits = hidden @ to_logits  # [layers, V]
    raw = _softmax(raw_logits)
    if np.allclose(got, raw):
        raise Wrong("The head expects what the final normalisation hands it; you gave it the raw states.")
    twice = norm(once)  # [layers, H]
    logits_of_twice = twice[-1] @ to_logits  # [V]
    my_last = got[-1]  # [V]
    if np.allclose(my_last, _softmax(logits_of_twice)):
        raise Wrong("The normalisation was applied twice; its gain and bias then count twice, too.")
    is_right = np.isclose(got, expected, atol=1e-6)  # [layers, V] bool
    differs = ~is_right
    if differs.any():
        places = np.argwhere(differs)
        layer, token = places[0]
        right = expected[layer, token]
        mine = got[layer, token]
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
    "3.5": cache_by_hand.cache_bytes,
    "3.6": cache_by_hand.write_with_cache,
    "3.7": scores_by_hand.paired_bootstrap,
}
