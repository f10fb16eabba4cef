"""The chain of a dialogue: which cluster follows which, and how many bits that knowledge saves."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pandas

from labkit.errors import LabError
from labkit.structure.checks import whole_labels, whole_number
from labkit.structure.words import count_words

Paths = list[tuple[float, list[int]]]  # (probability, states between BEGIN and END)
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
    groups = rows.assign(label=labels).query("label >= 0").sort_values("turn", kind="stable")
    return [group.tolist() for _, group in groups.groupby("dialogue_id", sort=False)["label"]]


def _states(sequence: Sequence[int], k: int) -> list[int]:
    """The sequence, if all its labels are whole numbers from 0 to k-1."""
    states = list(sequence)
    for label in states:
        is_whole = isinstance(label, int | np.integer) and not isinstance(label, bool)
        if not is_whole or not 0 <= label < k:
            raise LabError(f"a label outside 0..{k - 1}", str(states)[:200], "relabel the clusters")
    return [int(label) for label in states]


def transition_matrix(sequences: Iterable[Sequence[int]], k: int) -> np.ndarray:
    """P(next state | state), [k+2, k+2], of the Markov chain of dialogues; state k is BEGIN, state k+1 is END.

    Every row sums to one: END is absorbing, and a state that never occurs goes anywhere but to BEGIN, equally often.

    Raises:
        LabError: a label outside 0..k-1, or a k that is no number of clusters.
    """
    k = whole_number("k", k, 0)
    begin, end = k, k + 1
    counts = np.zeros((k + 2, k + 2))
    for sequence in sequences:
        path = [begin, *_states(sequence, k), end]
        for now, following in pairwise(path):
            counts[now, following] += 1
    counts[end, end] = 1
    unseen = counts.sum(axis=1) == 0  # [k+2]
    counts[unseen, :k] = 1
    counts[unseen, end] = 1
    return counts / counts.sum(axis=1, keepdims=True)


def likely_paths(matrix: np.ndarray, n: int = 5, turns: int | None = None, max_turns: int = 20) -> Paths:
    """The `n` most probable paths from BEGIN to END, with exactly `turns` states between them or at most `max_turns`
    (n-best Viterbi: of each length only the n best ways into every state are kept).

    Raises:
        LabError: no matrix of `transition_matrix`, or a number that cannot be.
    """
    matrix = _square(matrix)
    n = whole_number("n", n, 1)
    longest = whole_number("max_turns", max_turns, 0) if turns is None else whole_number("turns", turns, 0)
    begin, end = len(matrix) - 2, len(matrix) - 1
    ways: dict[int, Paths] = {begin: [(1.0, [])]}  # state -> the best paths into it
    ended: Paths = []
    for length in range(longest + 1):
        if turns in (None, length):
            for state, paths in ways.items():
                ended += [(float(p * matrix[state, end]), path) for p, path in paths]
        ways = {state: _best_ways_into(state, ways, matrix, n) for state in range(begin)}
    return [(p, path) for p, path in heapq.nlargest(n, ended) if p > 0]


def _square(matrix: np.ndarray) -> np.ndarray:
    matrix = np.asarray(matrix)
    is_square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] >= 2
    if not is_square or not np.isfinite(matrix).all():
        raise LabError("no matrix of transitions", f"shape {matrix.shape}", "pass what transition_matrix returned")
    return matrix


def _best_ways_into(state: int, ways: dict[int, Paths], matrix: np.ndarray, n: int) -> Paths:
    """The `n` most probable paths that are one step longer than those in `ways` and end in `state`."""
    longer: Paths = []
    for before, paths in ways.items():
        step = matrix[before, state]
        if step > 0:
            longer += [(p * step, [*path, state]) for p, path in paths]
    return heapq.nlargest(n, longer)


# --- bits -------------------------------------------------------------------------------------------------------------


def chain_bits(
    train: Iterable[Sequence[int]],
    held_out: Iterable[Sequence[int]],
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
    k, order = whole_number("k", k, 0), whole_number("order", order, 0)
    if smoothing not in SMOOTHINGS:
        raise LabError(f"unknown smoothing {smoothing!r}", "", f"choose one of {', '.join(SMOOTHINGS)}")
    grams: Counter[Gram] = Counter()
    contexts: Counter[Gram] = Counter()  # grams without their last state
    for gram in _grams(train, k, order):
        for start in range(order + 1):
            grams[gram[start:]] += 1
            contexts[gram[start:-1]] += 1
    bits = []
    for gram in _grams(held_out, k, order):
        if smoothing == "add-one":
            p = (grams[gram] + 1) / (contexts[gram[:-1]] + k + 1)  # k states and END
        else:
            p = _hierarchical(gram, grams, contexts, k)
        bits.append(-np.log2(p))
    if not bits:
        raise LabError("no dialogue held out", "nothing to measure the bits of", "choose more dialogues")
    return float(np.mean(bits))


def _grams(sequences: Iterable[Sequence[int]], k: int, order: int) -> Iterator[Gram]:
    """Each step of each dialogue as (… the `order` states before, state); BEGIN (k) fills up the first contexts."""
    for sequence in sequences:
        path = (*[k] * order, *_states(sequence, k), k + 1)
        for i in range(order, len(path)):
            yield path[i - order : i + 1]


def _hierarchical(gram: Gram, grams: Counter[Gram], contexts: Counter[Gram], k: int) -> float:
    """P(last state | states before), each context's counts smoothed towards the distribution of the one shorter."""
    p = 1 / (k + 1)  # uniform over k states and END
    for start in reversed(range(len(gram))):  # from the empty context to the full one
        seen, of = grams[gram[start:]], contexts[gram[start:-1]]
        p = (seen + PRIOR_STEPS * p) / (of + PRIOR_STEPS)
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
    labels = np.where(labels < 0, labels.max() + 1, labels)  # [N]
    k = int(labels.max()) + 1
    sequences = label_sequences(rows, labels)
    known = rows["dialogue_id"].isin(dialogues[:cut]).to_numpy()  # [N] bool
    turns = int((~known).sum())
    words = _word_bits(rows["utterance"], labels, known, k) / turns
    steps = 1 + (len(sequences) - cut) / turns  # a turn's, END included
    chain = steps * chain_bits(sequences[:cut], sequences[cut:], k, order)
    return {"cluster": float(chain), "words": float(words), "sum": float(chain + words)}


