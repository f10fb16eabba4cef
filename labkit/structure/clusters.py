"""Clusters of vectors: found, counted, and compared with gold classes.

Labels are cluster ids 0..k-1, the largest cluster first; -1 is noise (HDBSCAN only) and belongs to no cluster.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from tqdm.auto import tqdm

from labkit.errors import LabError

Texts = Sequence[str]


def cluster(vectors: np.ndarray, k: int, method: str = "kmeans", seed: int = 42, n_init: int = 10) -> np.ndarray:
    """Cluster ids [N], 0..k-1 without a gap, by "kmeans", "gmm" or "hdbscan" (these two on 50 principal components).

    HDBSCAN finds its own number of clusters: there `k` only says how small one may be, N / 8k.

    Raises:
        LabError: unknown method, or fewer distinct vectors than clusters.
    """
    from sklearn.cluster import HDBSCAN, KMeans
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    models = {
        "kmeans": lambda: KMeans(k, n_init=n_init, random_state=seed),
        "gmm": lambda: GaussianMixture(k, covariance_type="diag", reg_covar=1e-5, n_init=3, random_state=seed),
        "hdbscan": lambda: HDBSCAN(min_cluster_size=max(2, len(vectors) // (8 * k)), copy=True),
    }
    if method not in models:
        raise LabError(f"unknown method {method!r}", "", f"choose one of {', '.join(models)}")
    if not 1 <= k <= (distinct := len(np.unique(vectors, axis=0))):
        raise LabError(f"cannot make {k} clusters", f"{distinct} distinct vectors", "choose another k")
    if method != "kmeans":
        vectors = PCA(min(50, *vectors.shape), random_state=seed).fit_transform(vectors.astype(np.float64))
    return relabel(models[method]().fit_predict(vectors))


def relabel(labels: Sequence[int]) -> np.ndarray:
    """The same clusters numbered 0, 1, 2 … from the largest; -1 stays -1."""
    sizes = Counter(int(label) for label in labels if label >= 0)
    new = {old: i for i, old in enumerate(sorted(sizes, key=lambda old: (-sizes[old], old)))}
    return np.array([new.get(int(label), -1) for label in labels])


def choose_k(vectors: np.ndarray, ks: Iterable[int], seed: int = 42, runs: int = 4) -> list[dict[str, float]]:
    """Per k: silhouette (Rousseeuw 1987) on 2,000 vectors, and stability, the mean adjusted Rand index between k-means
    models each fitted on another random 80 % that label all vectors (Lange et al. 2004). For both, 1 is best.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    order = np.random.default_rng(seed)
    parts = [order.permutation(len(vectors))[: int(0.8 * len(vectors))] for _ in range(runs)]
    sample, rows = min(2000, len(vectors)), []
    for k in tqdm(list(ks), desc="choosing k"):
        fits = [KMeans(k, n_init=3, random_state=seed + i).fit(vectors[part]) for i, part in enumerate(parts)]
        labels = [fit.predict(vectors) for fit in fits]
        rand = [adjusted_rand_score(a, b) for a, b in combinations(labels, 2)]
        width = silhouette_score(vectors, labels[0], sample_size=sample, random_state=seed)
        rows.append({"k": k, "silhouette": float(width), "stability": float(np.mean(rand)), "sd": float(np.std(rand))})
    return rows


def agreement(labels: Sequence[int], gold: Texts, runs: int = 50, seed: int = 42) -> dict[str, dict[str, float]]:
    """V-measure, adjusted Rand index and purity against gold classes: the value, its mean when the labels are permuted
    ("chance": purity and V-measure grow with k alone) and p, the share of permutations that reach the value.
    """
    from sklearn.metrics import adjusted_rand_score, v_measure_score
    from sklearn.metrics.cluster import contingency_matrix

    labels, gold, random = np.asarray(labels), np.asarray(gold), np.random.default_rng(seed)
    measures = {
        "V-measure": v_measure_score,
        "adjusted Rand": adjusted_rand_score,
        "purity": lambda gold, labels: contingency_matrix(gold, labels).max(0).sum() / len(labels),
    }
    shuffled = [random.permutation(labels) for _ in range(runs)]
    result = {}
    for name, measure in measures.items():
        value, chance = measure(gold, labels), np.array([measure(gold, each) for each in shuffled])
        p = (1 + (chance >= value).sum()) / (1 + runs)
        result[name] = {"value": float(value), "chance": float(chance.mean()), "p": float(p)}
    return result
