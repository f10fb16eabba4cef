"""Maps of utterances: nearest neighbours, and a layout in two dimensions."""

import warnings

import numpy as np

from labkit.compat import keep_compiled_maps
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
    n_vectors = len(vectors)
    n_neighbors = whole_number("n_neighbors", n_neighbors, 1)
    n_neighbors = min(n_neighbors, n_vectors)
    if n_vectors <= EXACT or n_neighbors > CANDIDATES:
        return _nearest(vectors, vectors, n_neighbors)
    return _nearest_by_cells(vectors, n_neighbors)


def _nearest(queries: np.ndarray, among: np.ndarray, n_neighbors: int) -> Neighbours:
    """For each query the exact nearest of `among`."""

    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute")
    index.fit(among)
    distances, indices = index.kneighbors(queries)
    return indices, distances


def _nearest_by_cells(vectors: np.ndarray, n_neighbors: int) -> Neighbours:
    centres, cell_of = _cells(vectors)  # [C, D], [N]
    n_cells = len(centres)
    members = [np.flatnonzero(cell_of == c) for c in range(n_cells)]
    nearest_cells, _ = _nearest(centres, centres, n_cells)  # [C, C]
    shape = (len(vectors), n_neighbors)
    indices = np.empty(shape, dtype=np.int64)
    distances = np.empty(shape)
    for mine, nearest in zip(members, nearest_cells, strict=True):
        if len(mine) == 0:
            continue
        groups = [members[c] for c in nearest]
        candidates = _at_least(CANDIDATES, groups)  # [M], places in `vectors`
        queries = vectors[mine]
        among = vectors[candidates]  # [M, D]
        found, distances[mine] = _nearest(queries, among, n_neighbors)
        indices[mine] = candidates[found]
    return indices, distances


def _cells(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of cells [C, D], by a few rounds of k-means on some of the vectors, and the cell of each vector [N]."""

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    n_vectors = len(vectors)
    n_cells = n_vectors // CELL
    random = np.random.default_rng(0)
    order = random.permutation(n_vectors)
    some = order[: 40 * n_cells]
    model = KMeans(
        n_cells,
        init="random",
        n_init=1,
        max_iter=8,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different vectors than cells: some stay empty
        model.fit(vectors[some])
    cell_of = model.predict(vectors)  # [N]
    return model.cluster_centers_, cell_of


def _at_least(wanted: int, groups: list[np.ndarray]) -> np.ndarray:
    """The first groups, joined, that hold `wanted` members or more."""
    taken = []
    size = 0
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
    n_vectors = len(vectors)
    if n_vectors < 5:
        found = f"{n_vectors}"
        raise LabError("too few vectors for a map", found, "choose more dialogues")
    n_neighbors = whole_number("n_neighbors", n_neighbors, 2)
    n_neighbors = min(n_neighbors, n_vectors - 1)
    is_number = isinstance(min_dist, int | float)
    if not is_number or not 0 <= min_dist <= 1:
        what = f"min_dist cannot be {min_dist!r}"
        raise LabError(what, "", "choose a number from 0 to 1")
    if knn is None:
        knn = neighbours(vectors, n_neighbors)
    indices, distances = knn
    n_found = indices.shape[1]
    if len(indices) != n_vectors or n_found < n_neighbors:
        found = f"{n_found} neighbours of {len(indices)} vectors"
        action = f"pass knn=neighbours(vectors, {n_neighbors}) of these {n_vectors} vectors"
        raise LabError("neighbours that do not serve for this map", found, action)
    # umap 0.5 forgets to cut the neighbours to n_neighbors below 4,096 vectors: then n_neighbors would have no effect
    nearest = indices[:, :n_neighbors]
    their_distances = distances[:, :n_neighbors]
    seed = seed_number(seed)
    return _layout(vectors, (nearest, their_distances), min_dist=min_dist, seed=seed)


def _layout(
    vectors: np.ndarray,
    knn: Neighbours,
    *,
    min_dist: float,
    seed: int,
) -> np.ndarray:
    """The map [N, 2] for these neighbours."""

    from threadpoolctl import threadpool_limits
    from umap import UMAP

    keep_compiled_maps()
    indices, _ = knn
    # numba starts OpenMP, which torch shares, on all cores; left alone, later cells wait for one another's threads
    with threadpool_limits(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="precomputed_knn.2.")  # new points are never mapped
        umap = UMAP(
            n_neighbors=indices.shape[1],
            min_dist=min_dist,
            precomputed_knn=knn,
            random_state=seed,
            n_jobs=1,
            init="pca",  # the spectral one fails where many utterances are equal, and then begins at random
        )
        return umap.fit_transform(vectors)
