"""Every use of another package's private name, each with the version it was seen in; test_drift.py fails first."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def forget_gguf(model: "PreTrainedModel") -> None:
    """Let a model that was read from GGUF be saved: it was dequantised on reading, but says it is quantised.

    `hf_quantizer` and `is_quantized`: transformers 5.17.
    """
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False


def computes_attention(model: "PreTrainedModel", how: str | None = None) -> str:
    """How a model computes attention ("sdpa", "eager" …); set to `how` where that is given.

    Written into the configuration: `set_attn_implementation("eager")` is taken by Falcon without a word, which then
    adds yes and no to its scores. `config._attn_implementation`: transformers 5.17.
    """
    if how is not None:
        model.config._attn_implementation = how
    return model.config._attn_implementation
