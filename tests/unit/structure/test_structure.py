"""Embeddings, clusters, words and the chain: each test guards a trap of the 2023 notebook or of pooled vectors."""

import copy
import importlib
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from labkit import structure
from labkit.corpora.types import Dialogue, Turn
from labkit.errors import LabError

embedding = importlib.import_module("labkit.structure.embed")  # `structure.embed` is its function


@pytest.fixture(scope="module")
def dialogues():
    turns = [
        Turn("user", "i want food", acts={"Restaurant-Inform": [("food", "any")], "general-greet": []}),
        Turn("bot", "for how many ?", acts={"Booking-Request": [("bookpeople", "?")]}),
        Turn("user", "and a taxi", acts={"Taxi-Inform": [("none", "none")]}),
        Turn("bot", "bye", acts={}),
    ]
    return [Dialogue("D1.json", ("restaurant", "taxi"), turns), Dialogue("D2.json", ("restaurant",), turns[:2])]


@pytest.fixture(scope="module")
def blobs():
    """150 unit vectors around three orthogonal directions, and the direction of each."""
    draw = np.random.default_rng(0)
    gold = np.repeat([0, 1, 2], [70, 50, 30])
    vectors = np.eye(8)[gold] + 0.05 * draw.normal(size=(150, 8))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), gold


@pytest.mark.parametrize(
    ("window", "text"),
    [
        ("utterance", "for how many ?"),
        ("previous", "i want food\nfor how many ?"),
        (0, "for how many ?"),
        (1, "i want food\nfor how many ?\nand a taxi"),
        (9, "i want food\nfor how many ?\nand a taxi\nbye"),
    ],
)
def test_a_window_never_leaves_its_dialogue(dialogues, window, text):
    rows = structure.representations(dialogues, window)
    assert rows["text"][1] == text and rows["utterance"][1] == "for how many ?"
    assert "taxi" not in rows["text"][4] and rows["text"][4].startswith("i want food")


def test_rows_carry_domain_act_and_slots_of_their_turn(dialogues):
    rows = structure.representations(dialogues)
    assert rows["domain"].tolist()[:4] == ["restaurant", "restaurant", "taxi", "taxi"]  # booking acts name no venue
    assert rows["act"].tolist()[:4] == ["inform", "request", "inform", "none"]
    assert rows["slots"].tolist()[:3] == [("food",), ("bookpeople",), ()]
    assert rows["dialogue_id"].tolist() == ["D1.json"] * 4 + ["D2.json"] * 2 and rows["turn"].tolist()[4:] == [0, 1]


@pytest.mark.parametrize("window", ["next", -1, 1.5])
def test_an_unknown_window_is_one_clear_line(dialogues, window):
    with pytest.raises(LabError, match="window"):
        structure.representations(dialogues, window)


