"""What is faster than the plain way gives what the plain way gives."""

import ctypes

import pytest
import torch
from peft.tuners.lora import Linear
from tiny_models import case
from tiny_training import plain_dialogue, tiny_lm
from transformers import DynamicCache

from labkit.decoding.batches import make_rows, tree_batches
from labkit.decoding.cache import growing_cache
from labkit.decoding.tree import Tree
from labkit.machine import kept_memory
from labkit.models import attach_adapter
from labkit.models import cross_entropy as module
from labkit.models.cross_entropy import SummedCrossEntropy
from labkit.models.families import route_of
from labkit.models.likelihood import target_loss
from labkit.prompts.build import examples
from labkit.training.data import Collator
from labkit.training.lora_layers import quicken


def _batch(lm) -> dict[str, torch.Tensor]:
    """Two dialogues of different length."""
    made = [row for d in (plain_dialogue("a", 3), plain_dialogue("b", 1)) for row in examples(d, lm.codec)]
    batch = Collator(lm.codec.pad_id)([{"input_ids": row.input_ids, "labels": row.labels} for row in made])
    assert (batch["attention_mask"] == 0).any()
    return batch


def _gradients(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    target_loss(model, **batch).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def _tuned(lm, **options):
    """A LoRA whose second matrix is not 0, so that both have a gradient."""
    tuned = attach_adapter(lm, r=3, **options)
    torch.manual_seed(1)
    for weight in tuned.model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    return tuned


@pytest.mark.parametrize("at_once", [600, 10**6])
def test_the_gradient_in_the_place_of_the_logits_is_the_gradient(at_once, monkeypatch):
    """Traps: rows after the first piece that are forgotten; a loss that is scaled before it is differentiated."""
    monkeypatch.setattr(module, "IN_CACHE", at_once)
    torch.manual_seed(0)
    states, weight = torch.randn(7, 5), torch.randn(290, 5, requires_grad=True)
    labels = torch.randint(290, (7,))
    grads = []
    for loss in (torch.nn.functional.cross_entropy, SummedCrossEntropy.apply):
        logits = 30 * states @ weight.T
        logits[0, 3] = -torch.inf  # as a model that never says a token
        how = {"reduction": "sum"} if loss is torch.nn.functional.cross_entropy else {}
        value = loss(logits, labels.clamp(min=4), **how)
        (value / 3).backward()
        grads.append((value.detach(), weight.grad))
        weight.grad = None
    torch.testing.assert_close(grads[1], grads[0])


def test_logits_that_somebody_still_needs_are_not_lost_without_a_word():
    """Trap: a layer after the head that keeps its result for the backward pass gets the gradient in its place."""
    logits = torch.randn(3, 9, requires_grad=True).tanh()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        SummedCrossEntropy.apply(logits, torch.tensor([1, 2, 3])).backward()


@pytest.mark.parametrize("name", ["GPT-NeoX", "Falcon, multi-query", "OPT", "Mistral", "Gemma 2", "Cohere"])
def test_training_without_a_mask_and_with_quick_layers_has_the_same_gradients(name):
    """Traps: padding that a token sees; positions that a family counts by its mask; scores that are changed after the
    head; a result that the model changes in place."""
    lm = _tuned(case(name), alpha=5)
    assert route_of(lm.base).by_tree
    lm.model.eval()  # OPT has dropout, which two passes would draw anew
    batch = _batch(lm)
    plain = _gradients(lm.model, batch)
    quicken(lm.model)
    quick = _gradients(lm.model, batch | {"attention_mask": None})
    assert plain.keys() == quick.keys()
    for weight, gradient in plain.items():
        torch.testing.assert_close(quick[weight], gradient, rtol=1e-3, atol=1e-5)
    layers = [layer for layer in lm.model.modules() if type(layer) is Linear]
    is_quick = name != "Falcon, multi-query"  # its layers are of a class of their own
    assert all(("forward" in vars(layer)) == is_quick for layer in layers)


def test_layers_that_are_no_plain_lora_stay_as_they_are():
    """Trap: dropout, DoRA, a merged or a switched-off adapter that the quick way forgets."""
    for options in ({"dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}):
        lm = attach_adapter(tiny_lm(), r=2, **options)
        quicken(lm.model)
        assert not any("forward" in vars(layer) for layer in lm.model.modules()), options
    lm = _tuned(tiny_lm())
    ids = torch.tensor([[5, 6, 7]])
    tuned = lm.model(ids).logits
    quicken(lm.model)
    torch.testing.assert_close(lm.model(ids).logits, tuned)
    with lm.model.disable_adapter():
        torch.testing.assert_close(lm.model(ids).logits, tiny_lm().model(ids).logits)
    with torch.autocast("cpu", torch.bfloat16):
        assert lm.model(ids).logits.dtype == torch.bfloat16
    lm.model.merge_adapter()
    torch.testing.assert_close(lm.model(ids).logits, tuned, rtol=1e-3, atol=1e-4)


def test_memory_is_given_back_after_a_training_that_fails(monkeypatch):
    """Trap: thresholds that stay for the rest of a notebook, whose memory then only grows."""
    calls = []

    class Libc:
        mallopt = staticmethod(lambda name, value: calls.append((name, value)))
        malloc_trim = staticmethod(lambda kept: calls.append("trimmed"))

    monkeypatch.setattr(kept_memory, "_glibc", Libc)
    with pytest.raises(ZeroDivisionError), kept_memory.memory_kept():
        assert len(calls) == 2
        raise ZeroDivisionError
    assert calls[2:] == [(-3, kept_memory.USUAL_MMAP), (-1, kept_memory.USUAL_KEPT), "trimmed"]
    monkeypatch.setattr(kept_memory, "_glibc", lambda: None)
    with kept_memory.memory_kept():
        pass


def test_glibc_is_found_only_where_it_is(monkeypatch):
    assert isinstance(kept_memory._glibc(), ctypes.CDLL | None)
    monkeypatch.setattr(kept_memory.sys, "platform", "darwin")
    assert kept_memory._glibc() is None


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
