"""Filters of one's own: a function of a row's scores [V] and of what is written so far.

    def short_words(scores, written):
        scores[long_tokens] = -np.inf
        return scores

    labkit.generate(lm, prompts, config, filters=[short_words])

They are called once for each row and step, so a row gets what it would get alone. The filters of the configuration come
after them: whatever is left is what temperature, top-k and the others work on.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.decoding.rows import OwnFilter, Row, Written
from labkit.errors import LabError
from labkit.machine.one_line import first_line

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

RETURN = "return the scores, those of forbidden tokens at -inf"


def check_filters(filters: Sequence[OwnFilter]) -> None:
    """Raises LabError where they are not functions in a list."""
    if callable(filters):
        raise LabError("filters is a list of functions", "one function", "write filters=[it]")
    for own in filters:
        if not callable(own):
            raise LabError("filters is a list of functions", f"{own!r:.80}", "give functions of (scores, written)")


def apply_own(scores: "Tensor", rows: Sequence[Row]) -> "Tensor":
    """Scores [B, V] after the filters that each row has of the caller.

    Raises:
        LabError: a filter fails, returns something else than scores, or leaves no token.
    """
    import torch

    if not any(row.filters for row in rows):
        return scores
    before = scores.float().cpu().numpy()  # [B, V]
    filtered = []
    for row, of_row in zip(rows, before, strict=True):
        filtered.append(_filtered(of_row, row))
    return torch.stack(filtered).to(scores)


def _filtered(scores: "np.ndarray", row: Row) -> "Tensor":
    """Scores [V] of one row."""
    import torch

    written = Written(row.index, tuple(row.prompt), tuple(row.reply))
    for own in row.filters:
        scores = _call(own, scores.copy(), written)  # a copy: a filter may write into what it gets
    return torch.from_numpy(scores)


def _call(own: OwnFilter, scores: "np.ndarray", written: Written) -> "np.ndarray":
    import numpy as np

    name = getattr(own, "__name__", type(own).__name__)
    shape = scores.shape
    try:
        returned = own(scores, written)
    except Exception as error:  # a student's function may raise anything
        found = f"{type(error).__name__}: {first_line(error)}"
        raise LabError(f"the filter {name} failed", found, "mend it; it gets (scores, written)") from error
    if isinstance(returned, np.ndarray) and returned.dtype == bool:
        raise LabError(f"the filter {name} returns truth values", "", RETURN)
    try:
        filtered = np.asarray(returned, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise LabError(f"the filter {name} returns no scores", type(returned).__name__, RETURN) from error
    if filtered.shape != shape:
        found = f"shape {filtered.shape} instead of {shape}"
        raise LabError(f"the filter {name} returns no scores for every token", found, RETURN)
    if np.isnan(filtered).any() or np.isposinf(filtered).any():
        raise LabError(f"the filter {name} returns what is no number", "nan or +inf among the scores", RETURN)
    if np.isneginf(filtered).all():
        found = f"after {len(written.reply)} tokens of the reply to prompt {written.index}"
        raise LabError(f"the filter {name} leaves no token", found, "let it keep one, for instance the likeliest")
    return filtered
