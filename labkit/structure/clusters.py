"""Clusters of vectors: found, counted, and compared with gold classes.

Labels are cluster ids 0..k-1, the largest cluster first; -1 is noise (HDBSCAN only) and belongs to no cluster.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from labkit.bars import progress_bar
from labkit.errors import LabError
from labkit.structure.checks import finite_vectors, seed_number, whole_number

if TYPE_CHECKING:
    from sklearn.cluster import KMeans

Labels = Sequence[int]
Agreement = dict[str, float]  # value, chance, p
Measure = Callable[[np.ndarray, np.ndarray], float]  # (gold, labels) -> how well they agree
METHODS = ("kmeans", "gmm", "hdbscan")
COMPONENTS = 50  # principal components that "gmm" and "hdbscan" see
SAMPLE = 2_000  # vectors that a silhouette is computed on: it compares every pair


def cluster(
    vectors: np.ndarray,
    k: int,
    method: str = "kmeans",
    seed: int = 42,
    n_init: int = 10,
) -> np.ndarray:
    """Cluster ids [N], 0..k-1 without a gap, by "kmeans", "gmm" or "hdbscan" (these two on 50 principal components).

    HDBSCAN finds its own number of clusters: there `k` only says how small one may be, N / 8k. It may call all noise.

    Raises:
        LabError: unknown method, k not from 1 to the number of distinct vectors, vectors with NaN, one vector for a
            method that needs two, or a seed or n_init that is no such number.
    """
    if method not in METHODS:
        known = ", ".join(METHODS)
        what = f"unknown method {method!r}"
        raise LabError(what, "", f"choose one of {known}")
    vectors = finite_vectors(vectors)  # [N, D]
    k = whole_number("k", k, 1)
    seed = seed_number(seed)
    n_init = whole_number("n_init", n_init, 1)
    distinct = _distinct(vectors)
    if k > distinct:
        what = f"cannot make {k} clusters"
        found = f"{distinct} distinct vectors"
        raise LabError(what, found, "choose a smaller k")
    if method == "kmeans":
        model = _kmeans(k, seed, n_init)
        labels = model.fit_predict(vectors)  # [N]
        return relabel(labels)

    if len(vectors) < 2:
        what = f"{method} cannot cluster one vector"
        action = 'choose more dialogues, or method="kmeans"'
        raise LabError(what, "", action)
    components = _principal_components(vectors, seed)  # [N, 50 or fewer]
    if method == "gmm":
        labels = _gaussian_mixture(components, k, seed)
    else:
        smallest = len(vectors) // (8 * k)
        labels = _hdbscan(components, smallest)
    return relabel(labels)


def _distinct(vectors: np.ndarray) -> int:
    different = np.unique(vectors, axis=0)
    return len(different)


def _kmeans(k: int, seed: int, n_init: int) -> "KMeans":
    from sklearn.cluster import KMeans

    return KMeans(k, n_init=n_init, random_state=seed)


def _principal_components(vectors: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA

    if _distinct(vectors) == 1:
        return np.zeros((len(vectors), 1))  # nothing varies: there is no direction to find
    most = min(COMPONENTS, *vectors.shape)
    pca = PCA(most, random_state=seed)
    exact = vectors.astype(np.float64)
    return pca.fit_transform(exact)


def _gaussian_mixture(components: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        k,
        covariance_type="diag",
        reg_covar=1e-5,
        n_init=3,
        random_state=seed,
    )
    return mixture.fit_predict(components)


def _hdbscan(components: np.ndarray, smallest: int) -> np.ndarray:
    from sklearn.cluster import HDBSCAN

    # Equal vectors have components that differ in the last digits. Rounded, they are equal again; else HDBSCAN, which
    # looks for density at every scale, finds clusters and noise among copies of one text.
    rounded = components.round(6)
    model = HDBSCAN(min_cluster_size=max(2, smallest), copy=True)
    return model.fit_predict(rounded)


def relabel(labels: Labels) -> np.ndarray:
    """The same clusters numbered 0, 1, 2 … from the largest; -1 stays -1."""
    labels = np.asarray(labels, dtype=int)
    clustered = labels[labels >= 0]
    old, sizes = np.unique(clustered, return_counts=True)  # ascending ids
    from_the_largest = np.argsort(-sizes, kind="stable")
    new = np.full(len(labels), -1)
    for number, place in enumerate(from_the_largest):
        members = labels == old[place]  # [N] bool
        new[members] = number
    return new


def choose_k(
    vectors: np.ndarray,
    ks: Iterable[int],
    seed: int = 42,
    runs: int = 4,
) -> list[dict[str, float]]:
    """Per k: silhouette (Rousseeuw 1987) on 2,000 vectors, and stability, the mean adjusted Rand index between k-means
    models each fitted on another random 80 % that label all vectors (Lange et al. 2004). For both, 1 is best.

    Each row has k, silhouette, stability and sd, the standard deviation of the adjusted Rand indices of all pairs of
    runs. The pairs share runs, so sd is a spread and no standard error.

    Raises:
        LabError: no k, a k below 2 (neither measure is defined for one cluster) or above the number of distinct vectors
            in a part, vectors with NaN, or fewer than 2 runs.
    """
    vectors = finite_vectors(vectors)
    seed = seed_number(seed)
    runs = whole_number("runs", runs, 2)
    ks = [whole_number("k", k, 2) for k in ks]
    parts = _random_parts(len(vectors), runs, seed)
    most = min(_distinct(vectors[part]) for part in parts)
    if not ks or max(ks) > most:
        what = f"cannot compare {ks} clusters"
        found = f"{most} distinct vectors in 80 % of them"
        raise LabError(what, found, "choose numbers from 2 to that many")
    rows = []
    for k in progress_bar(ks, desc="choosing k"):
        row = _measures_of_k(vectors, parts, k, seed)
        rows.append(row)
    return rows


def _random_parts(n_vectors: int, runs: int, seed: int) -> list[np.ndarray]:
    """The places of another random 80 % of the vectors for each run."""
    order = np.random.default_rng(seed)
    size = int(0.8 * n_vectors)
    parts = []
    for _ in range(runs):
        shuffled = order.permutation(n_vectors)
        parts.append(shuffled[:size])
    return parts


def _measures_of_k(
    vectors: np.ndarray,
    parts: list[np.ndarray],
    k: int,
    seed: int,
) -> dict[str, float]:
    from sklearn.metrics import adjusted_rand_score

    labels = []
    for run, part in enumerate(parts):
        own_seed = (seed + run) % 2**32
        model = _kmeans(k, own_seed, n_init=3)
        model.fit(vectors[part])
        of_all = model.predict(vectors)  # [N]
        labels.append(of_all)
    rand = []
    for one, other in combinations(labels, 2):
        rand.append(adjusted_rand_score(one, other))
    return {
        "k": k,
        "silhouette": _silhouette(vectors, labels[0], seed),
        "stability": float(np.mean(rand)),
        "sd": float(np.std(rand)),
    }


def _silhouette(vectors: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """The mean silhouette of a random SAMPLE of vectors; NaN where the sample is of one cluster, or each its own."""

    from sklearn.metrics import silhouette_score

    random = np.random.RandomState(seed)
    order = random.permutation(len(vectors))
    some = order[:SAMPLE]
    vectors = vectors[some]
    labels = labels[some]
    clusters = len(np.unique(labels))
    if not 2 <= clusters < len(some):
        return float("nan")
    width = silhouette_score(vectors, labels)
    return float(width)


def agreement(labels: Labels, gold: Sequence[str], runs: int = 50, seed: int = 42) -> dict[str, Agreement]:
    """V-measure, adjusted Rand index and purity against gold classes: the value, its mean when the labels are permuted
    ("chance": purity and V-measure grow with k alone) and p, the share of permutations that reach the value.

    Noise (-1) counts as one more cluster: leave it out before, and say what share that is, to judge the rest alone.

    Raises:
        LabError: no labels, or another number of labels than of gold classes.
    """
    labels = np.asarray(labels)  # [N]
    gold = np.asarray(gold)  # [N]
    if len(labels) == 0 or labels.shape != gold.shape:
        found = f"{labels.size} labels, {gold.size} gold classes"
        action = "pass a label and a gold class for each utterance"
        raise LabError("nothing to compare", found, action)
    runs = whole_number("runs", runs, 1)
    seed = seed_number(seed)
    random = np.random.default_rng(seed)
    permuted = [random.permutation(labels) for _ in range(runs)]
    result = {}
    for name, measure in _measures_of_agreement().items():
        result[name] = _beside_chance(measure, gold, labels, permuted)
    return result


def _beside_chance(
    measure: Measure,
    gold: np.ndarray,
    labels: np.ndarray,
    permuted: list[np.ndarray],
) -> Agreement:
    """A measure of the labels [N], and what it is for permutations of them."""
    runs = len(permuted)
    value = measure(gold, labels)
    chance = np.array([measure(gold, each) for each in permuted])  # [runs]
    reached = (chance >= value).sum()
    p = (1 + reached) / (1 + runs)  # the labels themselves are one of the permutations
    return {
        "value": float(value),
        "chance": float(chance.mean()),
        "p": float(p),
    }


def _measures_of_agreement() -> dict[str, Measure]:
    from sklearn.metrics import adjusted_rand_score, v_measure_score

    return {
        "V-measure": v_measure_score,
        "adjusted Rand": adjusted_rand_score,
        "purity": _purity,
    }


def _purity(gold: np.ndarray, labels: np.ndarray) -> float:
    """The share of things whose gold class is the commonest of their cluster."""

    from sklearn.metrics.cluster import contingency_matrix

    counts = contingency_matrix(gold, labels)  # [classes, clusters]
    commonest = counts.max(axis=0)  # [clusters]
    return commonest.sum() / len(labels)
