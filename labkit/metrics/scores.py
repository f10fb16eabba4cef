"""What an evaluation gives back: scores, how sure they are, and why each dialogue failed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypedDict

import numpy as np

from labkit.errors import LabError
from labkit.metrics.checks import printable
from labkit.metrics.dst import THEIRS, as_mwzeval
from labkit.metrics.intervals import Comparison, paired, ratio_interval, score_intervals, share_interval
from labkit.metrics.statistics import Interval
from labkit.metrics.success import MARKS, TOTAL, Verdict

Rates = dict[str, dict[str, float]]  # {"inform": {domain: per cent}, "success": {domain: per cent}}


class DomainCount(NamedTuple):
    """Of the dialogues that have a domain in their goal: those that pass Inform, that pass Success, and all."""

    inform: int = 0
    success: int = 0
    n: int = 0


class MwzevalScores(TypedDict):
    """The shape of what mwzeval's `evaluate` returns."""

    bleu: dict[str, float]
    success: Rates | None
    richness: dict[str, float]
    dst: dict[str, float] | None


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
        return f"{self.dialogue_id}: Inform {MARKS[self.inform]}  Success {MARKS[self.success]}"

    def __str__(self) -> str:
        lines = [self.heading]
        lines += [f"  {verdict}" for verdict in self.verdicts]
        for user, reply, change in self.turns:
            lines.append(f"  user> {user}")
            lines.append(f"  bot> {reply}")
            lines.append(f"      {change}")
        return printable("\n".join(lines))


@dataclass(frozen=True)
class Scores:
    """Scores on a split, 0 to 100 except for richness and the two rates of slots in `dst`.

    Inform and Success are rounded to one digit, as mwzeval prints them; None where there are no goals or database.
    """

    bleu: float
    inform: float | None
    success: float | None
    per_domain: Rates
    richness: dict[str, float]
    dst: dict[str, float] | None  # see labkit.metrics.dst; None where no belief states were predicted
    n_dialogues: int
    n_turns: int
    notes: tuple[str, ...] = ()
    scorer: str = "labkit"
    keys: Sequence[str] = field(default=(), repr=False, compare=False)  # [D]
    tallies: np.ndarray | None = field(default=None, repr=False, compare=False)  # [D, 13], see labkit.metrics.intervals
    explain: Callable[[str], Explanation] | None = field(default=None, repr=False, compare=False)  # by dialogue id
    domain_counts: Mapping[str, DomainCount] = field(default_factory=dict, repr=False, compare=False)
    joint_counts: np.ndarray | None = field(default=None, repr=False, compare=False)  # [D, 2]: turns right, turns

    @property
    def combined(self) -> float | None:
        """BLEU + (Inform + Success) / 2 (Mehri et al. 2019)."""
        if self.inform is None or self.success is None:
            return None
        return self.bleu + (self.inform + self.success) / 2

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """95 % intervals of bleu, inform, success and combined, computed when first asked for.

        Wilson's for the shares inform and success; a bootstrap over dialogues for bleu and combined.
        """
        return score_intervals(self.tallies)

    @property
    def domain_intervals(self) -> dict[str, dict[str, Interval]]:
        """Wilson's 95 % intervals of `per_domain`'s rates."""
        inform = {}
        success = {}
        for domain, count in self.domain_counts.items():
            inform[domain] = share_interval(count.inform, count.n)
            success[domain] = share_interval(count.success, count.n)
        return {"inform": inform, "success": success}

    @property
    def joint_interval(self) -> Interval | None:
        """95 % bootstrap interval (over dialogues) of dst["joint_accuracy"]; None where no states were predicted."""
        if self.joint_counts is None:
            return None
        return ratio_interval(self.joint_counts)

    def to_mwzeval(self) -> MwzevalScores:
        """In the shape that mwzeval's `evaluate` returns, with mwzeval's own figures of state tracking."""
        rates = None
        if self.per_domain:
            inform = self.per_domain["inform"] | {TOTAL: self.inform}
            success = self.per_domain["success"] | {TOTAL: self.success}
            rates = {"inform": inform, "success": success}
        dst = None
        if self.dst:
            dst = as_mwzeval(self.dst)
        return {
            "bleu": {"mwz22": self.bleu},
            "success": rates,
            "richness": self.richness,
            "dst": dst,
        }

    def __str__(self) -> str:
        lines = [f"{self.n_dialogues} dialogues, {self.n_turns} replies, scorer {self.scorer}, 95 % intervals"]
        for name, (low, high) in self.intervals.items():
            score = getattr(self, name)
            lines.append(f"{name:9s} {score:6.2f}  [{low:.2f}, {high:.2f}]")
        if self.dst:
            lines.append(self._tracking())
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _tracking(self) -> str:
        """State tracking in a line; mwzeval's figure stands beside ours where it differs."""
        parts = []
        for name, value in self.dst.items():
            if name.endswith(THEIRS):
                continue
            part = f"{name} {value:.4g}"
            theirs = self.dst.get(name + THEIRS, value)
            if abs(theirs - value) > 1e-6:
                part += f" (mwzeval {theirs:.4g})"
            parts.append(part)
        return ", ".join(parts)


def compare(a: Scores, b: Scores) -> Comparison:
    """Two evaluations on the same split, in pairs: difference (b − a), interval and p of every score.

    Exact McNemar for Inform and Success, paired bootstrap for BLEU and combined; p is corrected for the number of
    scores (Holm), and a score is called significant by the corrected one.

    Raises:
        LabError: they have no dialogue in common.
    """
    common, rows_a, rows_b = np.intersect1d(a.keys, b.keys, return_indices=True)
    n_common = len(common)
    if not n_common:
        raise LabError("the two evaluations have no dialogue in common", "", "compare systems on the same split")
    notes = []
    n_only_a = len(a.keys) - n_common
    n_only_b = len(b.keys) - n_common
    n_left_out = n_only_a + n_only_b
    if n_left_out:
        notes.append(f"note: {n_left_out} dialogues that only one of the two predicted are left out")
    differences = paired(a.tallies[rows_a], b.tallies[rows_b])
    return Comparison(differences, n_common, tuple(notes))
