"""The words that name a cluster, and the utterances nearest its centre."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas

Texts = Sequence[str]
Words = dict[int, list[tuple[str, float]]]  # {cluster: [(word, score)]}, best first


def class_tf_idf(counts: np.ndarray) -> np.ndarray:
    """Scores [C, W] of words for classes from their counts [C, W]: share of the word in the class × ln(1 + A / f), A
    the mean number of words in a class, f the word's count in all (BERTopic; Grootendorst 2022, eq. 2).
    """
    counts = np.asarray(counts, dtype=float)
    inverse = np.log1p(counts.sum() / len(counts) / counts.sum(0).clip(1))  # [W]
    return counts / counts.sum(1, keepdims=True).clip(1) * inverse


def word_counter(stop_words: Any = None) -> Any:
    """scikit-learn's CountVectorizer for lower-cased words of two letters or more; a placeholder is one word.

    What follows an apostrophe ("ll", "ve") is no word.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(token_pattern=r"\[\w+\]|(?<![\w'’])[a-zA-Z]\w+", stop_words=stop_words)


def representative_words(texts: Texts, labels: Sequence[int], n: int = 10, stop_words: Any = "english") -> Words:
    """The `n` words of each cluster with the highest class TF-IDF, with their scores."""
    joined = pandas.Series(list(texts)).groupby(np.asarray(labels)).agg(" ".join).drop(-1, errors="ignore")
    counter = word_counter(stop_words)
    scores = class_tf_idf(counter.fit_transform(joined).toarray())  # [C, W]
    table = pandas.DataFrame(scores, joined.index, counter.get_feature_names_out())
    return {int(c): [pair for pair in row.nlargest(n).items() if pair[1]] for c, row in table.iterrows()}


def cluster_names(words: Words, n: int = 3) -> dict[int, str]:
    """A name for each cluster: its id and its first `n` words."""
    return {c: " ".join([f"{c} ·", *(word for word, _ in pairs[:n])]) for c, pairs in words.items()} | {-1: "noise"}


def nearest_utterances(vectors: np.ndarray, labels: np.ndarray, texts: Texts, n: int = 5) -> dict[int, list[str]]:
    """For each cluster the `n` different texts whose (unit) vectors are nearest its centroid, nearest first."""
    texts, result = list(texts), {}
    for c in sorted({int(label) for label in labels if label >= 0}):
        members = np.flatnonzero(np.asarray(labels) == c)
        closeness = vectors[members] @ vectors[members].mean(0)  # [members], proportional to the cosine
        ranked = members[np.argsort(-closeness, kind="stable")]
        result[c] = list(dict.fromkeys(texts[i] for i in ranked))[:n]
    return result
