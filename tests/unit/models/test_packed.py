"""Weights packed for the writing of replies: the same numbers, and the model is as it was afterwards."""

import importlib
from threading import Thread

import pytest
import torch
from peft import LoraConfig

from labkit.decoding.config import DecodingConfig
from labkit.decoding.predict import predict
from labkit.models import attach_adapter, load_model, packed
from labkit.models.packed import only_wanted, packed_weights
from labkit.models.whole_weights import is_4_bit, is_lora
from labkit.training.lora_layers import quicken

module = importlib.import_module("labkit.decoding.generate")  # `decoding.generate` is a module and a function
generate = module.generate
stream = module.stream


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


def test_columns_that_nobody_sees_are_not_multiplied(every_layer, monkeypatch):
    layer = torch.nn.Linear(48, 40)
    x = torch.randn(3, 5, 48)
    wanted = torch.rand(3, 5) < 0.6
    multiplied = []
    all_of_them = packed.Copies._multiply_all
    monkeypatch.setattr(
        packed.Copies, "_multiply_all", lambda self, x: multiplied.append(len(x)) or all_of_them(self, x)
    )
    with torch.inference_mode(), packed_weights(layer, 64):
        every = layer(x)
        multiplied.clear()
        with only_wanted(wanted):
            some = layer(x)
            other = layer(x[0])  # of another shape: not these columns
    assert multiplied == [int(wanted.sum()), len(x[0])]
    torch.testing.assert_close(some[wanted], every[wanted])
    assert not some[~wanted].any()
    torch.testing.assert_close(other, every[0])


def test_what_one_thread_wants_is_not_what_another_gets(every_layer):
    layer = torch.nn.Linear(48, 40)
    x = torch.randn(2, 4, 48)
    got = []

    @torch.inference_mode()
    def another():
        got.append(layer(x))

    with torch.inference_mode(), packed_weights(layer, 64), only_wanted(torch.zeros(2, 4, dtype=torch.bool)):
        assert not layer(x).any()
        thread = Thread(target=another)
        thread.start()
        thread.join()
        assert not layer(x).any()
    assert got[0].any(-1).all()


def test_a_gradient_goes_through_a_layer_that_is_packed(every_layer):
    layer = torch.nn.Linear(48, 40)
    with packed_weights(layer, 64):
        layer(torch.randn(8, 48)).sum().backward()
    assert layer.weight.grad is not None


def test_a_step_in_bfloat16_scores_replies_in_bfloat16(every_layer):
    """A run that trains in it and scores replies on the way."""
    layer = torch.nn.Linear(48, 40)
    with packed_weights(layer, 64), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(8, 48)).dtype == torch.bfloat16


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


def test_a_call_within_another_keeps_to_the_memory_of_both(monkeypatch):
    """`predict` packs for all replies, and `generate` within it would pack what had no more room."""
    layers = torch.nn.Sequential(torch.nn.Linear(1024, 512), torch.nn.Linear(512, 512))
    monkeypatch.setattr(packed, "MOST_BYTES", 4 * 1024 * 512)
    with packed_weights(layers, 64):
        before = changed_layers(layers)
        with packed_weights(layers, 64):
            assert changed_layers(layers) == before == ["0"]
        assert changed_layers(layers) == before
    assert not changed_layers(layers)


def test_few_rows_small_layers_half_precision_and_large_models_are_not_packed(monkeypatch):
    small, large = torch.nn.Linear(48, 40), torch.nn.Linear(1024, 512)
    for layer, rows in ((small, 64), (large, 3), (large.half(), 64)):
        with packed_weights(layer, rows):
            assert not changed_layers(layer)
    monkeypatch.setattr(packed, "MOST_BYTES", 2**20)
    with packed_weights(large.float(), 64):
        assert not changed_layers(large)


