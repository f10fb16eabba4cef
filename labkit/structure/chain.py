"""The chain of a dialogue: which cluster follows which, and how many bits that knowledge saves."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas

from labkit.errors import LabError
from labkit.structure.words import word_counter

Paths = list[tuple[float, list[int]]]  # (probability, states between BEGIN and END)


def label_sequences(rows: pandas.DataFrame, labels: Sequence[int]) -> list[list[int]]:
    """The labels of each dialogue, turn by turn; noise (-1) is left out."""
    groups = rows.assign(label=np.asarray(labels)).query("label >= 0").sort_values("turn", kind="stable")
    return [group.tolist() for _, group in groups.groupby("dialogue_id", sort=False)["label"]]


def transition_matrix(sequences: Iterable[Sequence[int]], k: int) -> np.ndarray:
    """P(next state | state), [k+2, k+2], of the Markov chain of dialogues; state k is BEGIN, state k+1 is END.

    Every row sums to one: END is absorbing, and a state that never occurs goes anywhere but to BEGIN, equally often.

    Raises:
        LabError: a label outside 0..k-1.
    """
    counts = np.zeros((k + 2, k + 2))
    for sequence in sequences:
        if not all(0 <= label < k for label in sequence):
            raise LabError(f"a label outside 0..{k - 1}", str(list(sequence)), "relabel the clusters")
        path = [k, *sequence, k + 1]
        np.add.at(counts, (path[:-1], path[1:]), 1)
    counts[k + 1, k + 1] = 1
    unseen = counts.sum(1) == 0
    counts[unseen, :k] = counts[unseen, k + 1] = 1
    return counts / counts.sum(1, keepdims=True)


def likely_paths(matrix: np.ndarray, n: int = 5, turns: int | None = None, max_turns: int = 20) -> Paths:
    """The `n` most probable paths from BEGIN to END, with exactly `turns` states between them or at most `max_turns`
    (n-best Viterbi: of each length only the n best ways into every state are kept).
    """
    begin = len(matrix) - 2
    ways: dict[int, Paths] = {begin: [(1.0, [])]}
    ended: Paths = []
    for length in range((turns or max_turns) + 1):
        steps = [(p, path, matrix[state]) for state, best in ways.items() for p, path in best if p > 0]
        ended += [(float(p * row[begin + 1]), path) for p, path, row in steps if turns in (None, length)]
        ways = {s: heapq.nlargest(n, ((p * row[s], [*path, s]) for p, path, row in steps)) for s in range(begin)}
    return [(p, path) for p, path in heapq.nlargest(n, ended) if p > 0]


def chain_bits(train: Iterable[Sequence[int]], held_out: Iterable[Sequence[int]], k: int, order: int = 1) -> float:
    """Bits per step, END included, that a Markov chain of this order needs for held-out dialogues; lower is better.

    The counts of a context are smoothed towards those of the context one shorter, down to the uniform distribution
    (MacKay & Peto 1995), so that a higher order does not lose for lack of data alone.
    """

    def steps(sequences: Iterable[Sequence[int]]) -> Iterator[tuple[int, ...]]:  # (… the states before, state)
        for sequence in sequences:
            path = (*[k] * order, *map(int, sequence), k + 1)  # BEGIN fills up the first contexts
            yield from (path[i - order : i + 1] for i in range(order, len(path)))

    grams, contexts, bits = Counter(), Counter(), []
    for gram in steps(train):
        grams.update(gram[n:] for n in range(order + 1))
        contexts.update(gram[n:-1] for n in range(order + 1))
    for gram in steps(held_out):
        p = 1 / (k + 1)
        for n in reversed(range(order + 1)):  # from the empty context to the full one
            p = (grams[gram[n:]] + 5 * p) / (contexts[gram[n:-1]] + 5)  # as if 5 steps had followed it
        bits.append(-np.log2(p))
    return float(np.mean(bits))


def turn_bits(rows: pandas.DataFrame, labels: Sequence[int], order: int = 1, share: float = 0.8) -> dict[str, float]:
    """Bits per turn for the dialogues after the first `share`: which cluster comes (END included), then which words.

    A chain of more states always finds the next one harder to guess, so numbers of clusters can be compared by the sum
    only: it is the length of a code for the same utterances (Rissanen 1978). Words are drawn from their cluster's
    unigrams, smoothed towards those of all clusters as if 50 such words had been seen. Noise is a state here.
    """
    labels = np.asarray(labels)
    labels = np.where(labels < 0, labels.max() + 1, labels)
    sequences, k = label_sequences(rows, labels), int(labels.max()) + 1
    cut = int(share * len(sequences))
    known = rows["dialogue_id"].isin(rows["dialogue_id"].unique()[:cut]).to_numpy()  # [N] bool
    counts = word_counter().fit_transform(rows["utterance"])  # [N, V]
    seen = np.stack([np.ravel(counts[known & (labels == c)].sum(0)) for c in range(k)])  # [k, V]
    overall = (seen.sum(0) + 1) / (seen.sum() + seen.shape[1])  # [V]
    bits = -np.log2((seen + 50 * overall) / (seen.sum(1, keepdims=True) + 50))  # [k, V]
    told, turns = counts[~known].tocoo(), (~known).sum()
    words = (told.data * bits[labels[~known][told.row], told.col]).sum() / turns
    steps = 1 + (len(sequences) - cut) / turns  # a turn's, END included
    chain = steps * chain_bits(sequences[:cut], sequences[cut:], k, order)
    return {"cluster": float(chain), "words": float(words), "sum": float(chain + words)}
