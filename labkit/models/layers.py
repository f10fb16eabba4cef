"""Layers by name: which are linear, which are embeddings, and which get a LoRA."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.models.families import FAMILIES

if TYPE_CHECKING:
    import torch

HEADS = ("lm_head", "embed_out")  # a LoRA there would be trained on the whole vocabulary, and is never wanted
PATTERN_SECONDS = 1.0  # for one layer's name; what takes longer never ends: (.|.)*[A-Z]


def linear_layers(model: "torch.nn.Module") -> list[str]:
    """Full names of all linear layers but the output head, and those of a family that peft refuses."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    model_type = getattr(getattr(model, "config", None), "model_type", "")
    family = FAMILIES.get(model_type)
    unwanted = HEADS + (family.no_lora if family else ())
    names = []
    for name, module in model.named_modules():
        own_name = name.split(".")[-1]
        if isinstance(module, Linear | Conv1D) and own_name not in unwanted:
            names.append(name)
    return names


def embedding_names(model: "torch.nn.Module") -> list[str]:
    """Full names of the input and output embeddings."""
    embeddings = (model.get_input_embeddings(), model.get_output_embeddings())
    return [name for name, module in model.named_modules() if any(module is one for one in embeddings)]


def lora_targets(model: "torch.nn.Module", modules: str = "linear") -> list[str]:
    """Full names of the layers that get a LoRA.

    Args:
        modules: "linear" (all), "attention" (projections inside an attention block), "ffn" (all others), or a regular
            expression that is searched in the full name: `query|value` and `layers\\.[01]\\.` both work.

    Raises:
        LabError: nothing matches (the candidates are listed), or the expression is none, or it does not end.
    """
    candidates = linear_layers(model)
    attention = [name for name in candidates if _in_attention(name)]
    if modules == "linear":
        matched = candidates
    elif modules == "attention":
        matched = attention
    elif modules == "ffn":
        matched = [name for name in candidates if name not in attention]
    else:
        matched = matching(modules, candidates)
    if not matched:
        raise LabError(f"no layer matches LoRA modules {modules!r}", "", f"candidates: {layer_kinds(candidates)}")
    return matched


def _in_attention(name: str) -> bool:
    return any("att" in part for part in name.split(".")[:-1])


def matching(pattern: str, names: Sequence[str], whole: bool = False) -> list[str]:
    """The names in which a regular expression is found, or which it matches as a `whole`.

    `regex` can give up, `re` cannot.

    Raises:
        LabError: it is none, or there is no answer for a name within PATTERN_SECONDS.
    """
    import regex

    found_in = regex.fullmatch if whole else regex.search
    try:
        return [name for name in names if found_in(pattern, name, timeout=PATTERN_SECONDS)]
    except regex.error as error:
        raise LabError(f"LoRA modules {pattern!r} is no regular expression", str(error), "mend the pattern") from error
    except TimeoutError as error:
        found = f"no answer for one name within {PATTERN_SECONDS:g} s"
        raise LabError(f"LoRA modules {pattern!r} takes too long", found, "write a simpler pattern") from error


def layer_kinds(names: Sequence[str]) -> str:
    """Full names of layers in one line: the same name in all blocks counts as one, with how often it is there."""
    kinds = Counter(_without_numbers(name) for name in names)
    return ", ".join(f"{kind} ({n})" for kind, n in sorted(kinds.items()))


def _without_numbers(name: str) -> str:
    """gpt_neox.layers.3.attention.dense → gpt_neox.layers.N.attention.dense"""
    parts = []
    for part in name.split("."):
        parts.append("N" if part.isdigit() else part)
    return ".".join(parts)