def test_pooled_vectors_do_not_depend_on_what_shares_their_batch(tiny_lm):
    texts = ["hotel", "i want a cheap hotel in the north please", "", "area ?"]
    together = structure.embed(texts, tiny_lm)
    alone = np.concatenate([structure.embed([text], tiny_lm) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("layer", [-1, 0])
def test_a_pooled_vector_is_the_mean_of_a_layers_hidden_states(tiny_lm, layer):
    import torch

    ids = torch.tensor([tiny_lm.codec.prefix + tiny_lm.tokenizer.encode(" i want a hotel", add_special_tokens=False)])
    with torch.no_grad():
        state = tiny_lm.model(ids, output_hidden_states=True).hidden_states[layer][0].mean(0).numpy()
    np.testing.assert_allclose(
        structure.embed(["i want a hotel"], tiny_lm, layer=layer)[0], state / np.linalg.norm(state), atol=1e-5
    )


def test_cached_vectors_are_not_reused_for_another_model(tiny_lm, tmp_path):
    import torch

    other = copy.copy(tiny_lm)
    other.model = copy.deepcopy(tiny_lm.model)  # the same name, retrained
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    first = structure.embed(["a hotel", "a taxi"], tiny_lm, cache=tmp_path)
    assert not np.allclose(structure.embed(["a hotel", "a taxi"], other, cache=tmp_path), first, atol=1e-3)
    assert not np.allclose(structure.embed(["a hotel", "a train"], tiny_lm, cache=tmp_path)[1], first[1], atol=1e-3)
    assert len(list(tmp_path.iterdir())) == 3  # and no half-written file is left


def test_the_second_time_vectors_come_from_the_disk(tiny_lm, tmp_path, monkeypatch):
    first = structure.embed(["a taxi", "a hotel", "a taxi"], tiny_lm, cache=tmp_path)
    monkeypatch.setattr(embedding, "_pooled", lambda *_: pytest.fail("encoded again"))
    np.testing.assert_array_equal(structure.embed(["a taxi", "a hotel", "a taxi"], tiny_lm, cache=tmp_path), first)
    np.testing.assert_array_equal(first[0], first[2])


def test_an_interrupted_embedding_keeps_its_finished_chunks(tiny_lm, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "CHUNK", 2)
    pooled, calls = embedding._pooled, []

    def interrupted(lm, texts, layer):
        calls.append(texts)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return pooled(lm, texts, layer)

    monkeypatch.setattr(embedding, "_pooled", interrupted)
    with pytest.raises(KeyboardInterrupt):
        structure.embed(["a", "bb", "ccc", "dddd"], tiny_lm, cache=tmp_path)
    structure.embed(["a", "bb", "ccc", "dddd"], tiny_lm, cache=tmp_path)
    assert calls == [["a", "bb"], ["ccc", "dddd"], ["ccc", "dddd"]]


def test_no_texts_and_no_sentence_encoder_are_one_clear_line(tmp_path, monkeypatch):
    with pytest.raises(LabError, match="nothing to embed"):
        structure.embed([], object())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(LabError, match="no sentence encoder"):
        structure.embed(["a"], str(tmp_path / "nothing here"))


@pytest.mark.parametrize("method", ["kmeans", "gmm", "hdbscan"])
def test_every_method_finds_separate_groups_and_numbers_them_without_a_gap(blobs, method):
    vectors, gold = blobs
    labels = structure.cluster(vectors, 3, method)
    assert adjusted_rand_score(gold, labels) > 0.95
    assert set(labels) - {-1} == {0, 1, 2} and np.bincount(labels[labels >= 0]).argmax() == 0


def test_cluster_ids_skip_no_number_and_noise_stays_noise():
    assert structure.relabel(np.array([7, 7, 3, 9, 9, 9, -1])).tolist() == [1, 1, 2, 0, 0, 0, -1]


def test_vectors_are_distinct_by_their_numbers_and_not_by_their_bytes():
    clusters = importlib.import_module("labkit.structure.clusters")
    assert clusters._distinct(np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0]])) == 2


@pytest.mark.slow
def test_what_umap_compiles_for_a_map_is_kept_for_the_next_process(monkeypatch):
    """A kernel's first map took ten seconds more than its second."""
    from umap import layouts, umap_

    from labkit.compat import keep_compiled_maps

    keep_compiled_maps()
    for function in (
        umap_.smooth_knn_dist,
        umap_.compute_membership_strengths,
        layouts._nb_optimize_layout_euclidean_single_epoch,
    ):
        assert function.stats.cache_path

    class Unwritable:
        signatures = ()

        def enable_caching(self):
            raise RuntimeError("cannot cache function 'smooth_knn_dist': no locator available for file")

    monkeypatch.setattr(umap_, "smooth_knn_dist", Unwritable())
    keep_compiled_maps()


def test_more_clusters_than_distinct_vectors_is_one_clear_line(blobs):
    with pytest.raises(LabError, match="cannot make 3 clusters"):
        structure.cluster(np.repeat(blobs[0][:2], 9, axis=0), 3)
    with pytest.raises(LabError, match="unknown method"):
        structure.cluster(blobs[0], 3, "magic")


def test_silhouette_and_stability_prefer_the_true_number_of_clusters(blobs):
    rows = {row["k"]: row for row in structure.choose_k(blobs[0], [2, 3, 6])}
    assert max(rows, key=lambda k: rows[k]["silhouette"]) == 3
    assert rows[3]["stability"] == pytest.approx(1) and rows[6]["stability"] < 0.9


def test_words_of_a_cluster_are_neither_booking_codes_nor_words_of_all_clusters():
    texts = ["the hotel is nice"] * 9 + ["the hotel X7K2P"] + ["the taxi is late"] * 10
    words = structure.representative_words(texts, np.repeat([0, 1], 10), n=3, stop_words=None)
    ranked = [word for word, _ in words[0]]
    assert ranked[0] == "hotel" and "x7k2p" not in ranked[:2] and ranked[0] != "the"
    assert structure.cluster_names(words, 1) == {0: "0 · hotel", 1: f"1 · {words[1][0][0]}", -1: "noise"}


