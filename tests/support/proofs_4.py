"""Right and wrong answers to the exercises of notebook 4; test_proofs.py judges them all."""

from itertools import pairwise

import numpy as np
import torch


def one_standard_error(rows):
    best = max(rows, key=lambda row: row["stability"])
    return max(row["k"] for row in rows if row["stability"] >= best["stability"] - best["sd"])


def above_the_bar(rows):
    best = max(rows, key=lambda row: row["stability"])
    return max([row["k"] for row in rows if row["stability"] > best["stability"] - best["sd"]])


def one_standard_error_by_loop(rows):
    bar = max(row["stability"] for row in rows)
    bar -= next(row["sd"] for row in rows if row["stability"] == bar)
    for row in sorted(rows, key=lambda row: -row["k"]):
        if row["stability"] >= bar:
            return np.int64(row["k"])


def shares(counts):
    return counts / counts.sum(1, keepdims=True)


def rarity(counts):
    return np.log(1 + counts.sum() / len(counts) / counts.sum(0))


def counted(sequences, k, begin=True, end=True, absorbing=True):
    counts = np.zeros((k + 2, k + 2))
    for sequence in sequences:
        for now, following in pairwise([k] * begin + list(sequence) + [k + 1] * end):
            counts[now, following] += 1
    counts[k + 1, k + 1] = absorbing
    return counts


def rows_to_one(counts):
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def transitions_by_dictionary(sequences, k):
    follow = {state: [] for state in range(k + 2)} | {k + 1: [k + 1]}
    for sequence in sequences:
        for now, following in pairwise([k, *sequence, k + 1]):
            follow[now].append(following)
    return [[follow[i].count(j) / len(follow[i]) for j in range(k + 2)] for i in range(k + 2)]


RIGHT = {
    "4.1": [
        lambda rows: torch.tensor(one_standard_error(rows)),
        lambda rows: np.array(one_standard_error(rows)),
        one_standard_error,
        one_standard_error_by_loop,
    ],
    "4.2": [lambda n: shares(n) * rarity(n), lambda n: (np.array(n) * rarity(n)).tolist()],
    "4.3": ["c", " C"],
    "4.4": [
        lambda s, k: rows_to_one(counted(s, k) + 1e-6),
        lambda s, k: rows_to_one(counted(s, k)),
        transitions_by_dictionary,
    ],
    "4.5": ["b", "B"],
}
WRONG = {  # (answer, words of the message that it must get)
    "4.1": [
        (lambda rows: max(rows, key=lambda r: r["stability"])["k"], "so is a larger one"),
        (lambda rows: max(r["k"] for r in rows), "not stable enough"),
        (lambda rows: max(rows, key=lambda r: r["silhouette"])["k"], "you chose 4"),
        (
            lambda rows: max(r["k"] for r in rows if r["stability"] + r["sd"] >= 0.82),
            "you chose 16",
        ),  # each row's own sd
        (lambda rows: max(rows, key=lambda r: r["stability"]), "a number"),
        (lambda rows: rows[-1]["k"], "you chose"),
        (above_the_bar, "exactly on the bar"),
    ],
    "4.2": [
        (lambda n: n / n.sum(0), "seen once"),
        (shares, "frequent everywhere"),
        (lambda n: shares(n) * np.log(1 + n.sum() / n.sum(0)), "Check A and f"),
        (lambda n: shares(n) * np.log(1 + n.sum(1, keepdims=True) / (n + 1)), "scores too"),
        (lambda n: (shares(n) * rarity(n)).T, "shape"),
        (lambda n: shares(n) * rarity(n) / np.log(2), "1.44 times as large as they should be: is that the natural"),
        (lambda n: shares(n) * np.log(n.sum() / len(n) / n.sum(0)), "inside the logarithm"),
    ],
    "4.3": [("a", "cannot fall"), ("b", "grows with k"), ("d", "not all 0"), ("purity", "one letter")],
    "4.4": [
        (lambda s, k: rows_to_one(counted(s, k)).T, "swapped"),
        (lambda s, k: counted(s, k), "sums to 3.00"),
        (lambda s, k: rows_to_one(counted(s, k, absorbing=False)), "END sums to 0.00. Nothing was counted in it"),
        (lambda s, k: rows_to_one(counted(s, k, begin=False)), "BEGIN sums to 0.00"),
        (
            lambda s, k: rows_to_one(counted(s, k, end=False)),
            "row of 1 sums to 0.00",
        ),  # the 2023 lab's: END outside the rows
        (lambda s, k: rows_to_one(counted(s, k) + 1), "Count these pairs"),
        (lambda s, k: rows_to_one(counted(s, k))[:k, :k], "shape"),
    ],
    "4.5": [("a", "no worse"), ("c", "the same dialogues"), ("d", "they fall")],
}
