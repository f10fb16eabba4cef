"""Do people agree, and do scores agree with people?

print(cohens_kappa(["a", "b", "same"], ["a", "b", "b"]))     # two annotators, the same items in the same order
rank_correlation([1, 0, -1], [3.2, 0.1, -0.5])               # verdicts and differences of a score
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.errors import LabError
from labkit.metrics.statistics import Interval, percentile_interval

SAMPLES, SEED = 1000, 2022  # of the bootstrap


@dataclass(frozen=True)
class Agreement:
    """How two annotators agree; `print` it."""

    n: int  # items that both have judged
    observed: float  # 0 to 1: the share of items with the same label
    expected: float  # 0 to 1: the share that chance would give, from how often each annotator chose each label
    kappa: float | None  # 1: always the same, 0: as by chance; None where chance alone gives 1
    interval: Interval | None  # 95 %, bootstrap over items

    def __str__(self) -> str:
        counted = f"{self.n} items, the same label for {self.observed:.0%}, by chance for {self.expected:.0%}"
        if self.kappa is None or self.interval is None:
            return f"kappa – (both chose one label only): {counted}"
        low, high = self.interval
        return f"kappa {self.kappa:.2f} [{low:.2f}, {high:.2f}]: {counted}"


def cohens_kappa(first: Sequence[str], second: Sequence[str]) -> Agreement:
    """Cohen's kappa (1960) of two annotators: (observed - expected) / (1 - expected) agreement.

    Args:
        first, second: the labels of the same items, in the same order.

    Raises:
        LabError: no items, or not the same number.
    """
    if len(first) != len(second):
        found = f"{len(first)} and {len(second)} labels"
        raise LabError("two annotators judge the same items", found, "give a label for each item that both have judged")
    if not first:
        raise LabError("there is no agreement about nothing", "0 items", "let both annotators judge the same items")
    pairs = list(zip(first, second, strict=True))
    return Agreement(
        n=len(pairs),
        observed=_observed(pairs),
        expected=_expected(pairs),
        kappa=_kappa(pairs),
        interval=_interval(pairs),
    )


def _observed(pairs: Sequence[tuple[str, str]]) -> float:
    """The share of items with the same label from both."""
    n_same = 0
    for one, other in pairs:
        if one == other:
            n_same += 1
    return n_same / len(pairs)


def _expected(pairs: Sequence[tuple[str, str]]) -> float:
    """The share that two annotators would have who choose by lot, each label as often as these two do."""
    by_first: Counter[str] = Counter()
    by_second: Counter[str] = Counter()
    for one, other in pairs:
        by_first[one] += 1
        by_second[other] += 1
    by_chance = 0
    for label, count in by_first.items():
        by_chance += count * by_second[label]
    return by_chance / len(pairs) ** 2


def _kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    expected = _expected(pairs)
    if expected == 1:  # 0 / 0: one label for everything, from both
        return None
    beyond_chance = _observed(pairs) - expected
    return beyond_chance / (1 - expected)


def _interval(pairs: Sequence[tuple[str, str]]) -> Interval | None:
    """The 95 % percentile interval over items drawn with replacement (Efron 1979); None where kappa is none."""
    import numpy as np

    if _kappa(pairs) is None:
        return None
    n = len(pairs)
    draws = np.random.default_rng(SEED).integers(n, size=(SAMPLES, n))  # [samples, items]
    kappas = []
    for draw in draws:
        sample = [pairs[item] for item in draw]
        kappa = _kappa(sample)
        if kappa is not None:
            kappas.append(kappa)
    return percentile_interval(np.array(kappas))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b (1945): 1 where two scores rank items alike, -1 where one turns the other round; ties count half.

    None where one of them ranks nothing, because all its values are the same.

    Raises:
        LabError: fewer than two items, not the same number, or a value that is no finite number.
    """
    n_first = len(first)
    n_second = len(second)
    if n_first != n_second or n_first < 2:
        found = f"{n_first} and {n_second} values"
        raise LabError("a correlation is of two scores of the same items", found, "give two values or more of each")
    for value in (*first, *second):
        if not math.isfinite(value):
            raise LabError("a score is no finite number", f"{value}", "leave its item out")
    from scipy.stats import kendalltau  # a second to import

    has_one_value = len(set(first)) == 1 or len(set(second)) == 1
    if has_one_value:
        return None
    found = kendalltau(first, second)
    return float(found.statistic)
