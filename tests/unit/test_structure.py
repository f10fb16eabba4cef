"""Embeddings, clusters, words and the chain: each test guards a trap of the 2023 notebook or of pooled vectors."""

import copy
import importlib
import os
import subprocess
import sys
import warnings

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


@pytest.mark.slow
def test_a_map_of_many_equal_utterances_neither_fails_nor_warns():
    vectors = np.repeat(np.eye(8), 20, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # umap's spectral start would warn and begin at random
        assert np.isfinite(structure.umap_map(vectors, 10)).all()


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
