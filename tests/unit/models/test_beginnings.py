"""Many short sequences read at once: each has the states that it has alone, and what they share is read once."""

import importlib
import random

import numpy as np
import pytest
import torch
from tiny_models import CASES, case

from labkit import structure
from labkit.models import beginnings
from labkit.models.families import route_of

embedding = importlib.import_module("labkit.structure.embed")  # `structure.embed` is its function
RANDOM = random.Random(3)
WINDOW = 64  # tokens: no sequence below is longer
SHORT = 9  # the windows of CASES are of 8
SOME_FAST = [pytest.param(name, marks=pytest.mark.slow) if number % 4 else name for number, name in enumerate(CASES)]


def drawn(n):
    return [RANDOM.randrange(1, 290) for _ in range(n)]


STEM = drawn(9)
BRANCH = STEM + drawn(4)
SEQUENCES = [STEM + drawn(7), drawn(1), STEM, BRANCH + drawn(5), STEM, drawn(30), BRANCH + drawn(2), BRANCH, drawn(12)]


def alone(lm, tokens, layer):
    with torch.inference_mode():
        out = lm.base.base_model(torch.tensor([tokens]), output_hidden_states=True, use_cache=False)
    return out.hidden_states[layer][0].mean(0).numpy()


@pytest.mark.parametrize("name", SOME_FAST)
def test_each_sequence_has_the_states_that_it_has_alone(name, monkeypatch):
    monkeypatch.setattr(beginnings, "WIDTH", 40)  # so that there are several rows
    lm = case(name)
    route = route_of(lm.base)
    assert beginnings.shares_beginnings(lm, SHORT) == (route.by_tree and route.window is None)
    if not route.by_tree:
        return
    if route.window:
        lm = case(name, sliding_window=WINDOW)
        assert beginnings.shares_beginnings(lm, WINDOW)
        assert not beginnings.shares_beginnings(lm, WINDOW + 1)
    for layer in (0, -1):
        together = beginnings.mean_states(lm, SEQUENCES, layer).numpy()
        apart = np.array([alone(lm, tokens, layer) for tokens in SEQUENCES])
        np.testing.assert_allclose(together, apart, atol=1e-5 * np.abs(apart).max())


def test_a_beginning_that_several_have_is_read_once():
    rows, places = beginnings.in_rows([[1, 2, 3], [1, 2], [7], [1, 2, 4, 5], [1, 2]], width=10)
    (row,) = rows
    assert row.ids == [1, 2, 3, 4, 5, 7] and row.positions == [0, 1, 2, 2, 3, 0]
    assert row.last == [4, 4, 2, 4, 4, 5]
    assert places == [[0, 1, 2], [0, 1], [5], [0, 1, 3, 4], [0, 1]]


def test_no_row_is_wider_than_asked_for_and_every_sequence_is_whole():
    rows, places = beginnings.in_rows(SEQUENCES, width=30)
    assert len(rows) > 1 and all(len(row.ids) <= 30 for row in rows)
    flat = {(at, column): token for at, row in enumerate(rows) for column, token in enumerate(row.ids)}
    assert [[flat[divmod(place, 30)] for place in some] for some in places] == SEQUENCES


TEXTS = [
    "i want a cheap hotel",
    "",
    "i want a taxi",
    "\N{SLICE OF PIZZA} at noon",
    "i want\na taxi",
    "i want a taxi now",
]
TEXTS += ["i want a taxi now", "no , " * embedding.MAX_TOKENS, "i " + "really " * embedding.MAX_TOKENS + "want a taxi"]


def test_vectors_are_those_of_padded_texts(tiny_lm, monkeypatch):
    """They were read one text a row until 28 November 2026."""
    by_beginnings = structure.embed(TEXTS, tiny_lm, batch_size=3)
    monkeypatch.setattr(embedding, "shares_beginnings", lambda *_: False)
    np.testing.assert_allclose(by_beginnings, structure.embed(TEXTS, tiny_lm), atol=1e-5)


def test_half_of_the_work_is_saved_where_texts_begin_alike(tiny_lm):
    read = []
    hook = tiny_lm.model.gpt_neox.embed_in.register_forward_hook(lambda _, ids, out: read.append(ids[0].numel()))
    texts = [f"i would like to book a table for {number} people" for number in range(40)]
    structure.embed(texts, tiny_lm)
    hook.remove()
    asked = sum(len(tiny_lm.tokenizer(text)["input_ids"]) for text in texts)
    assert 2 * sum(read) < asked