def test_weights_that_processes_may_share_out_are_left_alone(every_layer, monkeypatch):
    """Trap: with FSDP a weight is there only while its own layer is called."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    lm = tuned()
    with packed_weights(lm.base, 64):
        assert not changed_layers(lm.model)


def test_a_cpu_with_instructions_for_four_bits_is_asked_in_one_way_only():
    """Trap: bitsandbytes packs a layer at its first call, and before that a reply would be that of other numbers."""
    lm = tuned()
    for layer in loras(lm):
        layer.get_base_layer().support_avx512bf16_for_cpu = True
    with packed_weights(lm.base, 64):
        assert not any("forward" in vars(layer) for layer in lm.model.modules() if is_4_bit(layer))


def test_torch_without_these_operations_multiplies_as_before(every_layer, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    layer = torch.nn.Linear(48, 40)
    with packed_weights(layer, 64):
        assert not changed_layers(layer)


def untuned(bits=4):
    """The smallest stand-in, as on a CPU without instructions for 4 bits."""
    lm = load_model("mini-pythia-500k", bits=bits, device="cpu")
    for layer in lm.model.modules():
        if is_4_bit(layer):
            layer.support_avx512bf16_for_cpu = False
    return lm


def tuned(bits=4, **options):
    """The same with a LoRA that changes what it says."""
    lm = attach_adapter(untuned(bits), r=3, **options)
    torch.manual_seed(1)
    for name, weight in lm.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.05)
    return lm


def loras(lm):
    return [layer for layer in lm.model.modules() if is_lora(layer)]


@pytest.mark.parametrize("every_weight_is_packed", [False, True])
@pytest.mark.parametrize("bits", [4, 32])
def test_four_bits_and_a_lora_are_one_matrix_while_replies_are_written(bits, every_weight_is_packed, monkeypatch):
    monkeypatch.setattr(packed, "LEAST_NUMBERS", 1 if every_weight_is_packed else 2**40)
    lm = tuned(bits)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.inference_mode():
        before = lm.base(ids).logits
        with packed_weights(lm.base, 64):
            assert all("forward" in vars(layer) for layer in loras(lm))
            torch.testing.assert_close(lm.base(ids).logits, before, rtol=1e-3, atol=1e-3)
        assert torch.equal(lm.base(ids).logits, before)
    assert not changed_layers(lm.model)


def test_a_switched_off_adapter_says_nothing_while_replies_are_written():
    lm = tuned()
    prompts = [[5, 6, 7, 8], [9, 10, 11]]
    config = DecodingConfig(max_new_tokens=8)
    without = generate(untuned(), prompts, config)
    assert generate(lm, prompts, config) != without
    with lm.model.disable_adapter():
        assert generate(lm, prompts, config) == without


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}])
def test_an_adapter_that_does_more_than_to_add_computes_as_peft_does(options):
    lm = tuned(bits=32)
    config = LoraConfig(r=3, target_modules="all-linear", **options)
    lm.model.add_adapter("other", config)
    lm.model.set_adapter("other")
    with packed_weights(lm.base, 64):
        assert not any("forward" in vars(layer) for layer in loras(lm))


def test_a_merged_adapter_is_not_added_twice():
    lm = tuned(bits=32)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.inference_mode():
        before = lm.base(ids).logits
        lm.model.merge_adapter()
        with packed_weights(lm.base, 64):
            torch.testing.assert_close(lm.base(ids).logits, before, rtol=1e-3, atol=1e-3)


def test_who_looks_at_a_part_of_a_lora_layer_sees_it_while_replies_are_written():
    lm = tuned()
    seen = []
    watched = loras(lm)[0]
    watched.get_base_layer().register_forward_hook(lambda *_: seen.append("a call"))
    generate(lm, [[5, 6, 7, 8]], DecodingConfig(max_new_tokens=2))
    assert seen


def test_a_trained_lora_layer_writes_with_what_four_bits_stand_for():
    """A run that scores its replies while it trains: its layers are quick for training, and would write 4 bits out, and
    multiply with two more matrices, at every token."""
    lm = tuned()
    quicken(lm.model)
    quick = [layer.forward for layer in loras(lm)]
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.inference_mode():
        before = lm.base(ids).logits
        with packed_weights(lm.base, 64):
            assert all(packed._is_copied(layer) for layer in loras(lm)), "weights and LoRA are one matrix"
            assert not any("forward" in vars(layer.get_base_layer()) for layer in loras(lm))
            torch.testing.assert_close(lm.base(ids).logits, before, rtol=1e-3, atol=1e-3)
    assert [layer.forward for layer in loras(lm)] == quick, "the next step trains as quickly as the last"


def test_a_reply_that_is_watched_writes_four_bits_out_at_every_token():
    """The chat shows a reply token by token; who stops it leaves the layers as they were."""
    lm = tuned()
    config = DecodingConfig(max_new_tokens=6, min_new_tokens=6)
    (whole,) = generate(lm, [[5, 6, 7, 8]], config)
    assert list(stream(lm, [5, 6, 7, 8], config)) == whole
    begun = stream(lm, [5, 6, 7, 8], config)
    next(begun)
    assert all("forward" in vars(layer) for layer in loras(lm))
    begun.close()
    assert not changed_layers(lm.model)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 32])
def test_weights_are_made_ready_once_for_all_turns_of_a_call(miniwoz, bits, monkeypatch, every_layer):
    """Every turn of a dialogue and every state of it is a call of `generate`, which wrote all weights out anew."""
    lm = tuned(bits)
    monkeypatch.setattr(packed, "_copies", counted := CountedCalls(packed._copies))
    predict(lm, miniwoz["test"][:1], DecodingConfig(max_new_tokens=2), format="state")
    assert counted.n == len(packed._layers_to_copy(lm.base, pack=False))
    assert not changed_layers(lm.model)


class CountedCalls:
    def __init__(self, function):
        self.function = function
        self.n = 0

    def __call__(self, *args):
        self.n += 1
        return self.function(*args)
