"""The handle: one torch model, and what is on it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from labkit.prompts.codec import TextCodec

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ENDLESS = 1_000_000  # tokens, where a model names no longest sequence


@dataclass
class LanguageModel:
    """A model with its tokenizer and what a results row says about it.

    A handle tells the truth: what it answers today it answers tomorrow, whatever was done with it. `attach_adapter`,
    `load_adapter`, `merge` and `finetune` give or make a model of their own over the same frozen weights, and leave
    this one as it is.
    """

    name: str
    model: Union["PreTrainedModel", "PeftModel"]  # a PeftModel when an adapter is attached; in eval mode
    tokenizer: "PreTrainedTokenizerBase"
    codec: TextCodec
    bits: int  # 4 | 8 | 16 | 32
    dtype: str  # of everything that is not quantised: "float32" | "bfloat16" | "float16"
    device: str
    stand_in: bool
    adapter: str | None = None
    source: str = ""  # the folder that the weights came from, for merging into unquantised ones
    merged: str | None = None  # a fingerprint of the adapter that was added into the weights

    @property
    def base(self) -> "PreTrainedModel":
        """The transformers model, with LoRA layers in place when an adapter is attached, without peft's wrapper."""
        if hasattr(self.model, "get_base_model"):
            return self.model.get_base_model()
        return self.model

    @property
    def has_adapter(self) -> bool:
        """Whether adapter layers are in the model. It is the modules that are asked, not the name in `adapter`."""
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils import ModulesToSaveWrapper

        if hasattr(self.model, "peft_config"):
            return True
        return any(isinstance(module, BaseTunerLayer | ModulesToSaveWrapper) for module in self.model.modules())

    @property
    def n_parameters(self) -> int:
        """Parameters of the base model and its adapter; 4-bit weights counted as what they stand for."""
        return count_parameters(self.model)[1]

    @property
    def hidden_size(self) -> int:
        """Numbers that stand for a token in each layer."""
        return self.base.config.get_text_config().hidden_size

    @property
    def context_length(self) -> int:
        """The longest sequence that the model was made for, in tokens."""
        config = self.model.config
        text = config.get_text_config() if hasattr(config, "get_text_config") else config  # of a multimodal model
        return int(getattr(text, "max_position_embeddings", None) or ENDLESS)


def count_parameters(model: "torch.nn.Module") -> tuple[int, int]:
    """(trainable, total). Two 4-bit weights share a byte, so their tensor says half of what the layer has."""
    trainable = 0
    total = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        size = parameter.numel() if state is None else state.shape.numel()
        total += size
        if parameter.requires_grad:
            trainable += size
    return trainable, total
