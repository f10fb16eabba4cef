"""Point 9: clusters at the edge."""

from collections.abc import Callable
from functools import partial

import numpy as np

from attacks.case import EITHER, LINE, RESULT, Case, expect
from labkit import structure

NAN = float("nan")
Call = Callable[[], object]
Row = tuple[str, Call, tuple[str, ...]]


def cases() -> list[Case]:
    """Every row of the tables."""
    rows = [*_clusters(), *_maps(), *_words(), *_chains()]
    return [Case(9, name, call, right) for name, call, right in rows]


def _vectors(n: int = 10, width: int = 16) -> np.ndarray:
    draw = np.random.default_rng(0).normal(size=(n, width))
    return draw / np.linalg.norm(draw, axis=1, keepdims=True)


def _with(value: float) -> np.ndarray:
    vectors = _vectors()
    vectors[3] = value
    return vectors


def _clusters() -> list[Row]:
    ten = _vectors()
    one = _vectors(1)
    equal = np.repeat(one, 10, axis=0)
    rows: list[Row] = []
    for method in ("kmeans", "gmm", "hdbscan"):
        cluster = partial(structure.cluster, method=method)
        for k in (0, -1, 11, 10**12, NAN, float("inf"), 2.0, 1.5, None, "2", True):
            rows.append((f"{method}, k={k!r}", partial(cluster, ten, k), (LINE,)))
        rows += [
            (f"{method}, k=1", partial(cluster, ten, 1), (RESULT,)),
            (f"{method}, k=10 of 10", partial(cluster, ten, 10), EITHER),
            (f"{method}, one vector", partial(cluster, one, 1), (RESULT,) if method == "kmeans" else (LINE,)),
            (f"{method}, equal vectors", partial(cluster, equal, 1), (RESULT,)),
            (f"{method}, 2 clusters of equal vectors", partial(cluster, equal, 2), (LINE,)),
            (f"{method}, no vectors", partial(cluster, ten[:0], 1), (LINE,)),
            (f"{method}, NaN", partial(cluster, _with(NAN), 2), (LINE,)),
            (f"{method}, infinity", partial(cluster, _with(np.inf), 2), (LINE,)),
            (f"{method}, one dimension", partial(cluster, ten[:, 0], 2), (LINE,)),
            (f"{method}, text", partial(cluster, np.array([["a"], ["b"]]), 2), (LINE,)),
            (f"{method}, rows of different lengths", partial(cluster, [[1.0], [1.0, 2.0]], 1), (LINE,)),
            (f"{method}, None", partial(cluster, None, 1), (LINE,)),
            (f"{method}, seed=-1", partial(cluster, ten, 2, seed=-1), (LINE,)),
            (f"{method}, n_init=0", partial(cluster, ten, 2, n_init=0), (LINE,)),
        ]
    rows.append(("unknown method", partial(structure.cluster, ten, 2, "moon"), (LINE,)))
    rows.append(("method None", partial(structure.cluster, ten, 2, None), (LINE,)))
    return rows


def _maps() -> list[Row]:
    ten = _vectors()
    choose = structure.choose_k
    rows: list[Row] = [
        (f"choose_k, ks={ks}", partial(choose, ten, ks), (LINE,)) for ks in ([], [0], [1, 2], [12], [NAN])
    ]
    rows += [
        ("choose_k, NaN", partial(choose, _with(NAN), [2]), (LINE,)),
        ("choose_k, runs=1", partial(choose, ten, [2], runs=1), (LINE,)),
        ("choose_k, two vectors", partial(choose, ten[:2], [2]), (LINE,)),
        ("agreement, nothing", partial(structure.agreement, [], []), (LINE,)),
        ("agreement, other length", partial(structure.agreement, [0, 1], ["a"]), (LINE,)),
        ("agreement, runs=0", partial(structure.agreement, [0, 1], ["a", "b"], runs=0), (LINE,)),
        ("agreement, all noise", partial(structure.agreement, [-1, -1], ["a", "b"]), (RESULT,)),
    ]
    for n in (0, -1, 1, 10**9, NAN, None):
        rows.append((f"neighbours, n_neighbors={n!r}", partial(structure.neighbours, ten, n), EITHER))
    rows.append(("neighbours, NaN", partial(structure.neighbours, _with(NAN), 3), (LINE,)))
    rows.append(("neighbours, one vector", partial(structure.neighbours, ten[:1], 3), (RESULT,)))
    rows.append(("umap_map, n_neighbors=1", partial(structure.umap_map, ten, n_neighbors=1), (LINE,)))
    rows.append(("umap_map, NaN", partial(structure.umap_map, _with(NAN)), (LINE,)))
    rows.append(("umap_map, one vector", partial(structure.umap_map, ten[:1]), (LINE,)))
    return rows


