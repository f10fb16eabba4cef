"""A cache that grows in place, and a head that sees rows only: the same as the plain way."""

import pytest
import torch
from tiny_training import tiny_lm
from transformers import DynamicCache

from labkit.decoding.batches import make_rows, tree_batches
from labkit.decoding.cache import begun_cache, close_up, growing_cache
from labkit.decoding.rows import shared
from labkit.decoding.tree import Tree, without_gaps


def test_a_cache_that_grows_in_place_holds_what_one_that_is_copied_holds():
    """Traps: columns of before that are lost when room is made, or when trunks leave; a copy at every token."""
    torch.manual_seed(0)
    ours, theirs = growing_cache(), DynamicCache()
    rooms = []  # kept alive, so that no two have one address
    for step, n_new in enumerate([5, 1, 1, 40, 1, 90, 1, 1]):
        n_trunks = 3 if step < 4 else 2
        for layer in range(2):
            keys, values = torch.randn(2, n_trunks, 2, n_new, 4)
            got = ours.update(keys, values, layer)
            for mine, right in zip(got, theirs.update(keys, values, layer), strict=True):
                assert torch.equal(mine, right)
        rooms.append(ours.layers[1].room[0])
        if step == 3:
            for cache in (ours, theirs):
                cache.batch_select_indices(torch.tensor([2, 0]))
        if step == 6:
            for cache in (ours, theirs):
                cache.crop(-2)
    assert ours.get_seq_length() == theirs.get_seq_length()
    assert len({room.data_ptr() for room in rooms}) == 3  # at first, after trunks left, and once for more room


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.reorder_cache(torch.tensor([1, 0, 1])),
        lambda cache: cache.batch_repeat_interleave(2),
        lambda cache: cache.batch_select_indices(torch.tensor([2, 0])),
        lambda cache: cache.crop(3),
    ],
    ids=["reorder", "repeat", "select", "crop"],
)
def test_whatever_is_done_to_a_growing_cache_is_done_to_what_comes_after(change):
    """Trap: new columns that are written behind the old order."""
    ours, theirs = growing_cache(), DynamicCache()
    keys, values = torch.randn(2, 3, 2, 5, 4)
    for cache in (ours, theirs):
        cache.update(keys, values, 0)
        change(cache)
    keys, values = torch.randn(2, len(theirs.layers[0].keys), 2, 1, 4)
    for mine, right in zip(ours.update(keys, values, 0), theirs.update(keys, values, 0), strict=True):
        assert torch.equal(mine, right)


def test_a_trunk_that_leaves_costs_the_copy_of_one_and_not_of_all():
    """A fifth of a conversation's time went into copying the caches of those that stay. Traps: a trunk that is
    overwritten before it has moved; room that keeps the places of before."""
    assert without_gaps([0, 1, 2]) == [0, 1, 2]
    for staying in ([0, 2, 5], [4, 3], [5], [1, 2, 3, 4, 5]):
        order = without_gaps(staying)
        assert sorted(order) == sorted(staying)
        ours, theirs = growing_cache(), DynamicCache()
        for cache, seed in ((ours, 3), (theirs, 3)):
            torch.manual_seed(seed)
            for layer in range(2):
                cache.update(*torch.randn(2, 6, 2, 5, 4), layer)
        begins_at = ours.layers[1].room[0].data_ptr()
        close_up(ours, order)
        theirs.batch_select_indices(torch.tensor(order))
        new = torch.randn(2, len(order), 2, 1, 4)
        for layer in range(2):
            for mine, right in zip(ours.update(*new, layer), theirs.update(*new, layer), strict=True):
                assert torch.equal(mine, right)
        assert ours.layers[1].keys.data_ptr() == begins_at


