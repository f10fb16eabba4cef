"""Weights packed for the writing of replies: the same numbers, and the model is as it was afterwards."""

import importlib

import pytest
import torch

from labkit.decoding.config import DecodingConfig
from labkit.models import packed
from labkit.models.packed import packed_weights

generate = importlib.import_module(
    "labkit.decoding.generate"
).generate  # `decoding.generate` is a module and a function


@pytest.fixture
def every_layer(monkeypatch):
    """Also the layers of tiny models are packed."""
    monkeypatch.setattr(packed, "LEAST_NUMBERS", 1)


def changed_layers(model):
    return [name for name, layer in model.named_modules() if "forward" in vars(layer)]


@pytest.mark.parametrize("rows", [1, 4, 64, 256, 257])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_computes_what_it_did(every_layer, rows, bias):
    layer = torch.nn.Linear(48, 40, bias=bias)
    x = torch.randn(rows, 1, 48)
    with torch.inference_mode():
        before = layer(x)
        with packed_weights(layer, 64):
            assert changed_layers(layer) == [""]
            torch.testing.assert_close(layer(x), before)
    assert not changed_layers(layer)


def test_a_gradient_goes_through_a_layer_that_is_packed(every_layer):
    layer = torch.nn.Linear(48, 40)
    with packed_weights(layer, 64):
        layer(torch.randn(8, 48)).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("config", [DecodingConfig(max_new_tokens=6), DecodingConfig("beam", 6, num_beams=3)])
def test_replies_are_the_same_with_packed_weights_and_nothing_of_them_stays(every_layer, tiny_lm, config, monkeypatch):
    prompts = [[5, 6, 7, 8, 9], [5, 6, 7, 8], [11, 12, 13], [5, 9]]
    seen = []
    replies = generate(tiny_lm, prompts, config, on_batch=lambda _: seen.append(changed_layers(tiny_lm.model)))
    assert seen[0]
    assert not changed_layers(tiny_lm.model)
    monkeypatch.setattr(packed, "MOST_BYTES", 0)
    assert generate(tiny_lm, prompts, config) == replies


def test_an_interrupted_call_and_one_within_another_leave_the_layers_as_they_were(every_layer):
    layer = torch.nn.Linear(48, 40)
    with pytest.raises(KeyboardInterrupt), packed_weights(layer, 64), packed_weights(layer, 64):
        raise KeyboardInterrupt
    assert not changed_layers(layer)


def test_few_rows_small_layers_half_precision_and_large_models_are_not_packed(monkeypatch):
    small, large = torch.nn.Linear(48, 40), torch.nn.Linear(1024, 512)
    for layer, rows in ((small, 64), (large, 3), (large.half(), 64)):
        with packed_weights(layer, rows):
            assert not changed_layers(layer)
    monkeypatch.setattr(packed, "MOST_BYTES", 2**20)
    with packed_weights(large.float(), 64):
        assert not changed_layers(large)


def test_torch_without_these_operations_multiplies_as_before(every_layer, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    layer = torch.nn.Linear(48, 40)
    with packed_weights(layer, 64):
        assert not changed_layers(layer)
