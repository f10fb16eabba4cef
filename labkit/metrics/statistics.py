"""How sure a figure is: intervals for shares and for resampled scores, tests for pairs, several tests, and power.

Shares are numbers from 0 to 1 here; `power`, which students call, takes points (0 to 100), as scores are printed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from statistics import NormalDist

import numpy as np

from labkit.errors import LabError
from labkit.metrics.checks import quoted

Interval = tuple[float, float]
LEVEL = 0.95  # of all intervals
ALPHA = 0.05  # of all tests
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)  # 1.96
BY_CHANCE = 30.0  # points: how many dialogues only one of two equal systems passes, if nothing better is known
SMALLEST = 0.1  # points: the smallest difference that `power` looks for
ROUNDING = 1e-9  # points: differences as equal as this are the same
_TAIL = 1e-12  # the probability that a sum over a binomial distribution may leave out at each end


def wilson(passed: int, n: int) -> Interval:
    """The 95 % score interval of a share (Wilson 1927): `passed` of n.

    Unlike the bootstrap, it does not collapse where none or all pass: 0 of 20 is 0 to 16 %.

    >>> [round(end, 3) for end in wilson(0, 20)]
    [0.0, 0.161]

    Raises:
        LabError: n is not positive, or `passed` is not between 0 and n.
    """
    if not 0 <= passed <= n or n < 1:
        raise LabError("no share", f"{passed} of {n}", "give 0 ≤ passed ≤ n, and n from 1 on")
    share = passed / n
    shrink = 1 + Z**2 / n
    centre = (share + Z**2 / (2 * n)) / shrink
    variance = share * (1 - share) / n + Z**2 / (4 * n**2)
    half_width = Z * math.sqrt(variance) / shrink
    low = centre - half_width
    high = centre + half_width
    if passed == 0:
        low = 0.0  # exactly, not by rounding
    if passed == n:
        high = 1.0
    return low, high


def paired_share_interval(only_a: int, only_b: int, n: int) -> Interval:
    """The 95 % interval of the difference of two paired shares, b − a (Bonett & Price 2012, adjusted Wald).

    Args:
        only_a, only_b: the dialogues that only the one, or only the other system passes.
        n: all dialogues.
    """
    share_a = (only_a + 1) / (n + 2)
    share_b = (only_b + 1) / (n + 2)
    difference = share_b - share_a
    variance = (share_a + share_b - difference**2) / (n + 2)
    half_width = Z * math.sqrt(variance)
    low = max(-1.0, difference - half_width)
    high = min(1.0, difference + half_width)
    return low, high


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of the exact McNemar test (McNemar 1947, with binomial probabilities).

    Dialogues that both systems pass, or both fail, say nothing. Of the others, as many should fall to A as to B.

    >>> mcnemar(only_a=1, only_b=7)
    0.0703125
    """
    n = only_a + only_b
    fewer = min(only_a, only_b)
    as_extreme = 0  # of the 2**n ways in which n dialogues can fall to A or B, those with at most so few for one side
    for few in range(fewer + 1):
        as_extreme += math.comb(n, few)
    p_one_sided = as_extreme / 2**n
    return min(1.0, 2 * p_one_sided)


def percentile_interval(values: np.ndarray) -> Interval:
    """The 95 % percentile interval of resampled scores [B] (Efron 1979)."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_p(drawn: np.ndarray, found: float) -> float:
    """How often chance alone makes a difference as large as the one found; from resampled differences [B].

    The share of resamples whose difference is as far from the mean of all as the one found is from 0 (Riezler &
    Maxwell 2005). The one found counts as one more, so that p is never below `bootstrap_floor`.
    """
    distance = np.abs(drawn - drawn.mean())  # [B]
    is_extreme = distance >= abs(found) - ROUNDING  # [B]
    n_extreme = int(is_extreme.sum())
    return (n_extreme + 1) / (len(drawn) + 1)


def bootstrap_floor(n_samples: int) -> float:
    """The smallest p that so many resamples can give: it means "at most this"."""
    return 1 / (n_samples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p of several tests, in their order (Holm 1979): the chance of any false alarm stays below alpha.

    The smallest p is multiplied by the number of tests, the next by one less, and so on; none is below one before it.

    >>> holm([0.03, 0.01, 0.5])
    [0.06, 0.03, 0.5]
    """
    n = len(p_values)
    order = sorted(range(n), key=lambda index: p_values[index])
    adjusted = [0.0] * n
    largest = 0.0
    for rank, index in enumerate(order):
        corrected = (n - rank) * p_values[index]
        largest = max(largest, corrected)
        adjusted[index] = min(1.0, largest)
    return adjusted


