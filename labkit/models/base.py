"""Read a base model in the number type that this device is fast in."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.machine.hardware import choose_dtype, hardware, process_device
from labkit.machine.out_of_memory import memory_errors
from labkit.machine.quiet import quiet
from labkit.models.find import find_model
from labkit.models.language_model import LanguageModel
from labkit.models.names import STAND_IN_MODEL, STAND_IN_SIZES
from labkit.models.unreadable import clear_errors, read_config
from labkit.prompts.codec import TextCodec

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

BITS = (4, 8, 16, 32)
QUANT_TYPES = ("nf4", "fp4")


def load_base(
    name: str = STAND_IN_MODEL,
    *,
    bits: int | None = None,
    device: str | None = None,
    quant_type: str = "nf4",
    double_quant: bool = True,
    reinitialise: bool = False,
    seed: int = 42,
) -> LanguageModel:
    """`load_model` without an adapter; arguments and errors are its."""
    _check_options(bits, quant_type, reinitialise)
    folder, is_stand_in = find_model(str(name))
    device = device or hardware().device
    native = choose_dtype(device)[0]
    bits = bits or (32 if native == "float32" else 16)
    dtype = _number_type(bits, native)
    with quiet(), clear_errors(str(name), folder), memory_errors("choose fewer bits or a smaller model"):
        config = read_config(folder)
        tokenizer = _read_tokenizer(folder)
        if reinitialise:
            model = _fresh(config, dtype, seed).to(process_device(device))
        elif bits < 16:
            quantisation = _quantisation(bits, dtype, quant_type, double_quant)
            model = _read_weights(folder, dtype, quantisation, device)
        else:
            model = _read_weights(folder, dtype).to(process_device(device))
    _drop_pad_token_without_a_row(tokenizer, model)
    is_stand_in = is_stand_in or getattr(model.config, "lab_stand_in", False)
    model.config.lab_stand_in = is_stand_in  # kept when saved
    name_rotary(model)
    return LanguageModel(
        name=STAND_IN_SIZES[-1] if name == STAND_IN_MODEL else str(name),
        model=model.eval(),
        tokenizer=tokenizer,
        codec=TextCodec(tokenizer),
        bits=bits,
        dtype=dtype,
        device=device,
        stand_in=is_stand_in,
        source=str(folder),
    )


def _check_options(bits: int | None, quant_type: str, reinitialise: bool) -> None:
    if bits is not None and bits not in BITS:
        raise LabError(f"bits={bits}", "", "choose 4, 8, 16 or 32")
    if reinitialise and bits in (4, 8):
        raise LabError("fresh weights are trained in full, not quantised", f"bits={bits}", "choose bits=16 or 32")
    if quant_type not in QUANT_TYPES:
        raise LabError(f"quant_type={quant_type!r}", "", f"choose {' or '.join(QUANT_TYPES)}")


def _number_type(bits: int, native: str) -> str:
    """The type of all that is not quantised, on a device that is fast in `native`."""
    if bits == 32:
        return "float32"
    if bits == 16 and native == "float32":
        return "bfloat16"
    return native


def _read_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.clean_up_tokenization_spaces = False  # made for WordPiece; it eats the space before a full stop
    return tokenizer


def _drop_pad_token_without_a_row(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel") -> None:
    """Fine-tunes of Llama 2 often got a [PAD] that the model has no embedding for; the end token fills up as well."""
    rows = model.get_input_embeddings().num_embeddings
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= rows:
        tokenizer.pad_token = None


def _quantisation(bits: int, dtype: str, quant_type: str, double_quant: bool) -> "BitsAndBytesConfig":
    """4 bits: NF4 or FP4 (Dettmers et al. 2023); 8 bits: LLM.int8. The output head is never quantised."""
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quant_type,
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=dtype,
    )


def _read_weights(
    folder: Path, dtype: str, quantisation: "BitsAndBytesConfig | None" = None, device: str = "cpu"
) -> "PreTrainedModel":
    """Weights from safetensors only: a pickled checkpoint can run code."""
    from transformers import AutoModelForCausalLM

    placed = {}
    if quantisation is not None:
        # quantised weights cannot move later: each process puts them on its own device
        placed = {"quantization_config": quantisation, "device_map": {"": process_device(device)}}
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **placed
    )
    if info["missing_keys"]:  # transformers warns, fills them with random numbers and goes on
        raise ValueError(f"weights are missing: {', '.join(sorted(info['missing_keys'])[:3])}")
    _settle_bitsandbytes(model)
    return model


def _settle_bitsandbytes(model: "torch.nn.Module") -> None:
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_not_the_cast)
    for module in model.modules():  # its AVX512 kernel rounds to bfloat16 and needs widths in steps of 64
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _not_the_cast(record: logging.LogRecord) -> bool:
    """8-bit layers say at every single call that they cast their input."""
    return "inputs will be cast" not in record.getMessage()


def name_rotary(model: "PreTrainedModel") -> None:
    """Let a GPT-NeoX be saved with the share of rotary dimensions under the one name that transformers 5.0 reads.

    Without it 5.0 takes a quarter, and says nothing: mini-pythia's perplexity was 49 instead of 5.
    """
    rope = getattr(model.config, "rope_parameters", None) or {}
    if model.config.model_type == "gpt_neox" and "partial_rotary_factor" in rope:
        model.config.rotary_pct = rope["partial_rotary_factor"]


def _fresh(config: "PretrainedConfig", dtype: str, seed: int) -> "PreTrainedModel":
    """The architecture of a configuration with random weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), trust_remote_code=False)
