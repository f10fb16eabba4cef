"""What an evaluation gives back: scores, how sure they are, and why each dialogue failed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from labkit.corpora.types import Goal
from labkit.errors import LabError
from labkit.metrics import intervals
from labkit.metrics.success import Verdict


@dataclass(frozen=True, slots=True)
class TurnNote:
    """One exchange of an explained dialogue, and what it changed."""

    user: str
    response: str
    active: tuple[str, ...]
    offered: dict[str, tuple[int, int]]  # {domain: (entities now on offer, how many of these meet the goal)}
    told: dict[str, tuple[str, ...]]  # {domain: requestable slots told for the first time}

    def __str__(self) -> str:
        changes = [f"offers {n} {domain}(s), {fit} meet the goal" for domain, (n, fit) in self.offered.items()]
        changes += [f"tells {domain} {', '.join(slots)}" for domain, slots in self.told.items()]
        about = f"about {', '.join(self.active) or 'nothing yet'}: {'; '.join(changes) or '–'}"
        return f"  user> {self.user}\n  bot> {self.response}\n      {about}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a dialogue passed or failed Inform and Success; `print` it."""

    dialogue_id: str
    goal: Goal
    turns: tuple[TurnNote, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def inform(self) -> bool:
        return all(verdict.inform for verdict in self.verdicts)

    @property
    def success(self) -> bool:
        return self.inform and not any(verdict.missing for verdict in self.verdicts)

    def __str__(self) -> str:
        head = f"{self.dialogue_id}: Inform {'✗✓'[self.inform]}  Success {'✗✓'[self.success]}"
        return "\n".join([head, *map(self._line, self.verdicts), *map(str, self.turns)])

    def _line(self, verdict: Verdict) -> str:
        parts = self.goal[verdict.domain]
        wanted = ", ".join([*(f"{s}={v}" for s, v in parts["informable"].items()), *parts["requestable"]])
        missing = f"; never told {', '.join(verdict.missing)}" if verdict.missing else ""
        return f"  {'✗✓'[verdict.inform]} {verdict.domain} (wanted {wanted}): {verdict.reason}{missing}"


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
