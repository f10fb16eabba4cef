"""How sure a score is: bootstrap over dialogues (Efron 1979; for BLEU Koehn 2004), of one system or a pair.

Everything comes from tallies, one row a dialogue, whose sum gives the scores of any set of dialogues: [D, 13] = the 10
counts of BLEU, Inform (0 or 1), Success (0 or 1), and 1 if the dialogue has a goal.
"""

from dataclasses import dataclass

import numpy as np

from labkit.metrics.bleu import bleu_score


def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Scores [B] (0 to 100) from sums of tallies [B, 13]; where some have no goal, only BLEU."""
    bleu = np.array([bleu_score(row[:10]) for row in sums])
    if not sums[:, 12].all():
        return {"bleu": bleu}
    inform, success = 100 * sums[:, 10] / sums[:, 12], 100 * sums[:, 11] / sums[:, 12]
    return {"bleu": bleu, "inform": inform, "success": success, "combined": bleu + (inform + success) / 2}


def resampled(*tallies: np.ndarray, samples: int = 1000, seed: int = 2022) -> list[dict[str, np.ndarray]]:
    """Scores [samples] of each system on the same resamples: D dialogues drawn with replacement."""
    size = len(tallies[0])
    draws = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=samples)  # [B, D]
    return [figures(draws @ table) for table in tallies]


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval (low, high) of resampled scores [B]."""
    return tuple(np.quantile(values, [0.025, 0.975]).tolist())


@dataclass(frozen=True, slots=True)
class Difference:
    """Two systems in one score: the 95 % interval of b − a, and how often chance alone makes such a difference."""

    a: float
    b: float
    interval: tuple[float, float]
    p: float

    @property
    def difference(self) -> float:
        return self.b - self.a

    @property
    def is_noise(self) -> bool:
        """Not significant at 5 %."""
        return self.p > 0.05

    def __str__(self) -> str:
        low, high = self.interval
        verdict = f"p={self.p:.3f}  {'inside the noise' if self.is_noise else 'significant'}"
        return f"{self.a:6.2f} → {self.b:6.2f}  {self.difference:+.2f} [{low:+.2f}, {high:+.2f}]  {verdict}"


@dataclass(frozen=True)
class Comparison:
    """The differences (B − A) by score, on the dialogues that both systems predicted."""

    differences: dict[str, Difference]
    n_dialogues: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{name:9s} {difference}" for name, difference in self.differences.items()]
        return "\n".join([f"paired bootstrap over {self.n_dialogues} dialogues, A → B", *lines, *self.notes])


def paired(a: np.ndarray, b: np.ndarray) -> dict[str, Difference]:
    """The differences by score, from tallies [D, 13] of two systems on the same dialogues.

    p is the share of resamples whose difference is as far from the mean of all as the one found is from 0 (Riezler &
    Maxwell 2005), the one found counted in.
    """
    found = [figures(table.sum(axis=0, keepdims=True)) for table in (a, b)]
    drawn = resampled(a, b)
    return {
        name: _difference(*(float(scores[name][0]) for scores in found), drawn[1][name] - drawn[0][name])
        for name in min(drawn, key=len)
    }


def _difference(a: float, b: float, drawn: np.ndarray) -> Difference:
    extreme = int((np.abs(drawn - drawn.mean()) >= abs(b - a) - 1e-9).sum())
    return Difference(a, b, interval(drawn), (extreme + 1) / (len(drawn) + 1))
