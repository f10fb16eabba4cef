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
    is_clustered = turns["label"] >= 0
    clustered = turns[is_clustered]
    in_order = clustered.sort_values("turn", kind="stable")
    sequences = []
    for _, dialogue in in_order.groupby("dialogue_id", sort=False):
        sequence = dialogue["label"].tolist()
        sequences.append(sequence)
    return sequences


def _states(sequence: Sequence[int], k: int) -> list[int]:
    """The sequence, if all its labels are whole numbers from 0 to k-1."""
    states = []
    for label in sequence:
        is_state = is_whole(label) and 0 <= label < k
        if not is_state:
            what = f"a label outside 0..{k - 1}"
            found = str(list(sequence))
            raise LabError(what, found[:200], "relabel the clusters")
        states.append(int(label))
    return states


def transition_matrix(sequences: Sequences, k: int) -> np.ndarray:
    """P(next state | state), [k+2, k+2], of the Markov chain of dialogues; state k is BEGIN, state k+1 is END.

    Every row sums to one: END is absorbing, and a state that never occurs goes anywhere but to BEGIN, equally often.

    Raises:
        LabError: a label outside 0..k-1, or a k that is no number of clusters.
    """
    k = whole_number("k", k, 0)
    begin = k
    end = k + 1
    n_states = k + 2
    counts = np.zeros((n_states, n_states))
    for sequence in sequences:
        states = _states(sequence, k)
        path = [begin, *states, end]
        for now, following in pairwise(path):
            counts[now, following] += 1
    counts[end, end] = 1
    totals = counts.sum(axis=1)  # [k+2]
    unseen = totals == 0  # [k+2]
    counts[unseen, :k] = 1
    counts[unseen, end] = 1
    totals = counts.sum(axis=1, keepdims=True)  # [k+2, 1]
    return counts / totals


def likely_paths(
    matrix: np.ndarray,
    n: int = 5,
    turns: int | None = None,
    max_turns: int = 20,
) -> Paths:
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
        may_end = turns is None or length == turns
        if may_end:
            ended += _endings(ways, matrix)
        longer: Ways = {}
        for state in range(begin):
            longer[state] = _best_ways_into(state, ways, matrix, n)
        ways = longer
    return heapq.nlargest(n, ended)


def _square(matrix: np.ndarray) -> np.ndarray:
    matrix = finite_vectors(matrix)
    rows, columns = matrix.shape
    if rows != columns or rows < 2:
        found = f"shape {matrix.shape}"
        action = "pass what transition_matrix returned"
        raise LabError("no matrix of transitions", found, action)
    return matrix


def _endings(ways: Ways, matrix: np.ndarray) -> Paths:
    """The paths in `ways` that can END now, each with the probability that it does."""
    end = len(matrix) - 1
    ended: Paths = []
    for state, paths in ways.items():
        step = matrix[state, end]
        for p, path in paths:
            whole = float(p * step)
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
            whole = p * step
            one_more = [*path, state]
            longer.append((whole, one_more))
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
        known = ", ".join(SMOOTHINGS)
        what = f"unknown smoothing {smoothing!r}"
        raise LabError(what, "", f"choose one of {known}")
    smoothed = _hierarchical
    if smoothing == "add-one":
        smoothed = _add_one
    counts = _counts(train, k, order)
    bits = []
    for gram in _grams(held_out, k, order):
        p = smoothed(gram, counts, k)
        bits.append(-np.log2(p))
    if not bits:
        found = "nothing to measure the bits of"
        raise LabError("no dialogue held out", found, "choose more dialogues")
    return float(np.mean(bits))


def _grams(sequences: Sequences, k: int, order: int) -> Iterator[Gram]:
    """Each step of each dialogue as (… the `order` states before, state); BEGIN (k) fills up the first contexts."""
    begin = k
    end = k + 1
    for sequence in sequences:
        before = [begin] * order
        states = _states(sequence, k)
        path = (*before, *states, end)
        for i in range(order, len(path)):
            start = i - order
            yield path[start : i + 1]


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
            context = gram[:-1]
            counts.grams[gram] += 1
            counts.contexts[context] += 1
    return counts


def _add_one(gram: Gram, counts: _Counts, k: int) -> float:
    """P(last state | states before), every state and END as if seen once more."""
    context = gram[:-1]
    seen = counts.grams[gram]
    in_context = counts.contexts[context]
    outcomes = k + 1  # k states and END
    return (seen + 1) / (in_context + outcomes)


def _hierarchical(longest: Gram, counts: _Counts, k: int) -> float:
    """P(last state | states before), each context's counts smoothed towards the distribution of the one shorter."""
    outcomes = k + 1  # k states and END
    p = 1 / outcomes  # uniform
    starts = range(len(longest))
    for start in reversed(starts):  # from the empty context to the full one
        gram = longest[start:]
        context = gram[:-1]
        seen = counts.grams[gram]
        in_context = counts.contexts[context]
        p = (seen + PRIOR_STEPS * p) / (in_context + PRIOR_STEPS)
    return p


def turn_bits(
    rows: pandas.DataFrame,
    labels: Sequence[int],
    order: int = 1,
    share: float = 0.8,
) -> dict[str, float]:
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
    of_words = _word_bits(rows["utterance"], labels, known, k)
    words = of_words / turns

    train = sequences[:cut]
    held_out = sequences[cut:]
    steps = 1 + len(held_out) / turns  # a turn's, END included
    chain = steps * chain_bits(train, held_out, k, order)
    return {
        "cluster": float(chain),
        "words": float(words),
        "sum": float(chain + words),
    }


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


def _word_bits(
    utterances: Sequence[str],
    labels: np.ndarray,
    known: np.ndarray,
    k: int,
) -> float:
    """Bits of all words of the utterances that are not `known`, given the cluster of each."""
    counts, _ = count_words(utterances)  # [N, V]
    vocabulary = counts.shape[1]
    seen = np.zeros((k, vocabulary), dtype=int)  # [k, V]
    for c in range(k):
        members = known & (labels == c)  # [N] bool
        of_cluster = counts[members].sum(axis=0)  # [1, V]
        seen[c] = np.ravel(of_cluster)
    of_word = seen.sum(axis=0)  # [V]
    in_all = seen.sum()
    overall = (of_word + 1) / (in_all + vocabulary)  # [V], add-one
    in_cluster = seen.sum(axis=1, keepdims=True)  # [k, 1]
    p = (seen + PRIOR_WORDS * overall) / (in_cluster + PRIOR_WORDS)  # [k, V]
    bits = -np.log2(p)  # [k, V]

    told = counts[~known].tocoo()  # (utterance, word, count) of each word that occurs
    cluster_of = labels[~known]
    clusters = cluster_of[told.row]
    price = bits[clusters, told.col]
    cost = told.data * price
    return cost.sum()