def test_class_tf_idf_is_the_formula_of_the_paper():
    counts = np.array([[3, 1], [0, 4]])
    expected = np.array([[3 / 4 * np.log(1 + 4 / 3), 1 / 4 * np.log(1 + 4 / 5)], [0, np.log(1 + 4 / 5)]])
    np.testing.assert_allclose(structure.class_tf_idf(counts), expected)


def test_nearest_utterances_are_nearest_first_and_different(blobs):
    vectors, gold = blobs
    texts = [f"text {i // 2}" for i in range(150)]  # each text twice
    nearest = structure.nearest_utterances(vectors, gold, texts, n=4)
    assert all(len(set(found)) == 4 for found in nearest.values())
    members = np.flatnonzero(gold == 1)
    best = members[(vectors[members] @ vectors[members].mean(0)).argmax()]
    assert nearest[1][0] == texts[best]


def test_agreement_knows_what_chance_would_get(blobs):
    gold = np.array(list("abc"))[blobs[1]]
    perfect = structure.agreement(blobs[1], gold)
    random = structure.agreement(np.random.default_rng(1).integers(0, 40, 150), gold)
    assert all(row["value"] == pytest.approx(1) and row["p"] < 0.05 for row in perfect.values())
    assert random["purity"]["value"] > 0.6 and random["V-measure"]["value"] > 0.1  # so high without any structure
    assert all(abs(row["value"] - row["chance"]) < 0.1 and row["p"] > 0.02 for row in random.values())


def test_transition_rows_sum_to_one_and_hold_begin_and_end():
    matrix = structure.transition_matrix([[0, 1], [0, 0, 1], []], 3)  # state 2 never occurs
    np.testing.assert_allclose(matrix.sum(1), 1)
    np.testing.assert_allclose(matrix[0], [1 / 3, 2 / 3, 0, 0, 0])
    np.testing.assert_allclose(matrix[1], [0, 0, 0, 0, 1])
    np.testing.assert_allclose(matrix[3], [2 / 3, 0, 0, 0, 1 / 3])  # the empty dialogue goes from BEGIN to END
    np.testing.assert_allclose(matrix[4], [0, 0, 0, 0, 1])
    assert (matrix[:, 3] == 0).all()
    with pytest.raises(LabError, match=r"outside 0\.\.1"):
        structure.transition_matrix([[0, 2]], 2)


def test_label_sequences_follow_the_turns_and_leave_noise_out(dialogues):
    rows = structure.representations(dialogues).iloc[::-1]
    labels = [5, 4, 3, -1, 1, 0]  # of the reversed rows
    assert sorted(structure.label_sequences(rows, labels)) == [[0, 1, 3], [4, 5]]


def test_likely_paths_are_the_most_probable_ones():
    matrix = structure.transition_matrix([[0, 1], [0, 0, 1], [1], [1, 0, 1]], 2)
    everything = {}
    for length in range(1, 9):
        for path in np.ndindex(*[2] * length):
            steps = [2, *path, 3]
            everything[path] = np.prod(matrix[steps[:-1], steps[1:]])
    best = sorted(everything, key=everything.get, reverse=True)
    found = structure.likely_paths(matrix, n=3)
    np.testing.assert_allclose([p for p, _ in found], [everything[path] for path in best[:3]])
    assert found[0][1] == list(best[0])
    of_four = max((path for path in best if len(path) == 4), key=everything.get)
    assert structure.likely_paths(matrix, n=1, turns=4)[0][1] == list(of_four)


def test_the_order_of_a_chain_is_worth_what_its_data_are():
    draw, sequences = np.random.default_rng(0), []
    for _ in range(200):  # the next state repeats the one before last: only order 2 can know
        first, second = draw.integers(0, 3, 2)
        sequences.append([int(first), int(second)] * 4)
    bits = [structure.chain_bits(sequences[:150], sequences[150:], 3, order) for order in (0, 1, 2)]
    assert bits[2] < bits[1] - 0.5 and bits[1] < bits[0]
    assert structure.chain_bits([], [[0, 1]], 3, 1) == pytest.approx(2)  # nothing learnt: uniform over 3 states and END


@pytest.mark.long
@pytest.mark.slow
def test_a_map_with_neighbours_found_before_is_the_same_map_and_says_nothing(blobs):
    vectors, gold = blobs
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        plain = structure.umap_map(vectors, n_neighbors=10)
        again = structure.umap_map(vectors, n_neighbors=10, knn=structure.neighbours(vectors, 20))
    np.testing.assert_allclose(plain, again)
    assert plain.shape == (150, 2)
    centres = np.array([plain[gold == c].mean(0) for c in range(3)])
    distances = np.linalg.norm(plain[:, None] - centres, axis=2)  # [150, 3]
    assert (distances.argmin(1) == gold).mean() > 0.95
    with pytest.raises(LabError, match="too few"):
        structure.umap_map(vectors[:4])


