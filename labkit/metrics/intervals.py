"""How sure the scores of one system are, and how sure the difference of two is.

Everything comes from tallies, one row a dialogue, whose sum gives the scores of any set of dialogues: [D, 13] = the 10
counts of BLEU, Inform (0 or 1), Success (0 or 1), and 1 if the dialogue has a goal.

Inform and Success are shares of dialogues: Wilson's interval, and the exact McNemar test for a pair of systems. BLEU
and the combined score are none: a bootstrap over dialogues (Efron 1979; for BLEU Koehn 2004), paired for two systems.
"""

from dataclasses import dataclass, replace

import numpy as np

from labkit.metrics.bleu import N_COUNTS, bleu_score
from labkit.metrics.statistics import (
    ALPHA,
    Interval,
    bootstrap_floor,
    bootstrap_p,
    holm,
    mcnemar,
    paired_share_interval,
    percentile_interval,
    wilson,
)

INFORM, SUCCESS, GOAL = N_COUNTS, N_COUNTS + 1, N_COUNTS + 2  # columns of tallies
N_TALLIES = N_COUNTS + 3
SHARES = {"inform": INFORM, "success": SUCCESS}
SAMPLES, SEED = 1000, 2022  # of the bootstrap
MCNEMAR, BOOTSTRAP = "exact McNemar", "paired bootstrap"


def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Scores [B] (0 to 100) from sums of tallies [B, 13]; where some have no goal, only BLEU."""
    bleu = np.array([bleu_score(row[:N_COUNTS]) for row in sums])
    with_goal = sums[:, GOAL]
    if not with_goal.all():
        return {"bleu": bleu}
    inform = 100 * sums[:, INFORM] / with_goal
    success = 100 * sums[:, SUCCESS] / with_goal
    return {
        "bleu": bleu,
        "inform": inform,
        "success": success,
        "combined": bleu + (inform + success) / 2,
    }


def resampled(*tallies: np.ndarray, samples: int = SAMPLES, seed: int = SEED) -> list[dict[str, np.ndarray]]:
    """Scores [samples] of each system on the same resamples: D dialogues drawn with replacement."""
    draws = _draws(len(tallies[0]), samples, seed)  # [B, D]
    return [figures(draws @ table) for table in tallies]


def _draws(n_dialogues: int, samples: int = SAMPLES, seed: int = SEED) -> np.ndarray:
    """How often each dialogue is in each resample: [B, D]."""
    equal_chances = np.full(n_dialogues, 1 / n_dialogues)
    return np.random.default_rng(seed).multinomial(n_dialogues, equal_chances, size=samples)


def score_intervals(tallies: np.ndarray) -> dict[str, Interval]:
    """95 % intervals of bleu, inform, success and combined, from tallies [D, 13]; bleu only without goals."""
    (drawn,) = resampled(tallies)
    n_goals = int(tallies[:, GOAL].sum())
    result = {"bleu": percentile_interval(drawn["bleu"])}
    if n_goals:
        for name, column in SHARES.items():
            n_passed = int(tallies[:, column].sum())
            result[name] = share_interval(n_passed, n_goals)
    if "combined" in drawn:
        result["combined"] = percentile_interval(drawn["combined"])
    return result


def share_interval(passed: int, n: int) -> Interval:
    """Wilson's 95 % interval in per cent."""
    low, high = wilson(passed, n)
    return 100 * low, 100 * high


def ratio_interval(counts: np.ndarray) -> Interval:
    """95 % bootstrap interval, in per cent, of a share of turns, from (right, all) by dialogue [D, 2].

    Not Wilson's: a state goes on from turn to turn, so that the turns of a dialogue are right or wrong together.
    """
    draws = _draws(len(counts))  # [B, D]
    sums = draws @ counts  # [B, 2]
    right = sums[:, 0]  # [B]
    turns = np.maximum(sums[:, 1], 1)  # [B]
    return percentile_interval(100 * right / turns)


