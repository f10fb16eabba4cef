"""The words that name a cluster, and the utterances nearest its centre."""

import sys
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas

from labkit.errors import LabError
from labkit.structure.checks import clean_texts, finite_vectors, whole_labels, whole_number

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

Texts = Sequence[str]
StopWords = str | list[str] | None  # "english", a list of words, or none
Words = dict[int, list[tuple[str, float]]]  # {cluster: [(word, score)]}, best first


def class_tf_idf(counts: np.ndarray) -> np.ndarray:
    """Scores [C, W] of words for classes from their counts [C, W]: share of the word in the class × ln(1 + A / f), A
    the mean number of words in a class, f the word's count in all (BERTopic; Grootendorst 2022, eq. 2).

    Raises:
        LabError: the counts are no table of a class or more.
    """
    counts = np.asarray(counts, dtype=float)  # [C, W]
    is_table = counts.ndim == 2 and len(counts) > 0
    if not is_table:
        found = f"shape {counts.shape}"
        action = "pass a row a class, a column a word"
        raise LabError("no table of counts", found, action)
    words_in_class = counts.sum(axis=1, keepdims=True)  # [C, 1]
    mean_words = counts.sum() / len(counts)
    count_in_all = counts.sum(axis=0)  # [W]
    rarity = np.log1p(mean_words / count_in_all.clip(1))  # [W]
    share = counts / words_in_class.clip(1)  # [C, W]
    return share * rarity


def word_counter(stop_words: StopWords = None) -> "CountVectorizer":
    """scikit-learn's CountVectorizer for lower-cased words of two letters or more; a placeholder is one word.

    A word begins with a letter of any alphabet. What follows an apostrophe ("ll", "ve") is no word.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    marks = _marks()
    placeholder = r"\[\w+\]"
    begins = rf"(?<![\w'’{marks}])"  # not inside a word
    letter = r"[^\W\d_]"  # \w without digits and underscore
    more = rf"[\w{marks}]+"
    return CountVectorizer(
        preprocessor=_folded,
        token_pattern=f"{placeholder}|{begins}{letter}{more}",
        stop_words=stop_words,
    )


def _folded(text: str) -> str:
    """Lower case; an accent that is a character of its own becomes a part of its letter where Unicode has one."""
    lower = text.lower()
    return unicodedata.normalize("NFC", lower)


@cache
def _marks() -> str:
    """Vowel signs and accents that follow a letter, for a class of a regular expression: Python's \\w lacks them."""
    marks = []
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Mn", "Mc"):
            marks.append(character)
    return "".join(marks)


def count_words(
    texts: Texts,
    stop_words: StopWords = None,
    nothing: str = "no words to count",
) -> tuple["csr_matrix", "CountVectorizer"]:
    """How often each word stands in each text, [N, V], and the counter that knows the words.

    Raises:
        LabError: no text has a word; `nothing` says what cannot be done then.
    """
    texts = clean_texts(texts)
    counter = word_counter(stop_words)
    try:
        counts = counter.fit_transform(texts)  # [N, V]
    except ValueError as error:
        found = f"{len(texts)} texts, which are empty or hold nothing but signs, numbers and stop words"
        action = "choose more dialogues, or other stop words"
        raise LabError(nothing, found, action) from error
    return counts, counter


def representative_words(
    texts: Texts,
    labels: Sequence[int],
    n: int = 10,
    stop_words: StopWords = "english",
) -> Words:
    """The `n` words of each cluster with the highest class TF-IDF, with their scores.

    Raises:
        LabError: labels of other texts, every text is noise, or no text has a word.
    """
    n = whole_number("n", n, 1)
    texts = clean_texts(texts)
    labels = whole_labels(labels, len(texts), "texts")
    is_clustered = labels >= 0  # [N] bool
    if not is_clustered.any():
        found = f"all {len(texts)} texts are noise (-1)"
        action = 'choose more dialogues, or another method, such as "kmeans"'
        raise LabError("no cluster to name", found, action)
    by_cluster = pandas.Series(texts).groupby(labels)
    joined = by_cluster.agg(" ".join)  # a text a cluster
    joined = joined.drop(-1, errors="ignore")
    counts, counter = count_words(joined, stop_words)  # [C, W]
    scores = class_tf_idf(counts.toarray())  # [C, W]
    names = counter.get_feature_names_out()
    table = pandas.DataFrame(scores, joined.index, names)
    words: Words = {}
    for c, row in table.iterrows():
        best = row.nlargest(n)
        words[int(c)] = [(word, score) for word, score in best.items() if score > 0]
    return words


def cluster_names(words: Mapping[int, Sequence[tuple[str, float]]], n: int = 3) -> dict[int, str]:
    """A name for each cluster: its id and its first `n` words; -1 is "noise"."""
    n = whole_number("n", n, 0)
    names = {}
    for c, pairs in words.items():
        first = [word for word, _ in pairs[:n]]
        names[c] = " ".join([f"{c} ·", *first])
    names[-1] = "noise"
    return names


def nearest_utterances(
    vectors: np.ndarray,
    labels: Sequence[int],
    texts: Texts,
    n: int = 5,
) -> dict[int, list[str]]:
    """For each cluster the `n` different texts whose (unit) vectors are nearest its centroid, nearest first.

    Raises:
        LabError: labels or texts of other vectors, or vectors with NaN.
    """
    n = whole_number("n", n, 1)
    vectors = finite_vectors(vectors)
    texts = clean_texts(texts)
    labels = whole_labels(labels, len(vectors), "vectors")
    if len(texts) != len(vectors):
        found = f"{len(texts)} texts, {len(vectors)} vectors"
        raise LabError("texts of other vectors", found, "pass the same rows")
    nearest = {}
    clusters = np.unique(labels[labels >= 0])
    for c in clusters:
        members = np.flatnonzero(labels == c)  # [M]
        of_members = vectors[members]  # [M, D]
        centroid = of_members.mean(axis=0)  # [D]
        closeness = of_members @ centroid  # [M], proportional to the cosine
        order = np.argsort(-closeness, kind="stable")  # [M]
        ranked = members[order]  # [M]
        different = dict.fromkeys(texts[i] for i in ranked)  # each text once, in this order
        nearest[int(c)] = list(different)[:n]
    return nearest