def test_the_sum_of_bits_finds_the_number_of_states_that_cluster_bits_alone_cannot():
    draw, rows, labels = np.random.default_rng(0), [], []
    words = (["hotel", "stars", "nights"], ["train", "leaves", "ticket"], ["thanks", "bye", "welcome"])
    for i in range(60):
        for turn, state in enumerate(draw.integers(0, 3, 5)):
            rows.append({"dialogue_id": f"D{i}", "turn": turn, "utterance": " ".join(draw.choice(words[state], 5))})
            labels.append(state)
    rows, labels = pd.DataFrame(rows), np.array(labels)
    split = 2 * labels + draw.integers(0, 2, len(labels))  # each state cut in two at random
    price = {k: structure.turn_bits(rows, each) for k, each in ((1, labels * 0), (3, labels), (6, split))}
    assert price[1]["cluster"] < price[3]["cluster"] < price[6]["cluster"]
    assert price[3]["sum"] < price[1]["sum"] and price[3]["sum"] < price[6]["sum"]
    assert price[1]["words"] == pytest.approx(5 * np.log2(9), rel=0.02)  # nine words, equally often
    assert all(each["sum"] == pytest.approx(each["cluster"] + each["words"]) for each in price.values())


def test_noise_is_a_state_of_its_own_in_the_price_of_a_turn(dialogues):
    rows = structure.representations(dialogues * 5).assign(dialogue_id=np.repeat(range(10), [4, 2] * 5))
    noisy = np.where(rows["speaker"] == "bot", -1, 0)
    assert structure.turn_bits(rows, noisy) == structure.turn_bits(rows, np.where(noisy < 0, 1, 0))


def test_what_follows_an_apostrophe_is_no_word():
    words = structure.representative_words(["i'll take it, we've time", "[hotel_name] it is"], [0, 1], stop_words=None)
    assert {"ll", "ve"}.isdisjoint(dict(words[0])) and "[hotel_name]" in dict(words[1])


def test_a_sentence_encoder_that_pools_otherwise_gets_vectors_of_its_own():
    import torch

    class Encoder(torch.nn.Module):
        max_seq_length = 8

        def __init__(self, pooling):
            super().__init__()
            self.pooling, self.layer = pooling, torch.nn.Linear(1, 1)
            torch.nn.init.ones_(self.layer.weight), torch.nn.init.zeros_(self.layer.bias)

        def encode(self, texts, show_progress_bar=False):
            return np.ones((len(texts), 4))

        def extra_repr(self):
            return self.pooling

    mean, again, cls = (embedding._encoder(Encoder(pooling), -1).identity for pooling in ("mean", "mean", "cls"))
    assert mean == again != cls  # the same weights all three


@pytest.mark.long
@pytest.mark.slow
def test_a_map_of_many_equal_utterances_neither_fails_nor_warns():
    vectors = np.repeat(np.eye(8), 20, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # umap's spectral start would warn and begin at random
        assert np.isfinite(structure.umap_map(vectors, 10)).all()


@pytest.mark.long
@pytest.mark.slow
def test_after_a_map_torch_has_the_threads_it_had():
    """numba starts OpenMP with as many threads as it counts cores, and torch takes its number from OpenMP."""
    code = """if True:
        import numpy as np, torch
        from labkit.structure import umap_map
        umap_map(np.random.default_rng(0).normal(size=(60, 8)))
        print(torch.get_num_threads())"""
    threads = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "3"}
    run = subprocess.run([sys.executable, "-c", code], env=threads, capture_output=True, text=True, timeout=120)
    assert run.stdout == "1\n", run.stderr


# --- inputs at the edge: one clear line each --------------------------------------------------------------------------


