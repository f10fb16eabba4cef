"""Speculative decoding: a small model writes ahead, the large one checks several tokens in one pass (algorithm 1 of
Leviathan et al. 2023, "Fast inference from transformers via speculative decoding")."""

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from labkit.decoding.config import DecodingConfig
from labkit.decoding.filters import filter_stages, remaining
from labkit.decoding.generate import check_room
from labkit.errors import LabError
from labkit.models import LanguageModel

if TYPE_CHECKING:
    import numpy as np


def speculative(
    lm: LanguageModel, draft: LanguageModel | None, prompt: list[int], config: DecodingConfig, ahead: int = 3
) -> list[int]:
    """One reply of `lm`, for which a smaller `draft` writes `ahead` tokens at a time.

    Greedy text is what `lm` alone writes; a sample has the distribution of its samples. `draft=None` is the same loop
    without help: what a speed-up has to be measured against.

    Raises:
        LabError: models with different tokenizers, beam or contrastive search, a prompt without room for the reply.
    """
    import numpy as np

    if config.strategy in ("beam", "contrastive"):
        found = f"strategy={config.strategy!r}"
        raise LabError("speculative decoding checks one likeliest or drawn token", found, "use greedy or sample")
    if draft and draft.tokenizer.get_vocab() != lm.tokenizer.get_vocab():
        found = f"the tokenizers of {draft.name} and {lm.name} differ"
        raise LabError("the draft's tokens mean something else", found, "take a smaller model of the same family")
    check_room(lm, [prompt], config.max_new_tokens)
    draws, reply = np.random.default_rng(config.seed), []
    model, helper = _Reader(lm, prompt, config), _Reader(draft, prompt, config) if draft else None
    while len(reply) < config.max_new_tokens and not set(reply) & set(lm.codec.stop_ids):
        room = config.max_new_tokens - len(reply) - 1  # the last token is the model's own
        reply += _round(model, helper, reply, min(ahead, room) if draft else 0, draws)
    return list(takewhile(lambda token: token not in lm.codec.stop_ids, reply))


def _round(
    model: "_Reader", helper: "_Reader | None", reply: list[int], ahead: int, draws: "np.random.Generator"
) -> list[int]:
    """The next tokens: those of the helper that the model accepts, and one of the model's own."""
    guesses, proposed = [], []
    for _ in range(ahead):
        proposed += helper.distributions([*reply, *guesses], 1)
        guesses.append(_draw(proposed[-1], draws))
    wanted = model.distributions([*reply, *guesses], ahead + 1)
    for at, (guess, q) in enumerate(zip(guesses, proposed, strict=True)):
        p = wanted[at]
        if draws.random() * q[guess] >= p[guess]:  # accepted with probability min(1, p / q)
            return [*guesses[:at], _draw((p - q).clip(0), draws)]
    return [*guesses, _draw(wanted[-1], draws)]


def _draw(weights: "np.ndarray", draws: "np.random.Generator") -> int:
    return int(draws.choice(len(weights), p=weights / weights.sum()))


class _Reader:
    """A model and what it has read of one dialogue, so that only new tokens cost time."""

    def __init__(self, lm: LanguageModel, prompt: list[int], config: DecodingConfig):
        from transformers import DynamicCache

        self.lm, self.prompt, self.config = lm, prompt, config
        self.cache, self.seen = DynamicCache(), []

    def distributions(self, reply: list[int], last: int) -> list["np.ndarray"]:
        """Probabilities [V] of the next token after each of the `last` longest beginnings of the reply."""
        begins = [reply[: len(reply) - left] for left in reversed(range(last))]
        return [self._distribution(row, begin) for row, begin in zip(self._logits(reply, last), begins, strict=True)]

    def _distribution(self, logits: "np.ndarray", reply: Sequence[int]) -> "np.ndarray":
        import numpy as np

        if len(reply) < self.config.min_new_tokens:
            logits[self.lm.codec.stop_ids] = -np.inf
        left = remaining(logits, filter_stages(logits, self.config, [*self.prompt, *reply])).astype(float)
        return left if self.config.strategy == "sample" else np.eye(1, len(left), int(left.argmax()))[0]

    def _logits(self, reply: list[int], last: int) -> "np.ndarray":
        """[last, V] in float32."""
        import torch

        tokens = [*self.prompt, *reply]
        same = next((i for i, (a, b) in enumerate(zip(self.seen, tokens, strict=False)) if a != b), len(self.seen))
        same = min(same, len(tokens) - last)
        if same < len(self.seen):
            self.cache.crop(same - len(self.seen))  # a negative number: how many to forget
        ids, self.seen = torch.tensor([tokens[same:]], device=self.lm.base.device), tokens
        with torch.inference_mode():
            out = self.lm.base(ids, past_key_values=self.cache, use_cache=True, logits_to_keep=last)
        return out.logits[0].float().cpu().numpy()