@dataclass(frozen=True, slots=True)
class Power:
    """How likely a comparison is to show a difference that is there. `print` it."""

    difference: float  # points
    discordance: float  # points: dialogues that exactly one of the two systems passes
    n: int | None  # dialogues
    power: float | None  # 0 to 1: the share of experiments with n dialogues that find the difference
    needed: int  # dialogues for a power of `target`
    target: float  # 0 to 1
    alpha: float

    def __str__(self) -> str:
        parts = [
            f"a difference of {self.difference:g} points,",
            f"where exactly one of the two systems passes {self.discordance:g} % of the dialogues",
            f"(exact McNemar test, alpha {self.alpha:g}):",
        ]
        if self.n is not None:
            parts.append(f"{self.n} dialogues show it in {self.power:.0%} of experiments;")
        parts.append(f"{self.target:.0%} takes {self.needed:,} dialogues")
        return " ".join(parts)


def power(
    difference: float,
    n: int | None = None,
    *,
    discordance: float | None = None,
    target: float = 0.8,
    alpha: float = ALPHA,
) -> Power:
    """How many dialogues show that one system passes more of them than another? And how likely do n?

    Computed exactly for the test that `compare` makes of Inform and Success (exact McNemar, two-sided), not simulated.

    Args:
        difference: the true difference in points, e.g. 10 where one system passes 60 % and the other 70 %.
        n: dialogues that both systems answer; None asks only how many are needed.
        discordance: dialogues that exactly one of the two passes, in points. Without it, 30 plus the difference:
            two different systems part on about a third of the dialogues by chance. See yours in `compare`'s counts.
        target: the wished share of experiments that find the difference.
        alpha: the level of the test. For several scores, divide it by their number.

    Raises:
        LabError: a value that cannot be; what is allowed is said.
    """
    _check("difference", difference, -100, 100)
    size = abs(difference)  # points
    _check("size of the difference", size, SMALLEST, 100)
    if discordance is None:
        discordance = min(100.0, BY_CHANCE + size)
    _check("discordance", discordance, size, 100)
    _check("target", target, 0.01, 0.999)
    _check("alpha", alpha, 1e-6, 0.5)
    if n is not None:
        _check("number of dialogues", n, 1, 1e9)
        n = int(n)
    size_as_share = size / 100
    discordance_as_share = discordance / 100
    power_at_n = None
    if n is not None:
        power_at_n = _power_at(n, size_as_share, discordance_as_share, alpha)
    return Power(
        difference=difference,
        discordance=discordance,
        n=n,
        power=power_at_n,
        needed=_dialogues_needed(size_as_share, discordance_as_share, target, alpha),
        target=target,
        alpha=alpha,
    )


def _check(name: str, value: float, low: float, high: float) -> None:
    """Raise LabError unless the value is a number from low to high; NaN is in no range."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        action = f"give a number from {low:g} to {high:g}"
        raise LabError(f"the {name} cannot be {quoted(value)}", "", action)


def _power_at(n: int, difference: float, discordance: float, alpha: float) -> float:
    """P(exact McNemar rejects) for n pairs; all numbers are shares.

    The number m of discordant pairs is binomial(n, discordance). Given m, those that B wins are binomial too, and the
    test rejects where they are so few or so many that the tail at ½ is at most alpha / 2.
    """
    from scipy.stats import binom  # a second to import

    first = binom.ppf(_TAIL, n, discordance)
    last = binom.ppf(1 - _TAIL, n, discordance)
    m = np.arange(first, last + 1)  # [M] numbers of discordant pairs
    probability_of_m = binom.pmf(m, n, discordance)  # [M]

    tail = alpha / 2
    few = binom.ppf(tail, m, 0.5)  # [M]
    is_small_enough = binom.cdf(few, m, 0.5) <= tail  # [M]
    few = np.where(is_small_enough, few, few - 1)  # [M] as few wins as this reject; -1: none do
    many = m - few  # [M] as many wins as this reject

    win = (discordance + difference) / (2 * discordance)  # P(B passes | exactly one of the two passes)
    rejects_low = binom.cdf(few, m, win)  # [M]
    rejects_high = binom.sf(many - 1, m, win)  # [M]
    rejects = rejects_low + rejects_high
    return float(probability_of_m @ rejects)


def _dialogues_needed(difference: float, discordance: float, target: float, alpha: float) -> int:
    """The fewest dialogues whose power reaches the target, found by doubling and then halving the steps."""
    enough = 1
    while _power_at(enough, difference, discordance, alpha) < target:
        enough *= 2
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if _power_at(middle, difference, discordance, alpha) < target:
            too_few = middle
        else:
            enough = middle
    return enough
