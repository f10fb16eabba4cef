"""Filters on next-token probabilities: what each removes, and a draw from what is left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.decoding.config import FILTERS, DecodingConfig
from labkit.decoding.own_filters import apply_own
from labkit.decoding.rows import Row
from labkit.errors import LabError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Filter = Callable[["Tensor", "Tensor"], "Tensor"]  # (tokens so far [B, T], scores [B, V]) -> scores [B, V]

COLD = 1e-4  # temperature below which logits divided by it leave the range of float32
COLDEST = 1e-30  # a smaller number would be 0 in float32; the distribution is all on the likeliest token long before


@dataclass(frozen=True)
class Stage:
    """What one filter does to the next-token distribution."""

    name: str
    value: float
    kept: "np.ndarray"  # [V] bool
    removed: float  # probability mass that this filter took away, of what the filter before it had left
    probabilities: "np.ndarray"  # [V] after it, summing to 1


def make_filters(config: DecodingConfig) -> dict[str, Filter]:
    """transformers' own filter for each setting that is on, in the order of FILTERS."""
    names = list(FILTERS) if config.strategy == "sample" else ["repetition_penalty"]
    filters = {}
    for name in names:
        value = getattr(config, name)
        if value != FILTERS[name]:
            filters[name] = _make_filter(name, value)
    return filters


def _make_filter(name: str, value: float) -> Filter:
    from transformers.generation import logits_process

    if name == "top_k":
        return logits_process.TopKLogitsWarper(int(value))
    if name == "temperature" and value < COLD:
        return _colder(value)
    kinds = {
        "repetition_penalty": logits_process.RepetitionPenaltyLogitsProcessor,
        "temperature": logits_process.TemperatureLogitsWarper,
        "top_p": logits_process.TopPLogitsWarper,
        "min_p": logits_process.MinPLogitsWarper,
        "typical_p": logits_process.TypicalLogitsWarper,
    }
    return kinds[name](float(value))


def _colder(temperature: float) -> Filter:
    """Division by a temperature near 0. The highest score becomes 0 first, so that nothing overflows."""

    def divide(tokens: "Tensor", scores: "Tensor") -> "Tensor":
        below_highest = scores - scores.amax(dim=-1, keepdim=True)  # [B, V]
        return below_highest / max(temperature, COLDEST)

    return divide


class TokenFilters:
    """What a strategy does to the scores of the next token: own filters, `min_new_tokens`, those of the settings.

    Made once for a batch, and called at every step.
    """

    def __init__(self, config: DecodingConfig, stop: set[int]):
        self.min_new_tokens = config.min_new_tokens
        self.stop = sorted(stop)
        self.filters = make_filters(config)

    def __call__(
        self, scores: "Tensor", length: int, history: Callable[[], "Tensor"], rows: Sequence[Row] = ()
    ) -> "Tensor":
        """Scores [B, V] of the token that makes replies of `rows` `length` long.

        `history` gives prompts and replies so far, [B, T]; only the repetition penalty asks for it.

        Raises:
            LabError: see `labkit.decoding.own_filters.apply_own`; or nothing is left.
        """
        import torch

        scores = apply_own(scores, rows)
        if length <= self.min_new_tokens:
            stop = torch.tensor(self.stop, dtype=torch.long, device=scores.device)
            scores = scores.index_fill(1, stop, -float("inf"))
            _check_left(scores, self.min_new_tokens)
        for name, apply in self.filters.items():
            tokens = history() if name == "repetition_penalty" else None
            scores = apply(tokens, scores)
        return scores


def _check_left(scores: "Tensor", shortest: int) -> None:
    """Raises LabError where filters allow only what ends a reply, before it may end."""
    if scores.isneginf().all(dim=-1).any():
        found = f"min_new_tokens={shortest}, and only tokens that end a reply are left"
        raise LabError("no token is left", found, "lower min_new_tokens, or let your filter keep more")


def filter_stages(logits: "np.ndarray", config: DecodingConfig, context: Sequence[int] = ()) -> list[Stage]:
    """What every filter of a sampling `config` cuts, in order, from logits [V]; the model is not needed.

    `context` holds the tokens that the repetition penalty is for.
    """
    import torch

    scores = torch.as_tensor(logits, dtype=torch.float32)[None]  # [1, V]
    tokens = torch.tensor([list(context)], dtype=torch.long)  # [1, T]
    before = scores.softmax(-1)  # [1, V]
    stages = []
    for name, apply in make_filters(config).items():
        scores = apply(tokens, scores)
        kept = scores > -torch.inf  # [1, V]
        after = scores.softmax(-1)  # [1, V]
        stage = Stage(
            name=name,
            value=getattr(config, name),
            kept=kept[0].numpy(),
            removed=float(before[~kept].sum()),
            probabilities=after[0].numpy(),
        )
        stages.append(stage)
        before = after
    return stages


def remaining(logits: "np.ndarray", stages: Sequence[Stage]) -> "np.ndarray":
    """Probabilities [V] after all stages; the softmax of the logits [V] where there are none."""
    import numpy as np

    if stages:
        return stages[-1].probabilities
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def entropy(probabilities: "np.ndarray") -> float:
    """Bits: 0 for one possible token, k for an even choice between 2^k."""
    import numpy as np

    some = probabilities[probabilities > 0].astype(float)
    return float(abs((some * np.log2(some)).sum()))


def choose(scores: "Tensor", rows: Sequence[Row], config: DecodingConfig) -> list[int]:
    """The next token of every row from its filtered scores [B, V]: drawn in sampling, else the likeliest."""
    if config.strategy == "sample":
        return _drawn(scores, rows)
    if scores.device.type == "cpu":
        return scores.numpy().argmax(-1).tolist()  # the first of equals, as torch's own, in an eighth of the time
    return scores.argmax(-1).tolist()


def _drawn(scores: "Tensor", rows: Sequence[Row]) -> list[int]:
    """One token a row by the inverse of the cumulative distribution, from the row's own random numbers.

    In float64, which an Apple GPU does not have: only CUDA computes this on the device.
    """
    if scores.device.type != "cuda":
        scores = scores.cpu()
    cumulative = scores.double().softmax(-1).cumsum(-1)  # [B, V]
    uniform = cumulative.new_tensor([[row.draw.random()] for row in rows])  # [B, 1]
    below = cumulative <= uniform * cumulative[:, -1:]  # [B, V] tokens that the draw passed
    last_token = scores.shape[-1] - 1
    return below.sum(-1).clamp(max=last_token).tolist()
