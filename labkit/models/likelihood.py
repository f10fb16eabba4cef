"""How likely a model finds what people wrote: the loss of training, and perplexities."""

import math
from collections.abc import Sequence
from itertools import chain
from threading import Lock, get_ident
from typing import TYPE_CHECKING

from labkit.corpora.types import Dialogue
from labkit.errors import LabError
from labkit.models.language_model import LanguageModel
from labkit.models.token_ids import check_token_ids
from labkit.prompts.build import examples
from labkit.prompts.format import exchanges
from labkit.prompts.sequences import IGNORED

if TYPE_CHECKING:
    import torch

ONE_AT_A_TIME = Lock()  # torch numbers hooks by a counter, from which two threads can take the same number


def target_loss(
    model: "torch.nn.Module",
    input_ids: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    labels: "torch.Tensor",
) -> "torch.Tensor":
    """Cross-entropy in nats, summed over the labels [B, T] that are not IGNORED; scalar."""
    import torch

    from labkit.models.cross_entropy import SummedCrossEntropy

    logits, wanted_labels = _predictions(model, input_ids, attention_mask, labels)  # [N, V], [N]
    if logits.requires_grad:
        return SummedCrossEntropy.apply(logits, wanted_labels)
    return torch.nn.functional.cross_entropy(logits, wanted_labels, reduction="sum")


def log_probabilities(
    model: "torch.nn.Module", input_ids: "torch.Tensor", attention_mask: "torch.Tensor", labels: "torch.Tensor"
) -> "torch.Tensor":
    """The log-probability [B], in nats, of each row's labels [B, T] that are not IGNORED, after what stands before."""
    import torch

    logits, wanted_labels = _predictions(model, input_ids, attention_mask, labels)  # [N, V], [N]
    nats = torch.nn.functional.cross_entropy(logits, wanted_labels, reduction="none")  # [N]
    wanted = labels[:, 1:] != IGNORED  # [B, T-1]
    by_place = nats.new_zeros(wanted.shape).masked_scatter(wanted, nats)  # [B, T-1]
    return -by_place.sum(-1)


