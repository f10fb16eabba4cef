"""Checkers of notebook 4: choosing k, words that name a cluster, the chain of a dialogue."""

from collections.abc import Callable

import numpy as np

from labkit.notebook.exercises.answers import Wrong, array, shown, whole_number
from labkit.notebook.exercises.texts import cases
from labkit.structure import class_tf_idf, transition_matrix

_SMOOTHED = 1e-4  # a little smoothing of transition probabilities changes nothing


# --- 4.1 --------------------------------------------------------------------------------------------------------------


def largest_stable_k(best_k: Callable) -> str:
    for case in cases("4.1"):
        rows = _sweep(case)
        answer = best_k(rows)
        got = whole_number(answer)
        if got is None:
            kind = type(answer).__name__
            mine = shown(answer)
            raise Wrong(f"Return k itself, a number; you returned {mine}, a {kind}.")
        stable = _stable(rows)
        if got == max(stable):
            continue
        why = "that k is not stable enough"
        if got in stable:
            why = "that k is stable enough, but so is a larger one"
        name = case["name"]
        table = _table(rows)
        raise Wrong(f"When {name} ({table}) you chose {got}: {why}.")
    return (
        "As much detail as the data support: Tibshirani and Walther (2005) also take the largest k that is still "
        "stable. Breiman's one-standard-error rule, which looks alike, takes the simplest model instead."
    )


def _sweep(case: dict) -> list[dict]:
    """The rows that `choose_k` would return for a case of exercises.toml."""
    ks = case["k"]
    stabilities = case["stability"]
    deviations = case["sd"]
    rows = []
    for k, stability, sd in zip(ks, stabilities, deviations, strict=True):
        row = {
            "k": k,
            "silhouette": 0.5 - k / 100,
            "stability": stability,
            "sd": sd,
        }
        rows.append(row)
    return rows


def _stable(rows: list[dict]) -> list[int]:
    """Every k whose stability is within one sd, that of the best row, of the best."""
    best = max(rows, key=lambda row: row["stability"])
    bar = best["stability"] - best["sd"]
    stable = []
    for row in rows:
        if row["stability"] >= bar:
            stable.append(row["k"])
    return stable


def _table(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        k = row["k"]
        stability = row["stability"]
        sd = row["sd"]
        lines.append(f"k={k}: {stability} ± {sd}")
    return ", ".join(lines)


# --- 4.2 --------------------------------------------------------------------------------------------------------------


def class_words(score: Callable) -> str:
    draw = np.random.default_rng(4)
    small = np.array([[8, 1, 9], [0, 0, 9]])  # 'hotel', a booking code, 'the'
    flat = draw.integers(1, 9, (3, 5))
    steep = draw.integers(1, 30, (4, 4))
    for counts in (small, flat, steep):
        answer = score(counts)
        got = array(answer, counts.shape, "scores")
        right = class_tf_idf(counts)  # [C, W]
        sizes = counts.sum(1, keepdims=True)  # [C, 1]
        of_counts = right * sizes  # the same order of words, as in the paper
        is_right = np.allclose(got, right)
        is_of_counts = np.allclose(got, of_counts)
        if not is_right and not is_of_counts:
            told = counts.tolist()
            why = _about_scores(got, counts, right)
            raise Wrong(f"counts {told}: {why}")
    return "Frequent here, rare elsewhere: both must hold, so neither `the` nor a booking code wins."


def _about_scores(
    got: np.ndarray,
    counts: np.ndarray,
    right: np.ndarray,
) -> str:
    """What is wrong with scores [C, W] of words in clusters."""
    sizes = counts.sum(1, keepdims=True)  # [C, 1]
    frequencies = counts.sum(0)  # [W]
    shares = counts / sizes  # [C, W]
    of_clusters = counts / frequencies  # [C, W], P(cluster | word)
    if np.allclose(got, of_clusters):
        second = got[0, 1]
        return f"P(cluster | word) gives a word seen once as much as the best: {second:.2f}."
    if np.allclose(got, shares):
        return "with the shares alone, what is frequent everywhere wins. Weigh them by rarity."
    ratio = sizes.mean() / frequencies  # A / f, [W]
    nothing_added = shares * np.log(ratio)  # [C, W]
    if np.allclose(got, nothing_added):
        return "inside the logarithm, something is added to A / f."
    along = (got * right).sum()
    square = (right**2).sum()
    factor = along / square
    scaled = factor * right
    if factor > 0 and np.allclose(got, scaled):
        return f"all scores are {factor:.3g} times as large as they should be: is that the natural logarithm?"
    cluster, word = _worst(got, right)
    mine = got[cluster, word]
    low = "high"
    if mine < right[cluster, word]:
        low = "low"
    return f"word {word} in cluster {cluster} scores too {low}. Check A and f, then the share."


def _worst(got: np.ndarray, right: np.ndarray) -> tuple[int, int]:
    """Where two matrices differ most."""
    differences = np.abs(got - right)
    largest = differences.argmax()  # counted through all rows
    row, column = np.unravel_index(largest, right.shape)
    return int(row), int(column)


# --- 4.4 --------------------------------------------------------------------------------------------------------------


def transitions(matrix: Callable) -> str:
    for case in cases("4.4"):
        k = case["k"]
        if "sequences" in case:
            sequences = case["sequences"]
            told = f"sequences {sequences}, k={k}"
        else:
            draw = np.random.default_rng(3)
            drawn = draw.integers(0, k, (20, 9))
            sequences = drawn.tolist()
            told = f"20 random sequences, k={k}"
        expected = transition_matrix(sequences, k)  # [k + 2, k + 2]
        answer = matrix(sequences, k)
        got = array(answer, expected.shape, "probabilities")
        if not np.allclose(got, expected, atol=_SMOOTHED):
            why = _about_transitions(got, expected)
            raise Wrong(f"{told}: {why}")
    return "BEGIN and END are states like others, so every row sums to one and a dialogue can end."


def _about_transitions(got: np.ndarray, expected: np.ndarray) -> str:
    """What is wrong with transition probabilities [k + 2, k + 2]; the last two states are BEGIN and END."""
    transposed = got.T
    if np.allclose(transposed, expected, atol=_SMOOTHED):
        return "rows and columns are swapped. Row i is the state now, column j the next."
    k = len(expected) - 2
    names = [str(cluster) for cluster in range(k)]
    names += ["BEGIN", "END"]
    totals = got.sum(1)  # [k + 2]
    for name, total in zip(names, totals, strict=True):
        if not np.isclose(total, 1):
            why = _about_row(name, total)
            return f"the row of {name} sums to {total:.2f}. {why}"
    now, following = _worst(got, expected)
    mine = got[now, following]
    first = names[now]
    second = names[following]
    pair = f"{first} → {second}"
    return f"you say {pair} has probability {mine:.3g}. Count these pairs by hand."


def _about_row(name: str, total: float) -> str:
    """What to ask where a row of probabilities does not sum to one."""
    is_end = name == "END"
    empty_end = is_end and total == 0
    if np.isnan(total) or empty_end:
        return "Nothing was counted in it: where should that state lead?"
    if total > 1:
        return "Is it divided by its own sum?"
    return "Where else can a dialogue go?"


CHECKERS = {
    "4.1": largest_stable_k,
    "4.2": class_words,
    "4.4": transitions,
}
