"""A batch on a CPU in parts that are written side by side."""

import random
import threading
from importlib import import_module

import numpy as np
import pytest
import tiny_models

import labkit
from labkit.decoding import parts
from labkit.decoding.batches import make_rows, tree_batches
from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate
from labkit.decoding.kept import KeptCaches
from labkit.decoding.parts import n_parts, parts_of
from labkit.decoding.tree import Tree
from labkit.errors import LabError, OutOfMemory
from labkit.models import packed
from labkit.models.families import route_of

CONFIGS = {
    "greedy": DecodingConfig(max_new_tokens=8),
    "sample": DecodingConfig("sample", max_new_tokens=8, top_k=20, repetition_penalty=1.1),
    "beam": DecodingConfig("beam", num_beams=2, max_new_tokens=6),
    "contrastive": DecodingConfig("contrastive", max_new_tokens=4),
}
RANDOM = random.Random(3)


def drawn(n: int) -> list[int]:
    return [RANDOM.randrange(1, 290) for _ in range(n)]


BEGINNINGS = [drawn(20), drawn(16), drawn(24), drawn(13)]
PROMPTS = [one + drawn(n) for number, one in enumerate(BEGINNINGS) for n in range(1, number + 2)]  # 1, 2, 3 and 4 rows


@pytest.fixture
def writers(monkeypatch) -> set[int]:
    """The threads that have made a tree; a few rows are enough for a part."""
    monkeypatch.setattr(parts, "LEAST_NUMBERS", 0.1)
    monkeypatch.setattr(parts, "LEAST_ROWS", 0.1)
    found = set()
    make = Tree.__init__

    def noted(self, *args, **options):
        found.add(threading.get_ident())
        make(self, *args, **options)

    monkeypatch.setattr(Tree, "__init__", noted)
    return found


def in_one_part(monkeypatch) -> None:
    monkeypatch.setattr(import_module("labkit.decoding.generate"), "n_parts", lambda *_: 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", tiny_models.CASES)
def test_every_family_writes_side_by_side_what_it_writes_in_one_batch(name, writers, four_threads, monkeypatch):
    """Trap: the hook on the output head is on the model, which all threads have, and so is what a layer keeps. And what
    is in a place without a row, which packed layers leave out, must not reach a row.
    """
    lm = tiny_models.case(name)
    lm.codec.stop_ids = [0]
    if not route_of(lm.base).by_tree:
        generate(lm, PROMPTS, CONFIGS["greedy"])
        assert not writers
        return
    with monkeypatch.context() as patched:
        patched.setattr(packed, "LEAST_NUMBERS", 1)
        side_by_side = {strategy: generate(lm, PROMPTS, config) for strategy, config in CONFIGS.items()}
    assert len(writers) > 1
    in_one_part(monkeypatch)
    assert side_by_side == {strategy: generate(lm, PROMPTS, config) for strategy, config in CONFIGS.items()}
    assert len(set(map(tuple, side_by_side["greedy"]))) > 5, "replies that say something"


@pytest.mark.slow
def test_dialogues_with_their_own_states_are_written_side_by_side(miniwoz, writers, four_threads, monkeypatch):
    """The grammar and what is kept of each dialogue are used by several threads."""
    lm = labkit.load_model("mini-pythia-500k")
    grammar = labkit.state_grammar(miniwoz, only_said=True)
    config = DecodingConfig(max_new_tokens=12)
    how = {"format": "changes-db", "database": miniwoz.database, "grammar": grammar}
    for own_states in (True, False):
        writers.clear()
        written = labkit.predict(lm, miniwoz["test"][:6], config, own_states=own_states, **how)
        assert len(writers) > 1
        with monkeypatch.context() as patched:
            in_one_part(patched)
            assert labkit.predict(lm, miniwoz["test"][:6], config, own_states=own_states, **how) == written


def test_a_filter_of_ones_own_is_called_by_one_thread_at_a_time(tiny_lm, writers, four_threads):
    """It may count, or draw, or print."""
    callers = set()

    def odd_only(scores, written):
        callers.add(threading.get_ident())
        scores[::2] = -np.inf
        return scores

    generate(tiny_lm, PROMPTS, CONFIGS["greedy"], filters=[odd_only])
    assert callers == writers == {threading.get_ident()}


def test_an_error_in_one_part_ends_the_others_at_their_next_token(tiny_lm, writers, four_threads, monkeypatch):
    """Trap: an interrupt that takes as long as the whole batch."""
    read = Tree.read
    n_read = []
    begun, failed = threading.Event(), threading.Event()

    def failing(self, tokens):
        if len(self.rows) == 4:
            assert begun.wait(20), "another part is written at the same time"
            failed.set()
            raise LabError("no more", "", "stop")
        begun.set()
        assert failed.wait(20)
        n_read.append(len(tokens))
        return read(self, tokens)

    monkeypatch.setattr(Tree, "read", failing)
    long = DecodingConfig(max_new_tokens=400, min_new_tokens=400)
    with pytest.raises(LabError, match="no more"):
        generate(tiny_lm, PROMPTS, long)
    assert 0 < len(n_read) < 200


def test_out_of_memory_in_a_part_says_what_to_do(tiny_lm, writers, four_threads, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(Tree, "read", full)
    with pytest.raises(OutOfMemory, match="batch_size below 64"):
        generate(tiny_lm, PROMPTS, CONFIGS["greedy"])


def test_conversations_go_on_side_by_side(tiny_lm, writers, four_threads):
    caches = KeptCaches()
    names = [str(number) for number in range(len(PROMPTS))]
    generate(tiny_lm, PROMPTS, CONFIGS["greedy"], kept=caches.of(names))
    longer = [prompt + drawn(3) for prompt in PROMPTS]
    written = generate(tiny_lm, longer, CONFIGS["greedy"], kept=caches.of(names))
    assert len(writers) > 1
    assert written == [generate(tiny_lm, [prompt], CONFIGS["greedy"])[0] for prompt in longer]


def test_each_group_is_in_one_part_and_like_ones_are_together():
    rows = make_rows(PROMPTS, None, 0)
    (groups,) = tree_batches(rows, 64)
    two = parts_of(groups, 2, new_tokens=32)
    assert sorted(row.index for part in two for group in part for row in group) == list(range(len(PROMPTS)))
    sizes = [[len(group) for group in part] for part in two]
    assert sorted(map(sorted, sizes)) == [[1, 2, 3], [4]]
    for part in two:
        lengths = [len(group[0].prompt) for group in part]
        assert lengths == sorted(lengths, reverse=True), "trunks of like length are read together"
    assert parts_of(groups, 1, new_tokens=32) == [groups]
    assert len(parts_of(groups[:1], 4, new_tokens=32)) == 1


def test_there_are_no_more_parts_than_threads_and_none_too_small(tiny_lm, four_threads, monkeypatch):
    """Trap: parts that one thread writes after the other; or so small that Python takes more time than the numbers."""
    (groups,) = tree_batches(make_rows(PROMPTS, None, 0), 64)
    assert n_parts(tiny_lm, groups) == 1
    monkeypatch.setattr(parts, "LEAST_NUMBERS", 1)
    assert n_parts(tiny_lm, groups) == 4
    monkeypatch.setattr(parts, "IN_CACHE", 0)
    assert n_parts(tiny_lm, groups) == 1, "ten rows, and all weights would be read from memory twice"
    monkeypatch.setattr(parts, "LEAST_ROWS", 2)
    assert n_parts(tiny_lm, groups) == 2