def _cut(dialogues: int, share: float) -> int:
    """How many of the dialogues are the first `share`; at least one is in each part."""
    cut = int(share * dialogues) if isinstance(share, int | float) and 0 < share < 1 else 0
    if not 0 < cut < dialogues:
        found = f"{dialogues} dialogues, share {share!r}"
        action = "choose more dialogues, and a share between 0 and 1"
        raise LabError("no dialogue to learn from, or none held out", found, action)
    return cut


def _word_bits(utterances: Sequence[str], labels: np.ndarray, known: np.ndarray, k: int) -> float:
    """Bits of all words of the utterances that are not `known`, given the cluster of each."""
    counts, _ = count_words(utterances)  # [N, V]
    seen = np.stack([np.ravel(counts[known & (labels == c)].sum(axis=0)) for c in range(k)])  # [k, V]
    overall = (seen.sum(axis=0) + 1) / (seen.sum() + seen.shape[1])  # [V], add-one
    in_cluster = seen.sum(axis=1, keepdims=True)  # [k, 1]
    p = (seen + PRIOR_WORDS * overall) / (in_cluster + PRIOR_WORDS)  # [k, V]
    bits = -np.log2(p)  # [k, V]
    told = counts[~known].tocoo()  # (utterance, word, count) of each word that occurs
    cluster_of_word = labels[~known][told.row]
    return (told.data * bits[cluster_of_word, told.col]).sum()
