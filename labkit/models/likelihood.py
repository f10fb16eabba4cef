"""How likely a model finds replies that people wrote."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.corpora.types import Dialogue
from labkit.errors import LabError
from labkit.models import LanguageModel
from labkit.prompts.build import examples
from labkit.prompts.sequences import IGNORED

if TYPE_CHECKING:
    import torch


def target_loss(
    model: Any, input_ids: "torch.Tensor", attention_mask: "torch.Tensor", labels: "torch.Tensor"
) -> "torch.Tensor":
    """Cross-entropy in nats, summed over the labels that are not IGNORED; scalar.

    The output head, most of the work in a small model with a large vocabulary, sees only the positions before a label.
    A hook on it selects them, so that any architecture, adapter or parallel wrapper runs as it is.
    """
    import torch

    wanted = labels[:, 1:] != IGNORED  # [B, T-1]: position t predicts label t+1
    inner = getattr(model, "module", model)
    head = (inner.get_base_model() if hasattr(inner, "get_base_model") else inner).get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :-1][wanted],))  # [B, T, H] → [N, H]
    try:
        logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits  # [N, V]
    finally:
        hook.remove()
    return torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="sum")


def reply_perplexity(lm: LanguageModel, dialogues: Sequence[Dialogue], max_length: int = 1024) -> float:
    """exp of the mean negative log-probability of a reply token, each reply read after its true history.

    Comparable between models with the same tokenizer only (Jelinek et al. 1977 for the measure).

    Raises:
        LabError: the dialogues hold no reply.
    """
    import torch

    nats, n = 0.0, 0
    for dialogue in dialogues:
        for example in examples(dialogue, lm.codec, max_length=min(max_length, lm.context_length)):
            ids = torch.tensor([example.input_ids], device=lm.base.device)  # [1, T]
            labels = torch.tensor(example.labels, device=ids.device)[1:]  # [T-1]: position t predicts token t+1
            with torch.inference_mode():
                logits = lm.model(input_ids=ids).logits[0, :-1].float()  # [T-1, V]
            nats += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum"))
            n += int((labels != IGNORED).sum())
    if not n:
        raise LabError("no reply to measure", f"{len(dialogues)} dialogues", "give dialogues with bot turns")
    return math.exp(nats / n)
