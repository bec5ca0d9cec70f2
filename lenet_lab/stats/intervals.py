"""Mean, spread and interval of one arm, and the error that a finite test set adds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple


class Interval(NamedTuple):
    """A two-sided interval, both ends included, in the unit of the values it was computed from."""

    low: float
    high: float


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of an exact sum (so that it does not depend on the order); of equal values, that value.

    Raises ValueError for no values or one that is not finite.
    """
    _check(values, 1)
    return float(values[0]) if _equal(values) else math.fsum(values) / len(values)


def sample_sd(values: Sequence[float]) -> float:
    """Sample standard deviation with n - 1 in the denominator; exactly 0 for equal values.

    Raises ValueError for fewer than two values or one that is not finite.
    """
    _check(values, 2)
    if _equal(values):
        return 0.0
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's t interval for the mean: mean ± t(n-1, (1+level)/2) sd / sqrt(n).

    It supposes independent values from a roughly normal population. Raises ValueError for fewer than two
    values, one that is not finite, or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level}: a number between 0 and 1, both excluded")
    return around(mean(values), sample_sd(values), len(values), level)


def around(centre: float, sd: float, n: int, level: float) -> Interval:
    """The t interval of n values with this mean and sample standard deviation."""
    half = t_quantile(n - 1, (1 + level) / 2) * sd / math.sqrt(n)
    return Interval(centre - half, centre + half)


def binomial_se(share: float, n: int) -> float:
    """Standard error of a share of successes in n independent draws: sqrt(p (1 - p) / n).

    For an accuracy it says how much another test set of n images would move it, for one fixed network.
    Raises ValueError for a share outside [0, 1] or n below 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}: a number from 0 to 1")
    if n < 1:
        raise ValueError(f"n={n}: at least 1")
    return math.sqrt(share * (1 - share) / n)


@lru_cache
def t_quantile(df: int, p: float) -> float:
    """The value that Student's t with df degrees of freedom does not pass with chance p."""
    from scipy.special import stdtrit

    return float(stdtrit(df, p))


def _equal(values: Sequence[float]) -> bool:
    return min(values) == max(values)


def _check(values: Sequence[float], least: int) -> None:
    if len(values) < least:
        raise ValueError(f"{len(values)} values: at least {least} are needed")
    if not all(math.isfinite(value) for value in values):
        raise ValueError("values must be finite numbers")
