"""Load a causal language model in the number type that this device is fast in."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.machine.hardware import choose_dtype, hardware
from labkit.machine.out_of_memory import memory_errors
from labkit.machine.quiet import quiet
from labkit.models.find import find_model
from labkit.models.language_model import LanguageModel
from labkit.models.names import STAND_IN_MODEL, STAND_IN_SIZES
from labkit.models.unreadable import clear_errors
from labkit.prompts.codec import TextCodec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BITS = (4, 8, 16, 32)


def load_model(
    name: str = STAND_IN_MODEL,
    *,
    bits: int | None = None,
    device: str | None = None,
    adapter: str | Path | None = None,
    quant_type: str = "nf4",
    double_quant: bool = True,
    reinitialise: bool = False,
    seed: int = 42,
) -> LanguageModel:
    """Load a model in the number type that this device is fast in, whatever type the checkpoint has.

    Args:
        name: a stand-in ("mini-pythia"), a folder, a `.gguf` file or a Hub id.
        bits: 4 (`quant_type` "nf4" or "fp4", Dettmers et al. 2023), 8 (LLM.int8), 16 or 32; None: 32 where the device
            computes in float32, else 16.
        adapter: a folder with a LoRA adapter to put on the model.
        reinitialise: the same architecture with fresh random weights drawn from `seed`.

    Raises:
        LabError: unknown name, no network, a folder that is no model, a broken file, bits that are none, out of memory.
    """
    from transformers import AutoTokenizer

    if bits is not None and bits not in BITS:
        raise LabError(f"bits={bits}", "", "choose 4, 8, 16 or 32")
    if reinitialise and bits in (4, 8):
        raise LabError("fresh weights are trained in full, not quantised", f"bits={bits}", "choose bits=16 or 32")
    folder, stand_in = find_model(str(name))
    device = device or hardware().device
    native = choose_dtype(device)[0]
    bits = bits or (32 if native == "float32" else 16)
    dtype = {32: "float32", 16: "bfloat16" if native == "float32" else native}.get(bits, native)
    with quiet(), clear_errors(str(name), folder), memory_errors("choose fewer bits or a smaller model"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.clean_up_tokenization_spaces = False  # made for WordPiece; it eats the space before a full stop
        quantised = _quantisation(bits, dtype, device, quant_type, double_quant)
        model = _fresh(folder, dtype, seed) if reinitialise else _read(folder, dtype, quantised)
        model = model if quantised else model.to(device)
    stand_in = model.config.lab_stand_in = stand_in or getattr(model.config, "lab_stand_in", False)  # kept when saved
    name_rotary(model)
    shown = STAND_IN_SIZES[-1] if name == STAND_IN_MODEL else str(name)
    weights = (model.eval(), tokenizer, TextCodec(tokenizer), bits, dtype, device)
    lm = LanguageModel(shown, *weights, stand_in, source=str(folder))
    if adapter is None:
        return lm
    from labkit.models.adapters import load_adapter

    return load_adapter(lm, adapter)


def _quantisation(bits: int, dtype: str, device: str, quant_type: str, double_quant: bool) -> dict[str, Any]:
    """What from_pretrained needs for 4 or 8 bits; nothing for more. The output head is never quantised."""
    from transformers import BitsAndBytesConfig

    if bits >= 16:
        return {}
    four = {"quant_type": quant_type, "use_double_quant": double_quant, "compute_dtype": dtype}
    options = {f"load_in_{bits}bit": True, **{f"bnb_4bit_{name}": value for name, value in four.items()}}
    return {"quantization_config": BitsAndBytesConfig(**options), "device_map": {"": device}}


def _read(folder: Path, dtype: str, quantised: dict[str, Any]) -> "PreTrainedModel":
    """Weights from safetensors only: a pickled checkpoint can run code."""
    from transformers import AutoModelForCausalLM

    options = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True, **quantised}
    model, info = AutoModelForCausalLM.from_pretrained(folder, **options)
    if info["missing_keys"]:  # transformers warns, fills them with random numbers and goes on
        raise ValueError(f"weights are missing: {', '.join(sorted(info['missing_keys'])[:3])}")
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_not_the_cast)
    for module in model.modules():  # bitsandbytes' AVX512 kernel rounds to bfloat16 and needs widths in steps of 64
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def name_rotary(model: "PreTrainedModel") -> None:
    """Let a GPT-NeoX be saved with the share of rotary dimensions under the one name that transformers 5.0 reads.

    Without it 5.0 takes a quarter, and says nothing: mini-pythia's perplexity was 49 instead of 5.
    """
    rope = getattr(model.config, "rope_parameters", None) or {}
    if model.config.model_type == "gpt_neox" and "partial_rotary_factor" in rope:
        model.config.rotary_pct = rope["partial_rotary_factor"]


def _not_the_cast(record: logging.LogRecord) -> bool:
    """8-bit layers say at every single call that they cast their input."""
    return "inputs will be cast" not in record.getMessage()


def _fresh(folder: Path, dtype: str, seed: int) -> "PreTrainedModel":
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=getattr(torch, dtype))
