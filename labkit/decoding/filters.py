"""Filters on next-token probabilities: what each removes, and a draw from what is left."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.decoding.config import FILTERS, DecodingConfig
from labkit.decoding.tree import _Row, _Tree

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class Stage:
    """What one filter does to the next-token distribution."""

    name: str
    value: float
    kept: "np.ndarray"  # [V] bool
    removed: float  # probability mass that this filter took away, of what the filter before it had left
    probabilities: "np.ndarray"  # [V] after it, summing to 1


def _filters(config: DecodingConfig) -> dict[str, Any]:
    """transformers' own filter for each setting that is on, in the order of FILTERS."""
    from transformers.generation import logits_process

    warpers = [f"{kind}LogitsWarper" for kind in ("Temperature", "TopK", "TopP", "MinP", "Typical")]
    kinds = dict(zip(FILTERS, ["RepetitionPenaltyLogitsProcessor", *warpers], strict=True))
    names = FILTERS if config.strategy == "sample" else ["repetition_penalty"]
    values = {name: getattr(config, name) for name in names if getattr(config, name) != FILTERS[name]}
    return {name: getattr(logits_process, kinds[name])(value) for name, value in values.items()}


def filter_stages(logits: "np.ndarray", config: DecodingConfig, context: Sequence[int] = ()) -> list[Stage]:
    """What every filter of a sampling `config` cuts, in order, from logits [V]; the model is not needed.

    `context` holds the tokens that the repetition penalty is for.
    """
    import torch

    scores = torch.as_tensor(logits, dtype=torch.float32)[None]  # [1, V]
    seen = torch.tensor([list(context)], dtype=torch.long)  # [1, T]
    stages, before = [], scores.softmax(-1)
    for name, apply in _filters(config).items():
        scores = apply(seen, scores)
        kept, after = scores > -torch.inf, scores.softmax(-1)  # [1, V]
        removed = float(before[~kept].sum())
        stages.append(Stage(name, getattr(config, name), kept[0].numpy(), removed, after[0].numpy()))
        before = after
    return stages


def remaining(logits: "np.ndarray", stages: Sequence[Stage]) -> "np.ndarray":
    """Probabilities [V] after all stages; the softmax of the logits [V] where there are none."""
    import numpy as np

    weights = np.exp(logits - logits.max())
    return stages[-1].probabilities if stages else weights / weights.sum()


def entropy(probabilities: "np.ndarray") -> float:
    """Bits: 0 for one possible token, k for an even choice between 2^k."""
    import numpy as np

    some = probabilities[probabilities > 0].astype(float)
    return float(abs((some * np.log2(some)).sum()))


def _filtered(tree: _Tree, scores: "Tensor", config: DecodingConfig, stop: set[int], length: int) -> "Tensor":
    """Scores [B, V] of the token that makes replies `length` long, after min_new_tokens and the filters."""
    if length <= config.min_new_tokens:
        scores = scores.index_fill(1, tree._tensor(sorted(stop)), -float("inf"))
    for apply in _filters(config).values():
        scores = apply(tree.sequences(), scores)
    return scores


def _sampled(scores: "Tensor", rows: list[_Row]) -> list[int]:
    """One token a row by the inverse of the cumulative distribution, from the row's own random numbers."""
    cumulative = scores.double().softmax(-1).cumsum(-1)  # [B, V]
    drawn = cumulative.new_tensor([[row.draw.random()] for row in rows])
    return (cumulative <= drawn * cumulative[:, -1:]).sum(-1).clamp(max=scores.shape[-1] - 1).tolist()