def _predictions(
    model: "torch.nn.Module",
    input_ids: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    labels: "torch.Tensor",
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Logits [N, V] in float32 before the labels [B, T] that are not IGNORED, and these labels [N].

    The output head, most of the work in a small model with a large vocabulary, sees only the positions before a label.
    A hook on it selects them, so that any architecture, adapter or parallel wrapper runs as it is. Other threads may
    call the same model at the same time, each with a hook of its own.
    """
    thread = get_ident()
    next_labels = labels[:, 1:]  # [B, T-1]: position t predicts label t+1
    wanted = next_labels != IGNORED  # [B, T-1]

    def keep_wanted(_: "torch.nn.Module", inputs: "tuple[torch.Tensor, ...]") -> "tuple[torch.Tensor] | None":
        if get_ident() != thread:
            return None
        states = inputs[0][:, :-1]  # [B, T-1, H]
        return (states[wanted],)  # [N, H]

    with ONE_AT_A_TIME:
        hook = _output_head(model).register_forward_pre_hook(keep_wanted)
    try:
        logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits  # [N, V]
    finally:
        hook.remove()
    return logits.float(), next_labels[wanted]


def _output_head(model: "torch.nn.Module") -> "torch.nn.Module":
    """The layer that makes logits, under a parallel wrapper and an adapter."""
    inner = getattr(model, "module", model)
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    return inner.get_output_embeddings()


def reply_perplexity(lm: LanguageModel, dialogues: Sequence[Dialogue], max_length: int = 1024) -> float:
    """exp of the mean negative log-probability of a reply token, each reply read after its true history.

    Comparable between models with the same tokenizer only (Jelinek et al. 1977 for the measure).

    Raises:
        LabError: the dialogues hold no reply, or the model's logits are not finite.
    """
    import torch

    longest = min(max_length, lm.context_length)
    nats = 0.0
    n_tokens = 0
    for dialogue in dialogues:
        for example in examples(dialogue, lm.codec, max_length=longest):
            ids = torch.tensor([example.input_ids], device=lm.base.device)  # [1, T]
            labels = torch.tensor([example.labels], device=ids.device)  # [1, T]
            with torch.inference_mode():
                nats += float(target_loss(lm.model, ids, torch.ones_like(ids), labels))
            n_tokens += int((labels[:, 1:] != IGNORED).sum())
    if not n_tokens:
        raise LabError("no reply to measure", f"{len(dialogues)} dialogues", "give dialogues with bot turns")
    return _perplexity(nats / n_tokens, lm)


def log_probability_of(lm: LanguageModel, prompt: Sequence[int], reply: Sequence[int]) -> float:
    """The log-probability, in nats, of some tokens after a prompt.

    Raises:
        LabError: no prompt or no tokens, more than the model reads, or logits that are no numbers.
    """
    import torch

    for ids in (prompt, reply):
        check_token_ids(lm, ids)
    n_tokens = len(prompt) + len(reply)
    if not prompt or not reply or n_tokens > lm.context_length:
        found = f"{len(prompt)} and {len(reply)} tokens"
        raise LabError(f"{lm.name} reads up to {lm.context_length} tokens, a prompt and a reply", found, "shorten it")
    ids = torch.tensor([[*prompt, *reply]], device=lm.base.device)  # [1, T]
    labels = torch.tensor([[IGNORED] * len(prompt) + list(reply)], device=ids.device)  # [1, T]
    with torch.inference_mode():
        found = float(log_probabilities(lm.model, ids, torch.ones_like(ids), labels))
    if math.isnan(found):
        raise LabError(f"{lm.name} gives no probability", f"not a number, in {lm.dtype}", "load it with bits=32")
    return found


def turn_perplexities(lm: LanguageModel, dialogue: Dialogue) -> list[float]:
    """Perplexity of every turn, user's and bot's, each read after all before it; one figure a turn.

    A reply's tokens are those with a loss in training; a user's turn counts with its `user>` and the `bot>` after it.

    Raises:
        LabError: the dialogue is longer than what the model reads, or the model's logits are not finite.
    """
    import torch

    texts = [segment.text for exchange in exchanges(dialogue) for segment in exchange]
    pieces = [lm.codec.encode(text) for text in texts]
    ids = [*lm.codec.prefix, *chain.from_iterable(pieces)]
    logits = read_once(lm, ids).logits[0, :-1].float()  # [T-1, V]: position t predicts token t+1
    following = torch.tensor(ids[1:], device=logits.device)  # [T-1]
    nats = torch.nn.functional.cross_entropy(logits, following, reduction="none")  # [T-1]
    sizes = [len(piece) for piece in pieces]
    if not lm.codec.prefix:
        sizes[0] -= 1  # nothing comes before the first token, so nothing predicts it
    turns = nats[-sum(sizes) :].split(sizes)
    return [_perplexity(float(turn.mean()), lm) for turn in turns]


def read_once(lm: LanguageModel, ids: Sequence[int], **wanted: bool) -> "torch.utils._pytree.PyTree":
    """The model's output for one sequence of token ids [T]; `wanted`: output_hidden_states=True and the like.

    Raises:
        LabError: nothing to read, more than the model can, or no tokens of its own.
    """
    import torch

    check_token_ids(lm, ids)
    if not 0 < len(ids) <= lm.context_length:
        raise LabError(f"{lm.name} reads 1 to {lm.context_length} tokens", f"{len(ids)}", "give another text")
    batch = torch.tensor([list(ids)], device=lm.base.device)  # [1, T]
    with torch.inference_mode():
        return lm.base(batch, use_cache=False, **wanted)


def _perplexity(mean_nats: float, lm: LanguageModel) -> float:
    """exp of the mean nats; infinite where that is more than a float holds."""
    if math.isnan(mean_nats):
        found = f"not a number, computed in {lm.dtype}"
        raise LabError(f"{lm.name} gives no perplexity", found, "load it with bits=32, or train with a lower rate")
    try:
        return math.exp(mean_nats)
    except OverflowError:
        return math.inf
