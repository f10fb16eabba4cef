"""Checkers of notebook 4: choosing k, words that name a cluster, agreement with chance, the chain of a dialogue."""

from collections.abc import Callable

import numpy as np

from labkit.notebook.exercises import Wrong, exercise
from labkit.notebook.exercises.notebook1 import vector
from labkit.structure import class_tf_idf, transition_matrix


@exercise("4.1")
def largest_stable_k(best_k: Callable) -> str:
    cases = {
        "the middle k is the most stable": ((4, 0.70, 0.02), (8, 0.82, 0.05), (12, 0.78, 0.01), (16, 0.60, 0.3)),
        "one k stands out": ((4, 0.9, 0.01), (8, 0.7, 0.4), (12, 0.6, 0.4)),
        "the rows come in another order": ((16, 0.5, 0.1), (12, 0.85, 0.02), (4, 0.86, 0.03), (8, 0.7, 0.01)),
        "the last k is as good as any": ((4, 0.5, 0.1), (8, 0.6, 0.1), (12, 0.6, 0.1)),
    }
    for case, values in cases.items():
        rows = [{"k": k, "silhouette": 0.5 - k / 100, "stability": s, "sd": sd} for k, s, sd in values]
        best = max(rows, key=lambda row: row["stability"])
        stable = [row["k"] for row in rows if row["stability"] >= best["stability"] - best["sd"]]
        got = best_k(rows)
        if isinstance(got, dict) or not np.isscalar(got) or isinstance(got, str):
            raise Wrong(f"Return k itself, a number; you returned a {type(got).__name__}.")
        if got != max(stable):
            table = ", ".join(f"k={k}: {s} ± {sd}" for k, s, sd in values)
            why = "that k is stable enough, but so is a larger one" if got in stable else "that k is not stable enough"
            raise Wrong(f"When {case} ({table}) you chose {got}: {why}.")
    return "The rule is Breiman's: as much detail as the data support, give or take the noise of the measurement."


@exercise("4.2")
def class_words(score: Callable) -> str:
    draw = np.random.default_rng(4)
    small = np.array([[8, 1, 9], [0, 0, 9]])  # 'hotel', a booking code, 'the'
    for counts in (small, draw.integers(1, 9, (3, 5)), draw.integers(1, 30, (4, 4))):
        got, case = vector(score(counts), counts, "scores"), f"counts {counts.tolist()}"
        right = class_tf_idf(counts)
        if np.allclose(got, right) or np.allclose(got, right * counts.sum(1, keepdims=True)):
            continue  # raw counts in place of shares: the same order of words, as in the paper
        if np.allclose(got, counts / counts.sum(0)):
            raise Wrong(f"{case}: P(cluster | word) gives a word seen once as much as the best: {got[0, 1]:.2f}.")
        if np.allclose(got, counts / counts.sum(1, keepdims=True)):
            raise Wrong(f"{case}: with the shares alone, what is frequent everywhere wins. Weigh them by rarity.")
        place = np.unravel_index(np.abs(got - right).argmax(), right.shape)
        low = "low" if got[place] < right[place] else "high"
        raise Wrong(f"{case}: word {place[1]} in cluster {place[0]} scores too {low}. Check A and f, then the share.")
    return "Frequent here, rare elsewhere: both must hold, so neither `the` nor a booking code wins."


@exercise("4.4")
def transitions(matrix: Callable) -> str:
    draw = np.random.default_rng(3)
    random = [[int(s) for s in draw.integers(0, 4, 9)] for _ in range(20)]
    for sequences, k in (([[0, 1], [0, 0, 1]], 2), ([[2, 0, 1, 1], [2, 1, 0]], 3), (random, 4)):
        expected = transition_matrix(sequences, k)
        got = vector(matrix(sequences, k), expected, "probabilities")
        case = f"sequences {sequences}, k={k}" if k < 4 else "20 random sequences, k=4"
        names = [*map(str, range(k)), "BEGIN", "END"]
        if np.allclose(got, expected):
            continue
        if np.allclose(got.T, expected):
            raise Wrong(f"{case}: rows and columns are swapped. Row i is the state now, column j the next.")
        sums = got.sum(1)
        for row in np.flatnonzero(~np.isclose(sums, 1)):
            asks = "Is it divided by its own sum?" if sums[row] > 1 else "Where else can a dialogue go?"
            asks = "Nothing was counted in it: where should that state lead?" if np.isnan(sums[row]) else asks
            raise Wrong(f"{case}: the row of {names[row]} sums to {sums[row]:.2f}. {asks}")
        i, j = np.unravel_index(np.abs(got - expected).argmax(), got.shape)
        raise Wrong(
            f"{case}: you say {names[i]} → {names[j]} has probability {got[i, j]:.2f}. Count these pairs by hand."
        )
    return "BEGIN and END are states like others, so every row sums to one and a dialogue can end."
