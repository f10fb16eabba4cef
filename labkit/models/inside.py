"""Looking into a model: attention, the logit lens, and what an adapter changed."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict

from labkit.compat import computes_attention
from labkit.errors import LabError
from labkit.models.language_model import LanguageModel
from labkit.models.likelihood import read_once, turn_perplexities

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel

__all__ = [
    "AdapterChange",
    "adapter_changes",
    "attention",
    "final_norm",
    "logit_lens",
    "tokens",
    "turn_perplexities",
]


def tokens(lm: LanguageModel, ids: Sequence[int]) -> list[str]:
    """The text of each token, newlines and spaces made visible."""
    texts = lm.tokenizer.batch_decode([[i] for i in ids])
    return [text.replace("\n", "⏎").replace(" ", "␣") for text in texts]


def attention(lm: LanguageModel, ids: Sequence[int], layer: int = -1) -> "np.ndarray":
    """Attention weights of one layer's heads, [heads, T, T]: row t says where token t looks; rows sum to 1.

    Weights are what a fast kernel never writes down, so the model computes the plain way meanwhile.

    Raises:
        LabError: the architecture has no attention weights to give, or no such layer.
    """
    with _eagerly(lm.base):
        weights = read_once(lm, ids, output_attentions=True).get("attentions")  # one [1, heads, T, T] a layer
    if not weights or weights[layer] is None:
        found = f"a {lm.base.config.model_type} model"
        raise LabError(f"{lm.name} gives no attention weights", found, "choose a model with attention in all layers")
    return weights[layer][0].float().cpu().numpy()


@contextmanager
def _eagerly(model: "PreTrainedModel") -> Iterator[None]:
    before = computes_attention(model)
    computes_attention(model, "eager")
    try:
        yield
    finally:
        computes_attention(model, before)


def logit_lens(lm: LanguageModel, ids: Sequence[int]) -> "np.ndarray":
    """Probabilities of the next token after `ids` as each layer would have it, [layers + 1, V] from the embedding on.

    The final normalisation and the output head applied to what every layer hands on (nostalgebraist 2020, "interpreting
    GPT: the logit lens"); the last row is what the model says.
    """
    import torch

    states = read_once(lm, ids, output_hidden_states=True).hidden_states  # one [1, T, H] a layer
    last_tokens = [state[:, -1] for state in states]  # [1, H] each
    normalise = final_norm(lm)
    with torch.inference_mode():
        normed = [normalise(state) for state in last_tokens[:-1]]
        normed.append(last_tokens[-1])  # the last one is handed out normalised
        logits = lm.base.get_output_embeddings()(torch.cat(normed))  # [layers + 1, V]
    return logits.float().softmax(-1).cpu().numpy()


def final_norm(lm: LanguageModel) -> "torch.nn.Module":
    """The normalisation before the output head: the last one that is in no numbered layer."""
    found = None
    for name, module in lm.base.base_model.named_modules():
        is_norm = re.search(r"norm$|ln_f$", name)
        in_a_layer = re.search(r"\d", name)
        if is_norm and not in_a_layer:
            found = module
    if found is None:
        kind = lm.base.config.model_type
        raise LabError(f"{lm.name} has no logit lens", f"no final normalisation in a {kind} model", "choose another")
    return found


class AdapterChange(TypedDict):
    """How far an adapter moved one matrix."""

    layer: int
    module: str
    norm: float  # Frobenius norm of scaling · BA
    relative: float  # … over that of the base weight


def adapter_changes(lm: LanguageModel) -> list[AdapterChange]:
    """How far the adapter moved each matrix.

    The base weight is brought back from 4 or 8 bits where it is quantised.

    Raises:
        LabError: the model has no adapter.
    """
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import dequantize_module_weight

    rows: list[AdapterChange] = []
    for name, module in lm.base.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        change = float(module.get_delta_weight(module.active_adapters[0]).detach().norm())
        whole = float(dequantize_module_weight(module.base_layer).detach().float().norm())
        layer, own_name = _split_name(name)
        rows.append({"layer": layer, "module": own_name, "norm": change, "relative": change / whole})
    if not rows:
        raise LabError(f"{lm.name} has no LoRA", f"adapter={lm.adapter!r}", "load_adapter first")
    return rows


def _split_name(name: str) -> tuple[int, str]:
    """gpt_neox.layers.3.attention.dense → (3, "attention.dense"); layer 0 where there is no number."""
    match = re.search(r"\.(\d+)\.(.*)", name)
    if match is None:
        return 0, name
    return int(match[1]), match[2]
