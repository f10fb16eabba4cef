"""The chain of a dialogue: which cluster follows which, and how many bits that knowledge saves."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas

from labkit.errors import LabError
from labkit.structure.checks import finite_vectors, is_whole, whole_labels, whole_number
from labkit.structure.words import count_words

Sequences = Iterable[Sequence[int]]  # the states of each dialogue
Paths = list[tuple[float, list[int]]]  # (probability, states between BEGIN and END)
Ways = dict[int, Paths]  # state -> the best paths into it
Gram = tuple[int, ...]  # (… the states before, state)
PRIOR_STEPS = 5  # a context's smoothed distribution weighs as much as so many steps seen after it
PRIOR_WORDS = 50  # the words of all clusters weigh as much in a cluster as so many words seen in it
SMOOTHINGS = ("hierarchical", "add-one")


def label_sequences(rows: pandas.DataFrame, labels: Sequence[int]) -> list[list[int]]:
    """The labels of each dialogue, turn by turn; noise (-1) is left out.

    Raises:
        LabError: labels of other rows.
    """
    labels = whole_labels(labels, len(rows), "rows")
    turns = rows.assign(label=labels)
    clustered = turns[turns["label"] >= 0]
    in_order = clustered.sort_values("turn", kind="stable")
    sequences = []
    for _, dialogue in in_order.groupby("dialogue_id", sort=False):
        sequences.append(dialogue["label"].tolist())
    return sequences


def _states(sequence: Sequence[int], k: int) -> list[int]:
    """The sequence, if all its labels are whole numbers from 0 to k-1."""
    states = []
    for label in sequence:
        if not is_whole(label) or not 0 <= label < k:
            found = str(list(sequence))[:200]
            raise LabError(f"a label outside 0..{k - 1}", found, "relabel the clusters")
        states.append(int(label))
    return states


def transition_matrix(sequences: Sequences, k: int) -> np.ndarray:
    """P(next state | state), [k+2, k+2], of the Markov chain of dialogues; state k is BEGIN, state k+1 is END.

    Every row sums to one: END is absorbing, and a state that never occurs goes anywhere but to BEGIN, equally often.

    Raises:
        LabError: a label outside 0..k-1, or a k that is no number of clusters.
    """
    k = whole_number("k", k, 0)
    begin, end = k, k + 1
    counts = np.zeros((k + 2, k + 2))
    for sequence in sequences:
        states = _states(sequence, k)
        path = [begin, *states, end]
        for now, following in pairwise(path):
            counts[now, following] += 1
    counts[end, end] = 1
    unseen = counts.sum(axis=1) == 0  # [k+2]
    counts[unseen, :k] = 1
    counts[unseen, end] = 1
    totals = counts.sum(axis=1, keepdims=True)  # [k+2, 1]
    return counts / totals


def likely_paths(matrix: np.ndarray, n: int = 5, turns: int | None = None, max_turns: int = 20) -> Paths:
    """The `n` most probable paths from BEGIN to END, with exactly `turns` states between them or at most `max_turns`
    (n-best Viterbi: of each length only the n best ways into every state are kept).

    Raises:
        LabError: no matrix of `transition_matrix`, or a number that cannot be.
    """
    matrix = _square(matrix)
    n = whole_number("n", n, 1)
    longest = whole_number("max_turns", max_turns, 0)
    if turns is not None:
        longest = whole_number("turns", turns, 0)
    begin = len(matrix) - 2
    ways: Ways = {begin: [(1.0, [])]}
    ended: Paths = []
    for length in range(longest + 1):
        if turns is None or length == turns:
            ended += _endings(ways, matrix)
        ways = {state: _best_ways_into(state, ways, matrix, n) for state in range(begin)}
    return heapq.nlargest(n, ended)


def _square(matrix: np.ndarray) -> np.ndarray:
    matrix = finite_vectors(matrix)
    rows, columns = matrix.shape
    if rows != columns or rows < 2:
        found = f"shape {matrix.shape}"
        raise LabError("no matrix of transitions", found, "pass what transition_matrix returned")
    return matrix


def _endings(ways: Ways, matrix: np.ndarray) -> Paths:
    """The paths in `ways` that can END now, each with the probability that it does."""
    end = len(matrix) - 1
    ended: Paths = []
    for state, paths in ways.items():
        for p, path in paths:
            whole = float(p * matrix[state, end])
            if whole > 0:
                ended.append((whole, path))
    return ended


def _best_ways_into(state: int, ways: Ways, matrix: np.ndarray, n: int) -> Paths:
    """The `n` most probable paths that are one step longer than those in `ways` and end in `state`."""
    longer: Paths = []
    for before, paths in ways.items():
        step = matrix[before, state]
        if step == 0:
            continue
        for p, path in paths:
            longer.append((p * step, [*path, state]))
    return heapq.nlargest(n, longer)


# --- bits -------------------------------------------------------------------------------------------------------------


def chain_bits(
    train: Sequences,
    held_out: Sequences,
    k: int,
    order: int = 1,
    *,
    smoothing: str = "hierarchical",
) -> float:
    """Bits per step, END included, that a Markov chain of this order needs for held-out dialogues; lower is better.

    `smoothing` says what a context that was seen seldom, or never, is followed by:

    - "hierarchical": its counts are smoothed towards those of the context one shorter, down to the uniform distribution
      (MacKay & Peto 1995), so that a higher order does not lose for lack of data alone.
    - "add-one": every state, and END, as if it had followed once more (Laplace), so that a higher order does lose.

    Raises:
        LabError: no dialogue held out, a label outside 0..k-1, or an order or smoothing that is none.
    """
    k = whole_number("k", k, 0)
    order = whole_number("order", order, 0)
    if smoothing not in SMOOTHINGS:
        raise LabError(f"unknown smoothing {smoothing!r}", "", f"choose one of {', '.join(SMOOTHINGS)}")
    smoothed = _add_one if smoothing == "add-one" else _hierarchical
    counts = _counts(train, k, order)
    bits = []
    for gram in _grams(held_out, k, order):
        p = smoothed(gram, counts, k)
        bits.append(-np.log2(p))
    if not bits:
        raise LabError("no dialogue held out", "nothing to measure the bits of", "choose more dialogues")
    return float(np.mean(bits))


def _grams(sequences: Sequences, k: int, order: int) -> Iterator[Gram]:
    """Each step of each dialogue as (… the `order` states before, state); BEGIN (k) fills up the first contexts."""
    for sequence in sequences:
        before, states = [k] * order, _states(sequence, k)
        path = (*before, *states, k + 1)
        for i in range(order, len(path)):
            yield path[i - order : i + 1]


@dataclass(frozen=True)
class _Counts:
    """How often each gram, and each gram without its last state, was seen; of all lengths up to order + 1."""

    grams: Counter[Gram]
    contexts: Counter[Gram]


def _counts(sequences: Sequences, k: int, order: int) -> _Counts:
    counts = _Counts(Counter(), Counter())
    for longest in _grams(sequences, k, order):
        for start in range(order + 1):
            gram = longest[start:]
            counts.grams[gram] += 1
            counts.contexts[gram[:-1]] += 1
    return counts


def _add_one(gram: Gram, counts: _Counts, k: int) -> float:
    """P(last state | states before), every state and END as if seen once more."""
    seen = counts.grams[gram]
    in_context = counts.contexts[gram[:-1]]
    outcomes = k + 1  # k states and END
    return (seen + 1) / (in_context + outcomes)


def _hierarchical(longest: Gram, counts: _Counts, k: int) -> float:
    """P(last state | states before), each context's counts smoothed towards the distribution of the one shorter."""
    p = 1 / (k + 1)  # uniform over k states and END
    for start in reversed(range(len(longest))):  # from the empty context to the full one
        gram = longest[start:]
        seen = counts.grams[gram]
        in_context = counts.contexts[gram[:-1]]
        p = (seen + PRIOR_STEPS * p) / (in_context + PRIOR_STEPS)
    return p


