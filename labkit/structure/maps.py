"""Maps of utterances: nearest neighbours, and a layout in two dimensions."""

import warnings

import numpy as np

from labkit.errors import LabError
from labkit.structure.checks import finite_vectors, seed_number, whole_number

Neighbours = tuple[np.ndarray, np.ndarray]  # indices [N, n] and distances [N, n], nearest first
EXACT = 8_192  # up to so many vectors, every pair is compared
CELL = 128  # vectors in a cell, on average
CANDIDATES = 4_096  # vectors that each vector is compared with where there are more than EXACT


def neighbours(vectors: np.ndarray, n_neighbors: int = 50) -> Neighbours:
    """Nearest neighbours (indices, distances), both [N, n], each vector among its own; for `umap_map(knn=…)`.

    Up to 8,192 vectors they are exact. Of more, k-means makes cells of about 128, and the vectors of a cell are
    compared with the 4,096 or more in the nearest cells (an inverted file; Jégou et al. 2011): time grows as N, not as
    N², and a few of the neighbours are missed: `tests/benchmarks/neighbours.md` says how many.

    Raises:
        LabError: vectors with NaN, or a number of neighbours that cannot be.
    """
    vectors = finite_vectors(vectors)
    n_neighbors = min(whole_number("n_neighbors", n_neighbors, 1), len(vectors))
    if len(vectors) <= EXACT or n_neighbors > CANDIDATES:
        return _nearest(vectors, vectors, n_neighbors)
    return _nearest_by_cells(vectors, n_neighbors)


def _nearest(queries: np.ndarray, among: np.ndarray, n_neighbors: int) -> Neighbours:
    """For each query the exact nearest of `among`."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(among)
    distances, indices = index.kneighbors(queries)
    return indices, distances


def _nearest_by_cells(vectors: np.ndarray, n_neighbors: int) -> Neighbours:
    centres, cell_of = _cells(vectors)  # [C, D], [N]
    members = [np.flatnonzero(cell_of == c) for c in range(len(centres))]
    nearest_cells, _ = _nearest(centres, centres, len(centres))  # [C, C]
    indices = np.empty((len(vectors), n_neighbors), dtype=np.int64)
    distances = np.empty((len(vectors), n_neighbors))
    for mine, nearest in zip(members, nearest_cells, strict=True):
        if len(mine) == 0:
            continue
        candidates = _at_least(CANDIDATES, [members[c] for c in nearest])  # [M], places in `vectors`
        found, distances[mine] = _nearest(vectors[mine], vectors[candidates], n_neighbors)
        indices[mine] = candidates[found]
    return indices, distances


def _cells(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of cells [C, D], by a few rounds of k-means on some of the vectors, and the cell of each vector [N]."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    n_cells = len(vectors) // CELL
    some = np.random.default_rng(0).permutation(len(vectors))[: 40 * n_cells]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different vectors than cells: some stay empty
        model = KMeans(n_cells, init="random", n_init=1, max_iter=8, random_state=0).fit(vectors[some])
    return model.cluster_centers_, model.predict(vectors)


def _at_least(wanted: int, groups: list[np.ndarray]) -> np.ndarray:
    """The first groups, joined, that hold `wanted` members or more."""
    taken, size = [], 0
    for group in groups:
        taken.append(group)
        size += len(group)
        if size >= wanted:
            break
    return np.concatenate(taken)


def umap_map(
    vectors: np.ndarray,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    seed: int = 42,
    knn: Neighbours | None = None,
) -> np.ndarray:
    """A map of unit vectors, [N, 2] (UMAP; McInnes et al. 2018). With `knn` (from `neighbours`) only the layout is
    computed: it serves for every `min_dist` and for every `n_neighbors` up to its own.

    Raises:
        LabError: fewer than 5 vectors, vectors with NaN, neighbours of others, or a setting that cannot be.
    """
    vectors = finite_vectors(vectors)
    if len(vectors) < 5:
        raise LabError("too few vectors for a map", f"{len(vectors)}", "choose more dialogues")
    n_neighbors = min(whole_number("n_neighbors", n_neighbors, 2), len(vectors) - 1)
    if not isinstance(min_dist, int | float) or not 0 <= min_dist <= 1:
        raise LabError(f"min_dist cannot be {min_dist!r}", "", "choose a number from 0 to 1")
    indices, distances = neighbours(vectors, n_neighbors) if knn is None else knn
    if len(indices) != len(vectors) or indices.shape[1] < n_neighbors:
        found = f"{indices.shape[1]} neighbours of {len(indices)} vectors"
        action = f"pass knn=neighbours(vectors, {n_neighbors}) of these {len(vectors)} vectors"
        raise LabError("neighbours that do not serve for this map", found, action)
    # umap 0.5 forgets to cut the neighbours to n_neighbors below 4,096 vectors: then n_neighbors would have no effect
    cut = (indices[:, :n_neighbors], distances[:, :n_neighbors])
    return _layout(vectors, cut, min_dist=min_dist, seed=seed_number(seed))


def _layout(vectors: np.ndarray, knn: Neighbours, *, min_dist: float, seed: int) -> np.ndarray:
    """The map [N, 2] for these neighbours."""
    from threadpoolctl import threadpool_limits
    from umap import UMAP

    # numba starts OpenMP, which torch shares, on all cores; left alone, later cells wait for one another's threads
    with threadpool_limits(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="precomputed_knn.2.")  # new points are never mapped
        umap = UMAP(
            n_neighbors=knn[0].shape[1],
            min_dist=min_dist,
            precomputed_knn=knn,
            random_state=seed,
            n_jobs=1,
            init="pca",  # the spectral one fails where many utterances are equal, and then begins at random
        )
        return umap.fit_transform(vectors)