def test_a_cache_that_begins_with_keys_and_values_goes_on_in_their_memory():
    keys, values = torch.randn(2, 3, 2, 9, 4)
    new = torch.full((2, 3, 2, 1, 4), 7.0)
    cache = begun_cache([(keys, values)], 5)
    got_keys, got_values = cache.update(*new, 0)
    assert got_keys.shape == (3, 2, 6, 4) and got_keys.data_ptr() == keys.data_ptr()
    assert (keys[:, :, 5] == 7).all() and (got_values[:, :, 5] == 7).all()
    assert cache.get_seq_length() == 6


def test_worked_examples_before_all_prompts_make_one_trunk_of_all_dialogues():
    """Rows of 20 dialogues were read beside one trunk, since two worked examples were more than half of each prompt:
    23,000 new columns that look at each other, 4.4 GB and 8 times the time."""
    head = list(range(100))
    dialogues = [[*head, *range(200 + 50 * number, 240 + 50 * number)] for number in range(4)]
    prompts = [dialogue[:length] for dialogue in dialogues for length in (110, 125, 140)]
    (groups,) = tree_batches(make_rows(prompts, None, 0), 64)
    assert sum(map(len, groups)) == len(prompts)
    for group in groups:
        trunk = group[0].prompt
        own = [len(row.prompt) - shared(trunk, row.prompt) for row in group]
        assert len(group) * max(own) <= len(trunk)
    assert len(groups) == 4, "the turns of a dialogue stay together"


@pytest.mark.parametrize(
    ("size", "alike", "others"), [(1, [1] * 12, [1] * 12), (4, [7, 5], [4, 4, 4]), (64, [12], [12])]
)
def test_prompts_that_begin_alike_are_written_in_batches_of_twice_the_size(size, alike, others):
    """Half of a batch's rows left after a few tokens, and a step with the rest took as long as one with all."""
    head = list(range(100))
    prompts = [[*head, 200 + number] for number in range(12)]
    unlike = [[number, *head] for number in range(200, 212)]
    for some, expected in ((prompts, alike), (unlike, others)):
        batches = list(tree_batches(make_rows(some, None, 0), size))
        assert [sum(map(len, groups)) for groups in batches] == expected


def test_the_head_computes_no_scores_of_empty_slots():
    """Trap: trunks with few rows that cost as much as those with many."""
    lm = tiny_lm()
    prompts = [[5, 6, 7, 8], [5, 6, 7], [5, 6], [9, 8, 7, 6], [9, 8, 3]]
    (groups,) = tree_batches(make_rows(prompts, None, 0), 8)
    assert sorted(map(len, groups)) == [2, 3]
    tree = Tree(lm, groups, contrastive=False)
    seen = []
    lm.model.get_output_embeddings().register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    logits = tree.read_prompts()
    assert seen == [(5, 1, lm.model.config.vocab_size)]
    for row, scores in zip(tree.rows, logits, strict=True):
        alone = lm.model(torch.tensor([row.prompt])).logits[0, -1]
        torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("contrastive", [False, True])
def test_long_and_short_trunks_are_not_padded_to_one_length(contrastive):
    """A batch of dialogues read a fifth of its columns for nothing."""
    lm = tiny_lm()
    lengths = []
    hook = lm.model.gpt_neox.embed_in.register_forward_hook(lambda _, ids, out: lengths.append(tuple(ids[0].shape)))
    groups = [make_rows([list(range(5, 5 + n))], None, 1) for n in (40, 38, 20, 3)]
    tree = Tree(lm, groups, contrastive=contrastive)
    hook.remove()
    assert lengths == [(2, 40), (1, 20), (1, 3)]
    for number, group in enumerate(groups):
        alone = Tree(lm, [group], contrastive=contrastive)
        n_tokens = len(group[0].prompt)
        for ours, theirs in zip(tree.cache.layers, alone.cache.layers, strict=True):
            torch.testing.assert_close(ours.keys[number, :, :n_tokens], theirs.keys[0])
            torch.testing.assert_close(ours.values[number, :, :n_tokens], theirs.values[0])
        if contrastive:
            torch.testing.assert_close(tree.context[number, :n_tokens], alone.context[0])
