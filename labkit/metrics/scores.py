"""What an evaluation gives back: scores, how sure they are, and why each dialogue failed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from labkit.errors import LabError
from labkit.metrics import intervals
from labkit.metrics.success import Verdict


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a dialogue passed or failed Inform and Success; `print` it, or look at it with `show_explanation`."""

    dialogue_id: str
    inform: bool
    success: bool
    verdicts: tuple[Verdict, ...]
    turns: tuple[tuple[str, str, str], ...]  # (user, reply, what was offered and told)

    @property
    def heading(self) -> str:
        return f"{self.dialogue_id}: Inform {'✗✓'[self.inform]}  Success {'✗✓'[self.success]}"

    def __str__(self) -> str:
        turns = (f"  user> {user}\n  bot> {reply}\n      {change}" for user, reply, change in self.turns)
        return "\n".join([self.heading, *(f"  {verdict}" for verdict in self.verdicts), *turns])


@dataclass(frozen=True)
class Scores:
    """Scores on a split, 0 to 100 except for richness and the two rates of slots in `dst`.

    Inform and Success are rounded to one digit, as mwzeval prints them; None where there are no goals or database.
    """

    bleu: float
    inform: float | None
    success: float | None
    per_domain: dict[str, dict[str, float]]  # {"inform": {domain: rate}, "success": {domain: rate}}
    richness: dict[str, float]
    dst: dict[str, float] | None  # None where no belief states were predicted
    n_dialogues: int
    n_turns: int
    notes: tuple[str, ...] = ()
    scorer: str = "labkit"
    keys: Sequence[str] = field(default=(), repr=False, compare=False)  # [D]
    tallies: np.ndarray | None = field(default=None, repr=False, compare=False)  # [D, 13], see labkit.metrics.intervals
    explain: Callable[[str], Explanation] | None = field(default=None, repr=False, compare=False)  # by dialogue id

    @property
    def combined(self) -> float | None:
        """BLEU + (Inform + Success) / 2 (Mehri et al. 2019)."""
        return None if self.inform is None else self.bleu + (self.inform + self.success) / 2

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals of bleu, inform, success and combined, computed when first asked for."""
        return {name: intervals.interval(values) for name, values in intervals.resampled(self.tallies)[0].items()}

    def to_mwzeval(self) -> dict[str, Any]:
        """In the shape that mwzeval's `evaluate` returns."""
        rates = {name: by_domain | {"total": getattr(self, name)} for name, by_domain in self.per_domain.items()}
        return {"bleu": {"mwz22": self.bleu}, "success": rates or None, "richness": self.richness, "dst": self.dst}

    def __str__(self) -> str:
        sure = [f"{n:9s} {getattr(self, n):6.2f}  [{low:.2f}, {high:.2f}]" for n, (low, high) in self.intervals.items()]
        tracking = [", ".join(f"{name} {value:.4g}" for name, value in self.dst.items())] if self.dst else []
        head = f"{self.n_dialogues} dialogues, {self.n_turns} replies, scorer {self.scorer}, 95 % intervals"
        return "\n".join([head, *sure, *tracking, *(f"note: {note}" for note in self.notes)])


def compare(a: Scores, b: Scores) -> intervals.Comparison:
    """Paired bootstrap of two evaluations on the same split: difference (b − a), interval and p of every score.

    Raises:
        LabError: they have no dialogue in common.
    """
    common, rows_a, rows_b = np.intersect1d(a.keys, b.keys, return_indices=True)
    if not len(common):
        raise LabError("the two evaluations have no dialogue in common", "", "compare systems on the same split")
    left_out = len(a.keys) + len(b.keys) - 2 * len(common)
    notes = (f"note: {left_out} dialogues that only one of the two predicted are left out",) if left_out else ()
    return intervals.Comparison(intervals.paired(a.tallies[rows_a], b.tallies[rows_b]), len(common), notes)
