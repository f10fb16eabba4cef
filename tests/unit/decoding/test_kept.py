"""Conversations that keep their key-value caches: less is read at each turn, and the same is written."""

import random
from functools import partial
from importlib import import_module

import pytest
import tiny_models

import labkit
from labkit.decoding import tree
from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate
from labkit.decoding.kept import KeptCaches
from labkit.interaction import ActClassifier, ModelBot, UserConfig, playable, users_for
from labkit.interaction.play import play

FAMILIES = ["GPT-NeoX", "GPT-2", "OPT", "Falcon, multi-query", "LLaMA", "Mistral", "Gemma 3", "gpt-oss", "Mamba"]


RANDOM = random.Random(1)


def drawn(n):
    return [RANDOM.randrange(1, 290) for _ in range(n)]


@pytest.fixture(scope="module")
def small():
    return labkit.load_model("mini-pythia-500k", bits=32)


@pytest.fixture
def read(monkeypatch):
    """How many tokens each forward pass over prompts and replies is given, all rows together."""
    counted = []
    of_trunks, of_rows = tree.Tree._read_trunks, tree.Tree.read

    def count_trunks(self, trunks):
        counted.append(sum(map(len, trunks)))
        return of_trunks(self, trunks)

    def count_rows(self, tokens):
        counted.append(sum(map(len, tokens)))
        return of_rows(self, tokens)

    monkeypatch.setattr(tree.Tree, "_read_trunks", count_trunks)
    monkeypatch.setattr(tree.Tree, "read", count_rows)
    return counted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "format", "states"),
    [("greedy", "turns", "user"), ("beam", "db", "user"), ("greedy", "changes-db", "own")],
)
def test_a_bot_that_keeps_its_cache_says_the_same_to_the_token(miniwoz, small, read, strategy, format, states):
    """Trap: without it the prompt of every turn is read from its first word."""
    config = DecodingConfig(strategy, max_new_tokens=12, batch_size=8, num_beams=2 if strategy == "beam" else 4)
    classifier = ActClassifier.of(miniwoz, "test")
    said = []
    n_read = []
    for keeps in (True, False):
        bot = ModelBot(small, config, format=format, states=states, database=miniwoz.database)
        if states == "own":
            bot.grammar = labkit.state_grammar(miniwoz, only_said=True)
        if not keeps:
            bot.kept = None
        users = users_for(miniwoz, playable(miniwoz, "test")[:2], UserConfig(patience=3), "test")
        read.clear()
        said.append([(one.users, one.replies) for one in play(bot, users, classifier)])
        n_read.append(sum(read))
    assert said[0] == said[1] and all(len(replies) > 2 for _, replies in said[0])
    assert n_read[0] < 0.8 * n_read[1], n_read


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_goes_on_from_what_it_has_read(name, read):
    """Longer than the window of those that have one; the second has lost its beginning, the third is new."""
    lm = tiny_models.case(name)
    lm.codec.stop_ids = [0]
    first, second, third = drawn(30), drawn(20), drawn(12)
    caches = KeptCaches()
    for strategy in ("greedy", "beam"):
        config = DecodingConfig(strategy, max_new_tokens=5, min_new_tokens=5, num_beams=2 if strategy == "beam" else 4)
        before = [first, second]
        generate(lm, before, config, kept=caches.of(["a", "b"]))
        after = [first + drawn(7), second[5:] + drawn(3), third]
        read.clear()
        written = generate(lm, after, config, kept=caches.of(["a", "b", "c"]))
        n_read = sum(read)
        read.clear()
        assert written == generate(lm, after, config)
        assert name == "Mamba" or n_read <= sum(read) - len(first)


def test_what_is_forbidden_to_grow_is_read_anew(small, read):
    """With no room for caches the text is the same, and nothing is kept of conversations that have ended."""
    config = DecodingConfig(max_new_tokens=4)
    prompt, other = drawn(20), drawn(20)
    for most_bytes, is_kept in ((0, False), (10**9, True)):
        caches = KeptCaches(most_bytes)
        generate(small, [prompt, other], config, kept=caches.of(["a", "b"]))
        read.clear()
        again = caches.of(["a"])
        longer = [*prompt, *other[:5]]
        assert generate(small, [longer], config, kept=again) == generate(small, [longer], config)
        assert (read[0] == 5) == is_kept
        assert caches.of(["b"])[0] is None or not caches.of(["b"])[0].tokens


def test_contrastive_search_looks_back_at_all_it_has_read(small):
    config = DecodingConfig("contrastive", max_new_tokens=6)
    prompt = small.codec.encode("user> i want a cheap hotel .\nbot>")
    caches = KeptCaches()
    generate(small, [prompt[:10]], DecodingConfig(max_new_tokens=2), kept=caches.of(["a"]))
    assert generate(small, [prompt], config, kept=caches.of(["a"])) == generate(small, [prompt], config)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["state", "changes-db"])
def test_states_that_are_written_turn_by_turn_read_a_dialogue_once(miniwoz, small, read, format, monkeypatch):
    """Each turn's prompt was read twice from its first word: for the state, and for the reply after it."""
    module = import_module("labkit.decoding.predict")  # `decoding.predict` is a module and a function
    dialogues = [dialogue for dialogue in miniwoz["test"] if len(dialogue.turns) > 6][:3]
    config = DecodingConfig(max_new_tokens=12)
    written, n_read = [], []
    for most_bytes in (10**9, 0):
        monkeypatch.setattr(module, "KeptCaches", partial(KeptCaches, most_bytes))
        read.clear()
        written.append(labkit.predict(small, dialogues, config, format=format, database=miniwoz.database))
        n_read.append(sum(read))
    assert written[0] == written[1]
    assert n_read[0] < 0.7 * n_read[1], n_read