def unit_vectors(n, size=16, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


SOME = unit_vectors(10)
BROKEN = np.where(np.arange(10)[:, None] == 3, np.nan, SOME)
ENDLESS = np.where(np.arange(10)[:, None] == 3, np.inf, SOME)
NONE = np.zeros((0, 16))
EDGES = {
    "no clusters": lambda: structure.cluster(SOME, 0),
    "fewer than no clusters": lambda: structure.cluster(SOME, -3),
    "k is a bool": lambda: structure.cluster(SOME, True),
    "k is a float": lambda: structure.cluster(SOME, 2.0),
    "k is a text": lambda: structure.cluster(SOME, "2"),
    "more clusters than vectors": lambda: structure.cluster(SOME, 11),
    "more clusters than vectors, hdbscan": lambda: structure.cluster(SOME, 11, "hdbscan"),
    "one vector for gmm": lambda: structure.cluster(SOME[:1], 1, "gmm"),
    "one vector for hdbscan": lambda: structure.cluster(SOME[:1], 1, "hdbscan"),
    "no vectors": lambda: structure.cluster(NONE, 1),
    "vectors that are a list of different lengths": lambda: structure.cluster([[1.0], [1.0, 2.0]], 1),
    "one vector that is no table": lambda: structure.cluster(SOME[0], 1),
    "vectors of texts": lambda: structure.cluster([["a", "b"]], 1),
    "NaN in a vector": lambda: structure.cluster(BROKEN, 2),
    "infinity in a vector": lambda: structure.cluster(ENDLESS, 2, "gmm"),
    "NaN for hdbscan": lambda: structure.cluster(BROKEN, 2, "hdbscan"),
    "zeros only, two clusters": lambda: structure.cluster(np.zeros((10, 4)), 2),
    "a seed below 0": lambda: structure.cluster(SOME, 2, seed=-1),
    "a seed beyond 32 bits": lambda: structure.cluster(SOME, 2, seed=2**32),
    "no start of k-means": lambda: structure.cluster(SOME, 2, n_init=0),
    "choose k of 1": lambda: structure.choose_k(SOME, [1, 2]),
    "choose k of 0": lambda: structure.choose_k(SOME, [0]),
    "choose k of nothing": lambda: structure.choose_k(SOME, []),
    "choose k above the vectors": lambda: structure.choose_k(SOME, [12]),
    "choose k above the vectors of a part": lambda: structure.choose_k(SOME, [9]),
    "choose k of one vector": lambda: structure.choose_k(SOME[:1], [2]),
    "choose k of no vectors": lambda: structure.choose_k(NONE, [2]),
    "choose k with NaN": lambda: structure.choose_k(BROKEN, [2]),
    "choose k in one run": lambda: structure.choose_k(SOME, [2], runs=1),
    "words of noise only": lambda: structure.representative_words(["cheap hotel", "good bye"], [-1, -1]),
    "words of stop words only": lambda: structure.representative_words(["it is", "the a"], [0, 0]),
    "words of empty texts": lambda: structure.representative_words(["", " "], [0, 1]),
    "words of no texts": lambda: structure.representative_words([], []),
    "words of other labels": lambda: structure.representative_words(["a hotel"], [0, 1]),
    "words of what is no text": lambda: structure.representative_words(["a hotel", None], [0, 1]),
    "no words wished": lambda: structure.representative_words(["a hotel"], [0], n=0),
    "half of a word": lambda: structure.representative_words(["a hotel"], [0.5]),
    "scores of no table": lambda: structure.class_tf_idf([1, 2, 3]),
    "nearest of other texts": lambda: structure.nearest_utterances(SOME, np.zeros(10, int), ["a"]),
    "nearest of NaN": lambda: structure.nearest_utterances(BROKEN, np.zeros(10, int), ["a"] * 10),
    "agreement of other labels": lambda: structure.agreement([0, 1], ["a"]),
    "agreement of nothing": lambda: structure.agreement([], []),
    "a state below 0": lambda: structure.transition_matrix([[-1, 0]], 2),
    "a state that is a float": lambda: structure.transition_matrix([[0.5, 1]], 2),
    "fewer than no states": lambda: structure.transition_matrix([], -1),
    "paths of no matrix": lambda: structure.likely_paths(np.ones(4)),
    "paths of NaN": lambda: structure.likely_paths(np.full((4, 4), np.nan)),
    "no paths wished": lambda: structure.likely_paths(structure.transition_matrix([[0]], 1), n=0),
    "paths of fewer than no turns": lambda: structure.likely_paths(structure.transition_matrix([[0]], 1), turns=-1),
    "bits of nothing": lambda: structure.chain_bits([[0]], [], 1),
    "bits of a state that is none": lambda: structure.chain_bits([[0]], [[1]], 1),
    "bits of order -1": lambda: structure.chain_bits([[0]], [[0]], 1, order=-1),
    "bits smoothed by magic": lambda: structure.chain_bits([[0]], [[0]], 1, smoothing="magic"),
    "no neighbours wished": lambda: structure.neighbours(SOME, 0),
    "neighbours of nothing": lambda: structure.neighbours(NONE),
    "neighbours of NaN": lambda: structure.neighbours(BROKEN),
    "a map of one neighbour": lambda: structure.umap_map(SOME, n_neighbors=1),
    "a map of NaN": lambda: structure.umap_map(BROKEN),
    "a map of no vectors": lambda: structure.umap_map(NONE),
    "a map with a negative distance": lambda: structure.umap_map(SOME, min_dist=-0.1),
    "a map with too few neighbours": lambda: structure.umap_map(SOME, 9, knn=structure.neighbours(SOME, 5)),
    "a map with others' neighbours": lambda: structure.umap_map(SOME, 5, knn=structure.neighbours(SOME[:8], 5)),
    "nothing to embed": lambda: structure.embed([], object()),
    "one text to embed": lambda: structure.embed("a hotel", object()),
    "a number to embed": lambda: structure.embed(["a hotel", 3.5], object()),
    "an encoder that is none": lambda: structure.embed(["a hotel"], object()),
    "half an emoji to embed": lambda: structure.embed(["hi \ud83d there"], object()),
}


@pytest.mark.parametrize("edge", EDGES)
def test_structure_at_the_edge_says_one_line(edge):
    with warnings.catch_warnings(), pytest.raises(LabError) as caught:
        warnings.simplefilter("error")
        EDGES[edge]()
    assert "\n" not in str(caught.value) and "→" in str(caught.value)


@pytest.mark.parametrize("labels", [[0] * 3, [-1] * 6, [0, 0, 1, 1, 2, 2]])
def test_the_price_of_a_turn_at_the_edge(dialogues, labels):
    rows = structure.representations(dialogues)
    if len(labels) != len(rows):
        with pytest.raises(LabError, match="labels of something else"):
            structure.turn_bits(rows, labels)
        return
    assert np.isfinite(structure.turn_bits(rows, labels, share=0.5)["sum"])
    for share in (0, 1, -1, 2, np.nan, "half", 0.1):  # no dialogue learnt from, or none held out
        with pytest.raises(LabError, match="held out"):
            structure.turn_bits(rows, labels, share=share)
    with pytest.raises(LabError, match="no words"):
        structure.turn_bits(rows.assign(utterance="?"), labels, share=0.5)


def test_no_dialogues_give_an_empty_table_with_its_columns():
    assert list(structure.representations([]).columns[:2]) == ["text", "utterance"]


@pytest.mark.parametrize("method", ["kmeans", "gmm", "hdbscan"])
def test_vectors_that_are_all_equal_or_zero_are_one_cluster(method):
    for vectors in (np.zeros((10, 4)), np.ones((10, 4))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert structure.cluster(vectors, 1, method).tolist() in ([0] * 10, [-1] * 10)  # HDBSCAN: all, or noise


def test_copies_of_a_text_share_a_cluster_and_are_no_noise():
    """Principal components of equal vectors differ in their last digits; HDBSCAN took that for structure."""
    vectors = np.repeat(unit_vectors(3), 20, axis=0).astype(np.float32)
    labels = structure.cluster(vectors, 3, "hdbscan").reshape(3, 20)
    assert sorted(labels[:, 0]) == [0, 1, 2] and (labels == labels[:, :1]).all()


# --- words of every alphabet ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("über öffnet hotel ärzte café", {"über", "öffnet", "hotel", "ärzte", "café"}),
        ("Été ßen Ørsted", {"été", "ßen", "ørsted"}),
        ("дешёвый отель", {"дешёвый", "отель"}),
        ("中文 酒店", {"中文", "酒店"}),
        ("हिन्दी होटल", {"हिन्दी", "होटल"}),  # vowel signs are no \\w
        ("E\u0301cole cafe\u0301", {"école", "café"}),  # accents that are characters of their own
        ("l'été they'll we’ve", {"they", "we"}),
        ("4 stars 7pm _x [hotel_name] a", {"stars", "[hotel_name]"}),
    ],
)
def test_words_begin_with_a_letter_of_any_alphabet(text, words):
    found = structure.representative_words([text], [0], stop_words=None)[0]
    assert {word for word, _ in found} == words


