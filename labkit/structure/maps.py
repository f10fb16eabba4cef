"""Maps of utterances: nearest neighbours, and a layout in two dimensions."""

import warnings
from typing import Any

import numpy as np

from labkit.errors import LabError


def neighbours(vectors: np.ndarray, n_neighbors: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Nearest neighbours (indices, distances), both [N, n], each vector its own first; for `umap_map(knn=…)`."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(n_neighbors, len(vectors)), algorithm="brute").fit(vectors)
    distances, indices = index.kneighbors(vectors)
    return indices, distances


def umap_map(vectors: np.ndarray, n_neighbors: int = 15, min_dist: float = 0.1, seed: int = 42, knn: Any = None) -> Any:
    """A map of unit vectors, [N, 2] (UMAP; McInnes et al. 2018). With `knn` (from `neighbours`) only the layout is
    computed: it serves for every `min_dist` and for every `n_neighbors` up to its own.

    Raises:
        LabError: fewer than 5 vectors.
    """
    if len(vectors) < 5:
        raise LabError("too few vectors for a map", f"{len(vectors)}", "choose more dialogues")
    from threadpoolctl import threadpool_limits
    from umap import UMAP

    n_neighbors = min(n_neighbors, len(vectors) - 1)
    # umap 0.5 forgets to cut the neighbours to n_neighbors below 4,096 vectors: then n_neighbors would have no effect
    knn = tuple(part[:, :n_neighbors] for part in knn or neighbours(vectors, n_neighbors))
    settings = {"n_neighbors": n_neighbors, "min_dist": min_dist, "random_state": seed, "n_jobs": 1}
    settings["init"] = "pca"  # the spectral one fails where many utterances are equal, and then begins at random
    # numba starts OpenMP, which torch shares, on all cores; left alone, later cells wait for one another's threads
    with threadpool_limits(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="precomputed_knn.2.")  # new points are never mapped
        return UMAP(precomputed_knn=knn, **settings).fit_transform(vectors)
