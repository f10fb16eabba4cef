"""Speculative decoding: a small model writes ahead, the large one checks several tokens in one pass (algorithm 1 of
Leviathan et al. 2023, "Fast inference from transformers via speculative decoding")."""

from typing import TYPE_CHECKING

from labkit.decoding.config import DecodingConfig
from labkit.decoding.filters import filter_stages, remaining
from labkit.decoding.generate import check_room
from labkit.errors import LabError
from labkit.models import LanguageModel
from labkit.models.beginnings import common_prefix
from labkit.models.families import route_of
from labkit.models.finite import check_finite

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def speculative(
    lm: LanguageModel, draft: LanguageModel | None, prompt: list[int], config: DecodingConfig, ahead: int = 3
) -> list[int]:
    """One reply of `lm`, for which a smaller `draft` writes `ahead` tokens at a time.

    Greedy text is what `lm` alone writes; a sample has the distribution of its samples. `draft=None` is the same loop
    without help: what a speed-up has to be measured against.

    Raises:
        LabError: models with different tokenizers, beam or contrastive search, a prompt without room for the reply, a
            family whose cache cannot go back to before a rejected guess, logits that are not finite.
    """
    import numpy as np

    _check(lm, draft, prompt, config)
    draws = np.random.default_rng(config.seed)
    stop = set(lm.codec.stop_ids)
    model = _Reader(lm, prompt, config)
    helper = _Reader(draft, prompt, config) if draft else None
    reply: list[int] = []
    while len(reply) < config.max_new_tokens:
        guesses = 0
        if helper:
            room = config.max_new_tokens - len(reply) - 1  # the last token is the model's own
            guesses = min(ahead, room)
        for token in _round(model, helper, reply, guesses, draws):
            if token in stop:
                return reply
            reply.append(token)
    return reply


def _check(lm: LanguageModel, draft: LanguageModel | None, prompt: list[int], config: DecodingConfig) -> None:
    if config.strategy in ("beam", "contrastive"):
        found = f"strategy={config.strategy!r}"
        raise LabError("speculative decoding checks one likeliest or drawn token", found, "use greedy or sample")
    if draft and draft.tokenizer.get_vocab() != lm.tokenizer.get_vocab():
        found = f"the tokenizers of {draft.name} and {lm.name} differ"
        raise LabError("the draft's tokens mean something else", found, "take a smaller model of the same family")
    for one in filter(None, (lm, draft)):
        why_not = route_of(one.base).why_not
        if why_not:
            raise LabError(f"no speculative decoding with {one.name}", why_not, "use generate")
    check_room(lm, [prompt], config.max_new_tokens)


def _round(
    model: "_Reader", helper: "_Reader | None", reply: list[int], ahead: int, draws: "np.random.Generator"
) -> list[int]:
    """The next tokens: those of the helper that the model accepts, and one of the model's own."""
    guesses: list[int] = []
    proposed: list[np.ndarray] = []
    for _ in range(ahead):
        distribution = helper.distributions([*reply, *guesses], 1)[0]  # [V]
        proposed.append(distribution)
        guesses.append(_draw(distribution, draws))
    wanted = model.distributions([*reply, *guesses], ahead + 1)
    for at, guess in enumerate(guesses):
        p = wanted[at]  # [V] what the model wants
        q = proposed[at]  # [V] what the guess was drawn from
        uniform = draws.random()
        if uniform * q[guess] >= p[guess]:  # accepted with probability min(1, p / q)
            rest = (p - q).clip(0)  # [V] what the helper proposes too seldom
            if not rest.any():  # p and q are the same but for rounding
                rest = p
            return [*guesses[:at], _draw(rest, draws)]
    return [*guesses, _draw(wanted[-1], draws)]


def _draw(weights: "np.ndarray", draws: "np.random.Generator") -> int:
    probabilities = weights / weights.sum()
    return int(draws.choice(len(weights), p=probabilities))


class _Reader:
    """A model and what it has read of one dialogue, so that only new tokens cost time."""

    def __init__(self, lm: LanguageModel, prompt: list[int], config: DecodingConfig):
        from transformers import DynamicCache

        self.lm = lm
        self.prompt = prompt
        self.config = config
        self.cache = DynamicCache()
        self.seen: list[int] = []  # the tokens in the cache

    def distributions(self, reply: list[int], last: int) -> list["np.ndarray"]:
        """Probabilities [V] of the next token after each of the `last` longest beginnings of the reply."""
        logits = self._logits(reply, last).numpy()  # [last, V]
        shortest = len(reply) - last + 1
        found = []
        for at in range(last):
            beginning = reply[: shortest + at]
            found.append(self._distribution(logits[at], beginning))
        return found

    def _distribution(self, logits: "np.ndarray", reply: list[int]) -> "np.ndarray":
        """[V] after the filters; in greedy search 1 for the likeliest token, 0 for all others."""
        import numpy as np

        if len(reply) < self.config.min_new_tokens:
            logits[self.lm.codec.stop_ids] = -np.inf
        stages = filter_stages(logits, self.config, [*self.prompt, *reply])
        left = remaining(logits, stages).astype(float)
        if self.config.strategy == "sample":
            return left
        certain = np.zeros(len(left))
        certain[left.argmax()] = 1
        return certain

    def _logits(self, reply: list[int], last: int) -> "Tensor":
        """[last, V] in float32 on the CPU, after the last tokens of prompt and reply."""
        import torch

        tokens = [*self.prompt, *reply]
        known = common_prefix(self.seen, tokens)
        known = min(known, len(tokens) - last)  # tokens whose logits are wanted are read again
        if known < len(self.seen):
            self.cache.crop(known - len(self.seen))  # a negative number: how many to forget
        ids = torch.tensor([tokens[known:]], device=self.lm.base.device)  # [1, T]
        self.seen = tokens
        with torch.inference_mode():
            out = self.lm.base(ids, past_key_values=self.cache, use_cache=True, logits_to_keep=last)
        logits = out.logits[0].float().cpu()  # [last, V]
        check_finite(logits, self.lm)
        return logits
