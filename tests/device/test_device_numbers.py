"""What the card says, and that the numbers of its kernels are those of float32."""

import importlib
import importlib.util
from dataclasses import replace

import pytest

NF4_ROUNDING = 0.15  # of the norm: what 4 bits take away from a random matrix (about 0.1 for NF4)
INT8_ROUNDING = 0.02
KERNEL_ERROR = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}  # of the norm, by what the kernel computes in


def test_doctor_says_ready_and_names_the_card(note, is_rehearsal):
    import torch

    from labkit.lab import decide

    lab = decide()
    assert not lab.problems, lab
    if not is_rehearsal:
        assert lab.hardware.device == "cuda"
        assert lab.hardware.gpu_name == torch.cuda.get_device_name(0)
    note("doctor", f"{lab.verdict}; {lab.hardware.dtype}, {lab.hardware.dtype_reason}")


@pytest.mark.parametrize("rows", [1, 64], ids=["one row, as in writing", "64 rows, as in training"])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_the_4_bit_kernel_is_the_float32_product_of_its_own_weights(rows, quant_type, bitsandbytes, device, note):
    """One row takes another kernel than many do: each has to be right."""
    import torch

    from labkit.machine.device import choose_dtype

    dtype = choose_dtype(device)[0]
    layer, weight = _quantised(bitsandbytes.nn.Linear4bit, device, quant_type=quant_type, compute_dtype=_torch(dtype))
    kept = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()  # [out, in]
    x = torch.randn(rows, weight.shape[1], device=device)
    written = layer(x.to(_torch(dtype))).float()  # [rows, out]
    error = _distance(written, x @ kept.T)
    note(f"4-bit kernel ({quant_type}, {rows} rows) against float32", f"{error:.1e} of the norm, in {dtype}")
    assert error < KERNEL_ERROR[dtype]
    assert _distance(kept, weight) < NF4_ROUNDING * (1 if quant_type == "nf4" else 2)


@pytest.mark.parametrize("rows", [1, 64])
def test_the_8_bit_kernel_is_near_the_float32_product(rows, bitsandbytes, device, note):
    import torch

    layer, weight = _quantised(bitsandbytes.nn.Linear8bitLt, device, has_fp16_weights=False, threshold=6.0)
    x = torch.randn(rows, weight.shape[1], device=device)
    error = _distance(layer(x.half()).float(), x @ weight.T)
    note(f"8-bit kernel ({rows} rows) against float32", f"{error:.1e} of the norm")
    assert error < INT8_ROUNDING


def _quantised(kind, device, **options):
    """(layer on the device, its weights before): random weights of a trained layer's size, no bias."""
    import torch

    torch.manual_seed(0)
    layer = kind(512, 256, bias=False, **options)
    before = layer.weight.data.clone().float().to(device)  # [256, 512]
    return layer.to(device), before


def _torch(dtype: str):
    import torch

    return getattr(torch, dtype)


def _distance(found, expected) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("bits", "least"), [(16, 0.97), (8, 0.9), (4, 0.75)])
def test_a_stand_in_in_fewer_bits_ranks_words_as_in_float32(bits, least, device, note):
    """The whole way: shipped weights, this device's number type, the logits of one prompt."""
    import numpy as np

    from labkit.decoding.generate import next_token_logits
    from labkit.models import load_model

    if bits < 16:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: no 4 and 8 bits here")
    exact = load_model("mini-pythia-8m", bits=32)
    lm = load_model("mini-pythia-8m", bits=bits)
    ids = lm.codec.encode("user> i want a cheap hotel in the north .\nbot>")
    correlation = np.corrcoef(next_token_logits(exact, ids), next_token_logits(lm, ids))[0, 1]
    note(f"mini-pythia-8m (a stand-in) in {bits} bits against 32", f"logits correlate {correlation:.4f}")
    assert correlation > least


# --- every family of the table, in this card's number type ------------------------------------------------------------


def _cases() -> list[str]:
    """The families that labkit says it decodes exactly, as tests/support/tiny_models.py builds them."""
    if importlib.util.find_spec("tiny_models") is None:
        return []
    return list(getattr(importlib.import_module("tiny_models"), "CASES", {}))


NEW = 6
BEGINNING = [5, 9, 11, 40]  # two prompts share it
PROMPTS = [[*BEGINNING, 41, 7, 8, 100, 12, 13, 90], [*BEGINNING, 42, 77, 8], [*range(60, 70)]]


@pytest.mark.parametrize("name", _cases() or [pytest.param("", marks=pytest.mark.skip("no table of families here"))])
def test_a_family_writes_what_its_own_generate_writes(name, device, note):
    """In float32 on this device to the token; in the card's type its scores are near, for near ties tip."""
    import tiny_models
    import torch

    from labkit.decoding.config import DecodingConfig
    from labkit.decoding.generate import generate, next_token_logits
    from labkit.machine.device import choose_dtype

    lm = replace(tiny_models.case(name), device=device)
    lm.codec.stop_ids = [0]
    lm.model.to(device)
    config = DecodingConfig(max_new_tokens=NEW, min_new_tokens=NEW)
    with _exact_products():
        expected = [_own(lm, prompt) for prompt in PROMPTS]
        assert generate(lm, PROMPTS, config) == expected
        exact = torch.as_tensor(next_token_logits(lm, PROMPTS[0]))
    dtype = choose_dtype(device)[0]
    lm.model.to(_torch(dtype))
    generate(lm, PROMPTS, config)
    near = torch.as_tensor(next_token_logits(lm, PROMPTS[0]))
    distance = _distance(near, exact)
    in_words = f"greedy as its own generate in float32; {dtype} within {distance:.0e} of the norm"
    note(f"{name}, tiny and random", in_words)
    assert distance < 0.2


def _exact_products():
    """Without TF32, which rounds a float32 product to 10 bits."""
    import contextlib

    import torch

    @contextlib.contextmanager
    def exact():
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    return exact()


def _own(lm, prompt):
    import torch

    ids = torch.tensor([prompt], device=lm.device)
    settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    written = lm.base.generate(ids, attention_mask=torch.ones_like(ids), eos_token_id=lm.codec.stop_ids, **settings)
    return [token for token in written[0, len(prompt) :].tolist() if token not in lm.codec.stop_ids]