def _words() -> list[Row]:
    words = structure.representative_words
    two = ["cheap hotel", "good bye"]
    return [
        ("words, all noise", partial(words, two, [-1, -1]), (LINE,)),
        ("words, stop words only", partial(words, ["it is", "the a"], [0, 0]), (LINE,)),
        ("words, empty texts", partial(words, ["", " "], [0, 1]), (LINE,)),
        ("words, signs only", partial(words, ["?!", "123 .."], [0, 1]), (LINE,)),
        ("words, no texts", partial(words, [], []), (LINE,)),
        ("words, labels of other texts", partial(words, two, [0]), (LINE,)),
        ("words, labels NaN", partial(words, two, [0, NAN]), (LINE,)),
        ("words, labels of text", partial(words, two, ["a", "b"]), (LINE,)),
        ("words, n=0", partial(words, two, [0, 1], n=0), (LINE,)),
        ("words, a text is None", partial(words, ["x", None], [0, 1]), (LINE,)),
        ("words, half an emoji", partial(words, ["hotel \ud83d", "bye"], [0, 1]), (LINE,)),
        ("words, one cluster of noise beside", partial(words, two, [0, -1]), (RESULT,)),
        ("words, letters outside ASCII", _letters_outside_ascii, (RESULT,)),
        ("class_tf_idf, no classes", partial(structure.class_tf_idf, np.zeros((0, 3))), (LINE,)),
        ("class_tf_idf, one dimension", partial(structure.class_tf_idf, np.zeros(3)), (LINE,)),
        ("class_tf_idf, zeros", partial(structure.class_tf_idf, np.zeros((2, 3))), (RESULT,)),
        ("cluster_names, nothing", partial(structure.cluster_names, {}), EITHER),
        ("cluster_names, a cluster without words", partial(structure.cluster_names, {0: []}), EITHER),
        ("nearest_utterances, other length", partial(structure.nearest_utterances, _vectors(2), [0], two), (LINE,)),
        ("nearest_utterances, all noise", partial(structure.nearest_utterances, _vectors(2), [-1, -1], two), EITHER),
        ("nearest_utterances, n=0", partial(structure.nearest_utterances, _vectors(2), [0, 1], two, 0), (LINE,)),
        ("embed, no texts", partial(structure.embed, []), (LINE,)),
        ("embed, None", partial(structure.embed, [None]), (LINE,)),
        ("embed, batch_size=0", partial(structure.embed, two, batch_size=0), (LINE,)),
        ("embed, layer 99", partial(structure.embed, two, layer=99), (LINE,)),
        ("embed, an empty text", partial(structure.embed, [""]), (RESULT,)),
        ("embed, no encoder", partial(structure.embed, two, 7), (LINE,)),
        ("embed, no such encoder", partial(structure.embed, two, "no/such-encoder"), (LINE,)),
    ]


def _letters_outside_ascii() -> None:
    for text, letters in (("über öffnet ärzte café", "ü ö ä c"), ("дешёвый отель", "д о"), ("घर होटल", "घ ह")):
        found = structure.representative_words([text], [0], stop_words=None)[0]
        begun = {word[0] for word, _ in found}
        expect(begun == set(letters.split()), f"words of {text!r} are {found}")


def _chains() -> list[Row]:
    matrix = structure.transition_matrix
    return [
        ("transitions, k=0", partial(matrix, [[0, 1]], 0), (LINE,)),
        ("transitions, k too small", partial(matrix, [[0, 5]], 2), (LINE,)),
        ("transitions, nothing", partial(matrix, [], 2), EITHER),
        ("transitions, an empty dialogue", partial(matrix, [[]], 2), EITHER),
        ("transitions, all noise", partial(matrix, [[-1, -1]], 2), EITHER),
        ("transitions, k NaN", partial(matrix, [[0, 1]], NAN), (LINE,)),
        ("likely_paths, NaN", partial(structure.likely_paths, np.full((4, 4), NAN)), (LINE,)),
        ("likely_paths, not square", partial(structure.likely_paths, np.zeros((2, 3))), (LINE,)),
        ("likely_paths, n=0", partial(structure.likely_paths, np.eye(4), 0), (LINE,)),
        ("likely_paths, turns=-1", partial(structure.likely_paths, np.eye(4), 3, -1), (LINE,)),
        ("representations, nothing", partial(structure.representations, []), EITHER),
        ("representations, window=-1", partial(structure.representations, [], -1), (LINE,)),
        ("relabel, nothing", partial(structure.relabel, []), (RESULT,)),
    ]
