"""The handle: one torch model, and what is on it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.prompts.codec import TextCodec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class LanguageModel:
    """A model with its tokenizer and what a results row says about it."""

    name: str
    model: Any  # PreTrainedModel, or PeftModel when an adapter is attached; in eval mode
    tokenizer: "PreTrainedTokenizerBase"
    codec: TextCodec
    bits: int  # 4 | 8 | 16 | 32
    dtype: str  # of everything that is not quantised: "float32" | "bfloat16" | "float16"
    device: str
    stand_in: bool
    adapter: str | None = None
    source: str = ""  # the folder that the weights came from, for merging into unquantised ones

    @property
    def base(self) -> "PreTrainedModel":
        """The transformers model, with LoRA layers in place when an adapter is attached, without peft's wrapper."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def n_parameters(self) -> int:
        """Parameters of the base model and its adapter; 4-bit weights counted as what they stand for."""
        from labkit.models.adapters import count_parameters

        return count_parameters(self.model)[1]

    @property
    def context_length(self) -> int:
        """The longest sequence that the model was made for, in tokens."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 1_000_000)