@dataclass(frozen=True, slots=True)
class Difference:
    """Two systems in one score: the 95 % interval of b − a, and how often chance alone makes such a difference."""

    a: float
    b: float
    interval: Interval
    p: float  # of the test alone
    test: str = BOOTSTRAP
    p_holm: float | None = None  # adjusted for all scores that were compared in one call
    floor: float = 0.0  # the smallest p that the test can give
    only_a: int | None = None  # dialogues that only A passes; None where the score is no share
    only_b: int | None = None

    @property
    def difference(self) -> float:
        return self.b - self.a

    @property
    def is_noise(self) -> bool:
        """Not significant at 5 %, after Holm's correction where several scores were compared."""
        p = self.p if self.p_holm is None else self.p_holm
        return p > ALPHA

    def __str__(self) -> str:
        low, high = self.interval
        parts = [
            f"{self.a:6.2f} → {self.b:6.2f}",
            f"{self.difference:+.2f} [{low:+.2f}, {high:+.2f}]",
            self._p_text(),
            "inside the noise" if self.is_noise else "significant",
            f"({self._test_text()})",
        ]
        return "  ".join(parts)

    def _p_text(self) -> str:
        """The p that decides; at the bootstrap's floor it is only known to be at most that."""
        sign = "≤" if self.p <= self.floor else "="
        text = _p_value("p", sign, self.p)
        if self.p_holm is None:
            return text
        return f"{text}, {_p_value('Holm', sign, self.p_holm)}"

    def _test_text(self) -> str:
        if self.only_a is None:
            return self.test
        return f"{self.test}: only A passes {self.only_a}, only B {self.only_b}"


def _p_value(name: str, sign: str, p: float) -> str:
    if p < 0.0005:
        return f"{name} < 0.001"
    return f"{name} {sign} {p:.3f}"


@dataclass(frozen=True)
class Comparison:
    """The differences (B − A) by score, on the dialogues that both systems predicted."""

    differences: dict[str, Difference]
    n_dialogues: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        n_tests = len(self.differences)
        head = f"paired over {self.n_dialogues} dialogues, A → B; 95 % intervals; Holm: p corrected for {n_tests} tests"
        lines = [head]
        for name, difference in self.differences.items():
            lines.append(f"{name:9s} {difference}")
        lines.extend(self.notes)
        return "\n".join(lines)


def paired(a: np.ndarray, b: np.ndarray) -> dict[str, Difference]:
    """The differences by score, from tallies [D, 13] of two systems on the same dialogues.

    Exact McNemar for inform and success, paired bootstrap for bleu and combined; p is corrected (Holm) for all of them.
    """
    found_a = figures(a.sum(axis=0, keepdims=True))
    found_b = figures(b.sum(axis=0, keepdims=True))
    drawn_a, drawn_b = resampled(a, b)
    differences = {}
    for name in drawn_a:
        if name not in drawn_b:
            continue
        if name in SHARES:
            differences[name] = _share_difference(a, b, SHARES[name])
        else:
            differences[name] = _bootstrap_difference(
                a=found_a[name].item(),
                b=found_b[name].item(),
                drawn=drawn_b[name] - drawn_a[name],
            )
    adjusted = holm([difference.p for difference in differences.values()])
    for name, p_holm in zip(differences, adjusted, strict=True):
        differences[name] = replace(differences[name], p_holm=p_holm)
    return differences


def _bootstrap_difference(a: float, b: float, drawn: np.ndarray) -> Difference:
    """Of two scores, from their differences on the same resamples [B]."""
    return Difference(
        a=a,
        b=b,
        interval=percentile_interval(drawn),
        p=bootstrap_p(drawn, b - a),
        test=BOOTSTRAP,
        floor=bootstrap_floor(len(drawn)),
    )


def _share_difference(a: np.ndarray, b: np.ndarray, column: int) -> Difference:
    """Of two shares of the same dialogues, from tallies [D, 13]; dialogues without a goal are left out."""
    goal_in_a = a[:, GOAL] > 0  # [D]
    goal_in_b = b[:, GOAL] > 0  # [D]
    has_goal = goal_in_a & goal_in_b
    return share_difference(a[has_goal, column] > 0, b[has_goal, column] > 0)


def share_difference(a_passes: np.ndarray, b_passes: np.ndarray) -> Difference:
    """Of the shares that two systems pass of the same G dialogues, from [G] booleans each: exact McNemar test."""
    n = len(a_passes)
    only_a = int((a_passes & ~b_passes).sum())
    only_b = int((b_passes & ~a_passes).sum())
    low, high = paired_share_interval(only_a, only_b, n)
    return Difference(
        a=100 * int(a_passes.sum()) / n,
        b=100 * int(b_passes.sum()) / n,
        interval=(100 * low, 100 * high),
        p=mcnemar(only_a, only_b),
        test=MCNEMAR,
        only_a=only_a,
        only_b=only_b,
    )
