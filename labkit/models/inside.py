"""Looking into a model: attention, the logit lens, perplexity turn by turn, and what an adapter changed."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from labkit.corpora.types import Dialogue
from labkit.errors import LabError
from labkit.models.language_model import LanguageModel
from labkit.prompts.format import exchanges

if TYPE_CHECKING:
    import numpy as np
    import torch


def _forward(lm: LanguageModel, ids: Sequence[int], **wanted: bool) -> Any:
    """The model's output for one sequence of token ids [T].

    Raises:
        LabError: nothing to read, or more than the model can.
    """
    import torch

    if not 0 < len(ids) <= lm.context_length:
        raise LabError(f"{lm.name} reads 1 to {lm.context_length} tokens", f"{len(ids)}", "give another text")
    with torch.inference_mode():
        return lm.base(torch.tensor([list(ids)], device=lm.base.device), use_cache=False, **wanted)


def tokens(lm: LanguageModel, ids: Sequence[int]) -> list[str]:
    """The text of each token, newlines and spaces made visible."""
    return [text.replace("\n", "⏎").replace(" ", "␣") for text in lm.tokenizer.batch_decode([[i] for i in ids])]


def attention(lm: LanguageModel, ids: Sequence[int], layer: int = -1) -> "np.ndarray":
    """Attention weights of one layer's heads, [heads, T, T]: row t says where token t looks; rows sum to 1.

    Weights are what a fast kernel never writes down, so the model computes the plain way meanwhile.
    """
    with _eagerly(lm.base):
        return _forward(lm, ids, output_attentions=True).attentions[layer][0].float().cpu().numpy()


@contextmanager
def _eagerly(model: Any) -> Iterator[None]:
    before = model.config._attn_implementation
    # not set_attn_implementation: Falcon takes it without a word, and then adds yes and no to its scores
    model.config._attn_implementation = "eager"
    try:
        yield
    finally:
        model.config._attn_implementation = before


def logit_lens(lm: LanguageModel, ids: Sequence[int]) -> "np.ndarray":
    """Probabilities of the next token after `ids` as each layer would have it, [layers + 1, V] from the embedding on.

    The final normalisation and the output head applied to what every layer hands on (nostalgebraist 2020, "interpreting
    GPT: the logit lens"); the last row is what the model says.
    """
    import torch

    *hidden, last = (states[:, -1] for states in _forward(lm, ids, output_hidden_states=True).hidden_states)  # [1, H]
    with torch.inference_mode():
        normed = [_final_norm(lm)(state) for state in hidden] + [last]  # the last one is handed out normalised
        logits = lm.base.get_output_embeddings()(torch.cat(normed))  # [layers + 1, V]
    return logits.float().softmax(-1).cpu().numpy()


def _final_norm(lm: LanguageModel) -> "torch.nn.Module":
    """The normalisation before the output head: the last one that is in no numbered layer."""
    named = lm.base.base_model.named_modules()
    *_, norm = (module for name, module in named if re.search(r"norm$|ln_f$", name) and not re.search(r"\d", name))
    return norm


def turn_perplexities(lm: LanguageModel, dialogue: Dialogue) -> list[float]:
    """Perplexity of every turn, user's and bot's, each read after all before it; one figure a turn.

    A reply's tokens are those with a loss in training; a user's turn counts with its `user>` and the `bot>` after it.

    Raises:
        LabError: the dialogue is longer than what the model reads.
    """
    import torch

    texts = [segment.text for exchange in exchanges(dialogue) for segment in exchange]
    pieces = [lm.codec.encode(text) for text in texts]
    ids = [*lm.codec.prefix, *chain.from_iterable(pieces)]
    logits = _forward(lm, ids).logits[0, :-1].float()  # [T-1, V]: position t predicts token t+1
    nats = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:], device=logits.device), reduction="none")
    sizes = [len(piece) for piece in pieces]
    sizes[0] -= not lm.codec.prefix  # nothing comes before the first token, so nothing predicts it
    return [math.exp(float(part.mean())) for part in nats[-sum(sizes) :].split(sizes)]


def adapter_changes(lm: LanguageModel) -> list[dict[str, Any]]:
    """How far the adapter moved each matrix: {"layer", "module", "norm": |scaling · BA|, "relative": … / |W|} each.

    Norms are Frobenius'; W is the base weight, brought back from 4 or 8 bits where it is quantised.

    Raises:
        LabError: the model has no adapter.
    """
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import dequantize_module_weight

    rows = []
    for name, module in lm.base.named_modules():
        if isinstance(module, LoraLayer):
            change = module.get_delta_weight(module.active_adapters[0]).detach().norm()
            whole = dequantize_module_weight(module.base_layer).detach().float().norm()
            *_, layer, own = ["0", *re.split(r"\.(\d+)\.", name, maxsplit=1)][-2:]
            rows.append({"layer": int(layer), "module": own, "norm": float(change), "relative": float(change / whole)})
    if not rows:
        raise LabError(f"{lm.name} has no LoRA", f"adapter={lm.adapter!r}", "load_adapter first")
    return rows
