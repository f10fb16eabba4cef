"""Perplexity of a corpus' own replies: how surprised a model is by what a person wrote."""

import math
from collections.abc import Sequence

from labkit.corpora.types import Dialogue
from labkit.errors import LabError
from labkit.models import LanguageModel
from labkit.prompts import IGNORED, examples


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