# --- half an emoji, ids with dots -------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["dialogue_id", "utterance", "act"])
def test_half_an_emoji_is_named_with_its_dialogue_turn_and_field(field):
    half = "hi \ud83d there"
    acts = {f"Hotel-{half}": []} if field == "act" else {}
    turns = [Turn("user", "hello"), Turn("bot", half if field == "utterance" else "bye", acts=acts)]
    dialogue = Dialogue(half if field == "dialogue_id" else "D1", (), turns)
    with pytest.raises(LabError, match=f"dialogue .*turn [01], {field} holds half an emoji") as caught:
        structure.representations([dialogue], 1)
    str(caught.value).encode()  # the line itself can be printed


def test_dialogues_whose_ids_differ_after_a_dot_stay_two(dialogues):
    named = [Dialogue(f"conv.2024.00{i}", (), dialogues[0].turns) for i in (1, 2)]
    rows = structure.representations(named)
    assert structure.label_sequences(rows, [0, 1, 0, 1, 1, 1, 0, 0]) == [[0, 1, 0, 1], [1, 1, 0, 0]]


# --- the cache and the encoder ----------------------------------------------------------------------------------------


class Trap:
    """Unpickled, it leaves a mark."""

    def __reduce__(self):
        return Path.touch, (Path(os.environ["LAB_TEST_MARK"]),)


