"""Viability and how sure it is: intervals for one picture and for samples of several.

The fraction is *stained viable* grains over counted grains. All intervals are two-sided and stay
within 0..1.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import sqrt

from scipy import stats


class IntervalMethod(StrEnum):
    """How an interval was made; the values stand in the sample table."""

    WILSON = "wilson"
    EXACT = "exact"


@dataclass(frozen=True)
class Interval:
    """A fraction with its confidence bounds, each in 0..1."""

    estimate: float
    low: float
    high: float
    method: IntervalMethod


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a binomial fraction (Wilson, J. Am. Stat. Assoc. 22:209, 1927).

    Args:
        successes: Number of events, 0..n; need not be whole (effective sample sizes are not).
        n: Number of trials, more than 0.
        level: Confidence level.

    Returns:
        Low and high bound, each in 0..1.
    """
    _check_counts(successes, n)
    z = float(stats.norm.ppf((1 + level) / 2))
    fraction = successes / n
    centre = (fraction + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * sqrt(fraction * (1 - fraction) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # Rounding alone could leave -1e-17 at no events.
    return max(0.0, centre - half), min(1.0, centre + half)


def clopper_pearson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a binomial fraction (Clopper & Pearson, Biometrika 26:404, 1934).

    Never covers less than ``level``. Written with beta quantiles, so ``successes`` and ``n`` need
    not be whole, as Korn & Graubard (1998) use it.

    Args:
        successes: Number of events, 0..n.
        n: Number of trials, more than 0.
        level: Confidence level.

    Returns:
        Low and high bound, each in 0..1.
    """
    _check_counts(successes, n)
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, successes, n - successes + 1)) if successes > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, successes + 1, n - successes)) if successes < n else 1.0
    return low, high


def viability_interval(viable: int, non_viable: int, level: float = 0.95) -> Interval | None:
    """Viability of one picture, its grains taken as independent.

    Wilson's interval; where all grains are of one class the exact one.

    Returns:
        ``None`` where no grain was counted: nothing is known then, not 0 %.
    """
    counted = viable + non_viable
    if counted == 0:
        return None
    of_one_class = viable == 0 or non_viable == 0
    bounds = (clopper_pearson if of_one_class else wilson)(viable, counted, level)
    method = IntervalMethod.EXACT if of_one_class else IntervalMethod.WILSON
    return Interval(viable / counted, *bounds, method)


def _check_counts(successes: float, n: float) -> None:
    """Refuse what is no count of events among trials."""
    if not 0 <= successes <= n or n <= 0:
        raise ValueError(f"expected 0 <= successes <= n and n > 0, got {successes} of {n}")