def turn_bits(rows: pandas.DataFrame, labels: Sequence[int], order: int = 1, share: float = 0.8) -> dict[str, float]:
    """Bits per turn for the dialogues after the first `share`: which cluster comes (END included), then which words.

    A chain of more states always finds the next one harder to guess, so numbers of clusters can be compared by the sum
    only: it is the length of a code for the same utterances (Rissanen 1978). Words are drawn from their cluster's
    unigrams, smoothed towards those of all clusters as if 50 such words had been seen. Noise is a state here.

    Raises:
        LabError: labels of other rows, no dialogue in one of the two parts, or no text with a word.
    """
    labels = whole_labels(labels, len(rows), "rows")
    dialogues = rows["dialogue_id"].unique()
    cut = _cut(len(dialogues), share)
    noise = labels.max() + 1
    labels = np.where(labels < 0, noise, labels)  # [N]
    k = int(labels.max()) + 1
    sequences = label_sequences(rows, labels)
    known = rows["dialogue_id"].isin(dialogues[:cut])
    known = known.to_numpy()  # [N] bool
    turns = int((~known).sum())
    words = _word_bits(rows["utterance"], labels, known, k) / turns
    train, held_out = sequences[:cut], sequences[cut:]
    steps = 1 + len(held_out) / turns  # a turn's, END included
    chain = steps * chain_bits(train, held_out, k, order)
    return {"cluster": float(chain), "words": float(words), "sum": float(chain + words)}


def _cut(dialogues: int, share: float) -> int:
    """How many of the dialogues are the first `share`; at least one is in each part."""
    cut = 0
    if isinstance(share, float) and 0 < share < 1:
        cut = int(share * dialogues)
    if not 0 < cut < dialogues:
        found = f"{dialogues} dialogues, share {share!r}"
        action = "choose more dialogues, and a share between 0 and 1"
        raise LabError("no dialogue to learn from, or none held out", found, action)
    return cut


def _word_bits(utterances: Sequence[str], labels: np.ndarray, known: np.ndarray, k: int) -> float:
    """Bits of all words of the utterances that are not `known`, given the cluster of each."""
    counts, _ = count_words(utterances)  # [N, V]
    seen = np.zeros((k, counts.shape[1]), dtype=int)  # [k, V]
    for c in range(k):
        members = known & (labels == c)  # [N] bool
        seen[c] = np.ravel(counts[members].sum(axis=0))
    vocabulary = seen.shape[1]
    overall = (seen.sum(axis=0) + 1) / (seen.sum() + vocabulary)  # [V], add-one
    in_cluster = seen.sum(axis=1, keepdims=True)  # [k, 1]
    p = (seen + PRIOR_WORDS * overall) / (in_cluster + PRIOR_WORDS)  # [k, V]
    bits = -np.log2(p)  # [k, V]
    told = counts[~known].tocoo()  # (utterance, word, count) of each word that occurs
    cluster_of = labels[~known]
    price = bits[cluster_of[told.row], told.col]
    return (told.data * price).sum()