def _pickled(path, vectors):
    path.write_bytes(pickle.dumps(Trap()))


def _pickled_array(path, vectors):
    np.save(path, np.array([Trap()] * len(vectors), dtype=object), allow_pickle=True)


def _archive(path, vectors):
    with path.open("wb") as file:
        np.savez(file, vectors)


def _half_zeros(path, vectors):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))


def _endless_header(path, vectors):
    whole = path.read_bytes()
    claim = b"(999999999999, 32), }"
    path.write_bytes(whole.replace(b"(2, 32), }".ljust(len(claim)), claim))


DAMAGES = {
    "cut": lambda path, vectors: path.write_bytes(path.read_bytes()[:-9]),
    "cut in the header": lambda path, vectors: path.write_bytes(path.read_bytes()[:20]),
    "empty": lambda path, vectors: path.write_bytes(b""),
    "NULs": lambda path, vectors: path.write_bytes(bytes(path.stat().st_size)),
    "NULs from the middle on": _half_zeros,
    "a pickle": _pickled,
    "a pickled array": _pickled_array,
    "an archive": _archive,
    "half an archive": lambda path, vectors: path.write_bytes(b"PK\x03\x04" + bytes(40)),
    "a header that claims terabytes": _endless_header,
    "text": lambda path, vectors: path.write_text("<html>log in</html>"),
    "fewer rows": lambda path, vectors: np.save(path, vectors[:1]),
    "other width": lambda path, vectors: np.save(path, vectors[:, :7]),
    "one dimension": lambda path, vectors: np.save(path, vectors.ravel()),
    "other type": lambda path, vectors: np.save(path, vectors.astype(np.float64)),
    "NaN": lambda path, vectors: np.save(path, vectors * np.float32("nan")),
    "not of length one": lambda path, vectors: np.save(path, 2 * vectors),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_vectors_in_the_cache_are_made_again_and_never_unpickled(
    damage, tiny_lm, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("LAB_TEST_MARK", str(tmp_path / "unpickled"))
    cache = tmp_path / "cache"
    first = structure.embed(["a taxi", "a hotel"], tiny_lm, cache=cache)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    DAMAGES[damage](path, np.load(path))
    assert path.read_bytes() != whole
    capsys.readouterr()
    np.testing.assert_array_equal(structure.embed(["a taxi", "a hotel"], tiny_lm, cache=cache), first)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and "damaged" in lines[0] and path.name in lines[0]
    assert path.read_bytes() == whole and list(cache.iterdir()) == [path]  # mended, and nothing is left beside it
    assert not (tmp_path / "unpickled").exists()


def test_texts_with_nul_characters_do_not_share_a_cache_file():
    """Joined by NUL, these two lists are one text."""
    assert embedding._key(["a", "b\0c\0d\0e"], "model") != embedding._key(["a\0b", "c\0d\0e"], "model")


def test_a_model_that_computes_nan_says_so_and_nothing_is_kept(tiny_lm, tmp_path):
    broken = copy.copy(tiny_lm)
    broken.model = copy.deepcopy(tiny_lm.model)  # float16 that overflows gives the same
    broken.model.gpt_neox.layers[0].mlp.dense_h_to_4h.weight.data[0, 0] = float("nan")
    with pytest.raises(LabError, match="hidden states hold NaN or infinity, computed in float32"):
        structure.embed(["a taxi", "a hotel"], broken, cache=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("settings", [{"layer": 3}, {"layer": -4}, {"layer": 0.5}, {"batch_size": 0}])
def test_a_layer_or_batch_size_that_cannot_be_is_one_clear_line(tiny_lm, settings):
    with pytest.raises(LabError, match=next(iter(settings))):
        structure.embed(["a taxi"], tiny_lm, **settings)


def test_a_sentence_encoder_gives_its_own_vectors_and_zeros_are_refused(tmp_path):
    import torch

    class Encoder(torch.nn.Linear):
        max_seq_length = 8

        def encode(self, texts, show_progress_bar=True):
            return np.array([[len(text), 4.0] for text in texts]) * self.scale

    encoder = Encoder(1, 1)
    encoder.scale = 1.0
    for _ in range(2):  # computed, then from the disk
        np.testing.assert_allclose(structure.embed(["abc"], encoder, tmp_path), [[0.6, 0.8]], rtol=1e-6)
    encoder.scale = 0.0
    with pytest.raises(LabError, match="point nowhere"):
        structure.embed(["abcd"], encoder, tmp_path)


def test_the_function_embed_is_not_hidden_by_its_module():
    assert callable(structure.embed) and embedding.embed is structure.embed


# --- the chain, smoothed in two ways ----------------------------------------------------------------------------------


def test_add_one_is_laplaces_rule():
    """After BEGIN: 0 twice, END never; k + 1 = 3 things can follow."""
    bits = structure.chain_bits([[0], [0, 1]], [[0]], 2, 1, smoothing="add-one")
    begin_to_0, from_0_to_end = (2 + 1) / (2 + 3), (1 + 1) / (2 + 3)
    assert bits == pytest.approx(-np.log2([begin_to_0, from_0_to_end]).mean())
    assert structure.chain_bits([], [[0, 1]], 3, 2, smoothing="add-one") == pytest.approx(2)


def test_a_higher_order_loses_for_lack_of_data_with_add_one_and_hardly_with_the_hierarchy():
    draw, sequences = np.random.default_rng(0), []
    for _ in range(60):  # the next state depends on this one alone: order 2 has nothing to gain
        states = [int(draw.integers(8))]
        for _ in range(9):
            states.append((states[-1] + 1) % 8 if draw.random() < 0.7 else int(draw.integers(8)))
        sequences.append(states)

    def loss(smoothing):
        bits = [structure.chain_bits(sequences[:40], sequences[40:], 8, n, smoothing=smoothing) for n in (1, 2)]
        return bits[1] - bits[0]

    assert loss("add-one") > 0.2 and loss("hierarchical") < loss("add-one") / 2


# --- neighbours of many vectors ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_neighbours_of_many_vectors_are_nearly_the_exact_ones():
    maps = importlib.import_module("labkit.structure.maps")
    draw = np.random.default_rng(0)
    centres = unit_vectors(300, 24)
    vectors = centres[draw.integers(0, 300, maps.EXACT + 1_000)] + 0.08 * draw.normal(size=(maps.EXACT + 1_000, 24))
    indices, distances = structure.neighbours(vectors, 30)
    exact, limits = maps._nearest(vectors[::9], vectors, 30)
    assert not np.array_equal(indices[::9], exact)  # it was not all pairs that were compared
    recall = np.mean([len(np.intersect1d(mine, right)) / 30 for mine, right in zip(indices[::9], exact, strict=True)])
    assert recall > 0.9
    assert (indices[:, 0] == np.arange(len(vectors))).all() and (np.diff(distances) >= 0).all()
    np.testing.assert_allclose(distances[5], np.linalg.norm(vectors[indices[5]] - vectors[5], axis=1), atol=1e-6)
    assert (distances[::9] >= limits - 1e-9).all()  # none is nearer than the nearest
    again, _ = structure.neighbours(vectors, 30)
    np.testing.assert_array_equal(indices, again)


def test_few_vectors_have_exact_neighbours():
    vectors = unit_vectors(500)
    indices, distances = structure.neighbours(vectors, 10)
    pairs = np.linalg.norm(vectors[:, None] - vectors, axis=2)  # [500, 500]
    np.testing.assert_allclose(distances, np.sort(pairs)[:, :10], atol=1e-6)
    np.testing.assert_array_equal(indices, np.argsort(pairs)[:, :10])


def test_many_copies_of_a_few_vectors_have_neighbours_at_no_distance():
    maps = importlib.import_module("labkit.structure.maps")
    vectors = np.repeat(unit_vectors(90, 8), 100, axis=0)
    assert len(vectors) > maps.EXACT
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, distances = structure.neighbours(vectors, 50)
    assert distances.max() < 1e-6
