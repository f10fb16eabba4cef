"""The log-linear document model: each test guards an error of the 2023 notebook's, or a number that could flatter."""

import numpy as np
import pytest

from labkit import loglinear
from labkit.errors import LabError


@pytest.fixture(scope="module")
def texts():
    """300 texts about one of two topics; words of a topic occur together, 'the' and 'is' everywhere."""
    draw = np.random.default_rng(0)
    topics = (["hotel", "stars", "parking", "nights"], ["train", "leaves", "arrives", "ticket"])
    return [" ".join(["the", "is", *draw.choice(topics[i % 2], 6)]) for i in range(300)]


@pytest.fixture(scope="module")
def model(texts):
    return loglinear.document_model(texts[:240], size=4)


def test_b_starts_at_the_log_unigrams_and_the_likelihood_rises(model, texts):
    words = " ".join(texts[:240]).split()
    names = model.counter.get_feature_names_out()
    shares = [words.count(name) / len(words) for name in names]
    np.testing.assert_allclose(np.exp(model.unigrams), shares, rtol=1e-5)
    entropy = -np.sum(shares * np.log(shares))  # the 2023 lab's b stayed random
    assert model.history[0] == pytest.approx(entropy, rel=0.02) and model.history[-1] < model.history[0] - 0.2


def test_the_vectors_of_documents_are_learned_and_tell_topics_apart(model):
    a, topic = model.documents, np.arange(240) % 2
    assert model.documents.shape == (240, 4) and np.linalg.norm(a, axis=1).min() > 0
    way = a[topic == 0].mean(0) - a[topic == 1].mean(0)
    assert ((a @ way > (a @ way).mean()) == (topic == 0)).mean() > 0.95
    assert set(model.typical(way, 4)) == {"hotel", "stars", "parking", "nights"}


def test_held_out_words_are_guessed_better_than_by_unigrams_and_the_unigrams_are_exact(model, texts):
    scores = loglinear.completion(model, texts[240:])
    assert scores["document model"] < 0.8 * scores["unigrams"]
    assert scores["unigrams"] == pytest.approx(np.exp(-model.unigrams @ np.exp(model.unigrams)), rel=0.05)


def test_nothing_is_gained_on_texts_without_structure():
    draw, words = np.random.default_rng(1), ["hotel", "train", "taxi", "food", "area", "price", "stars", "day"]
    texts = [" ".join(draw.choice(words, 8)) for _ in range(300)]
    scores = loglinear.completion(loglinear.document_model(texts[:240], size=4), texts[240:])
    assert scores["document model"] > 0.99 * scores["unigrams"]


def test_the_prior_pulls_the_vectors_to_zero(texts):
    sizes = [np.square(loglinear.document_model(texts, 4, 10, prior).documents).mean() for prior in (0.3, 3.0, 300.0)]
    assert sizes[0] > sizes[1] > sizes[2] and sizes[2] < sizes[1] / 100


def test_the_same_seed_gives_the_same_vectors_and_a_text_without_known_words_stays_near_zero(texts):
    first, second = (loglinear.document_model([*texts[:40], "?"], 4, 3) for _ in range(2))
    np.testing.assert_array_equal(first.documents, second.documents)
    assert np.abs(first.documents[-1]).max() == 0


def test_no_words_at_all_are_one_clear_line():
    with pytest.raises(LabError, match="nothing to model"):
        loglinear.document_model(["?", "!"])


@pytest.mark.parametrize("settings", [{"size": 0}, {"epochs": 0}, {"prior": -1}, {"prior": np.nan}, {"seed": -1}])
def test_a_document_model_that_cannot_be_is_one_clear_line(texts, settings):
    with pytest.raises(LabError, match=next(iter(settings))):
        loglinear.document_model(texts[:4], **settings)


@pytest.mark.parametrize("unknown", [[], ["zebra quagga"], ["", "?"]])
def test_held_out_texts_without_a_known_word_are_one_clear_line(model, unknown):
    with pytest.raises(LabError, match="no words to score"):
        loglinear.completion(model, unknown)


def test_the_path_that_notebooks_import_from_is_the_same_module():
    from labkit.structure import loglinear as home

    assert loglinear.document_model is home.document_model and loglinear.completion is home.completion
