"""LoRA layers as one function, without a mask over padding: the gradients of the plain way."""

import pytest
import torch
from peft.tuners.lora import Linear
from tiny_models import case
from tiny_training import plain_dialogue, tiny_lm

from labkit.models import attach_adapter, load_model
from labkit.models.families import route_of
from labkit.models.likelihood import target_loss
from labkit.prompts.build import examples
from labkit.training.data import Collator
from labkit.training.lora_layers import quicken, written_out_once
from labkit.training.precision import compute_in


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


@pytest.mark.parametrize("double_quant", [True, False])
def test_weights_of_four_bits_have_the_gradients_of_pefts_layers(double_quant):
    """Traps: scales of scales; a result that peft's way has written into; a type of its own to multiply in."""
    from peft.tuners.lora import Linear4bit

    lm = _tuned(load_model("mini-pythia-500k", bits=4, double_quant=double_quant, device="cpu"))
    compute_in(lm.model, "float32")
    batch = _batch(lm)
    plain = _gradients(lm.model, batch)
    quicken(lm.model)
    layers = [layer for layer in lm.model.modules() if type(layer) is Linear4bit]
    assert layers and all("forward" in vars(layer) for layer in layers)
    weights = [layer.get_base_layer().weight.data.clone() for layer in layers]
    quick = _gradients(lm.model, batch)
    assert plain.keys() == quick.keys()
    for weight, gradient in plain.items():
        torch.testing.assert_close(quick[weight], gradient, rtol=1e-3, atol=1e-5)
    with written_out_once(lm.model):
        once = _gradients(lm.model, batch)
        assert all("written_out" in vars(layer.get_base_layer()) for layer in layers)
    assert all(torch.equal(once[weight], gradient) for weight, gradient in quick.items())
    assert not any("written_out" in vars(module) for module in lm.model.modules()), "float32 is what 4 bits save"
    for layer, weight in zip(layers, weights, strict=True):
        assert torch.equal(layer.get_base_layer().weight.data, weight)
    compute_in(lm.model, "bfloat16")  # as on a processor that has units for it
    ids = torch.tensor([[5, 6, 7]])
    again = lm.model(ids).logits
    for layer in layers:
        del layer.forward
    assert torch.equal(lm.model(ids).logits, again)


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


def test_a_layer_that_gets_a_second_adapter_is_pefts_again():
    """Trap: the one adapter of before is looked for among two."""
    lm = _tuned(tiny_lm())
    ids = torch.tensor([[5, 6, 7]])
    tuned = lm.model(ids).logits
    quicken(lm.model)
    lm.model.add_adapter("second", lm.model.peft_config["default"])
    torch.testing.assert_close(lm.model(ids).logits, tuned)
    lm.model.set_adapter("second")
    torch.testing.assert_close(lm.model(ids).logits, tiny_lm().model(ids).logits)  # its B is 0
