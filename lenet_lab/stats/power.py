"""How many seeds a difference takes, and which difference the seeds at hand can show."""

from __future__ import annotations

import math

from lenet_lab.stats.intervals import t_quantile
from lenet_lab.stats.paired import check_level

MOST = 1_000_000


def least_seeds(level: float = 0.95, comparisons: int = 1) -> int:
    """The fewest seeds with which a sign-flip test can attain the level at all: 2 / 2^n <= (1 - level) / comparisons.

    Raises:
        ValueError: a level outside (0, 1), or fewer than one comparison.
    """
    check_level(level)
    if comparisons < 1:
        raise ValueError(f"comparisons={comparisons}: at least 1")
    return max(2, math.ceil(1 + math.log2(comparisons / (1 - level)) - 1e-9))


def t_power(sd: float, difference: float, n: int, level: float = 0.95) -> float:
    """Power of the two-sided paired t test: P(F >= t²) of the noncentral F(1, n-1) at n (difference/sd)².

    Args:
        sd: standard deviation of the paired differences, above 0.
        difference: the true mean difference, in the same unit.
        n: seeds, at least 2.

    Raises:
        ValueError: sd not above 0, a value that is not finite, n below 2, or a level outside (0, 1).
    """
    _check_sd(sd)
    check_level(level)
    if not math.isfinite(difference):
        raise ValueError(f"difference={difference}: must be a finite number")
    if n < 2:
        raise ValueError(f"n={n}: at least 2 seeds")
    from scipy.special import ncfdtr

    bound = t_quantile(n - 1, (1 + level) / 2) ** 2
    missed = float(ncfdtr(1, n - 1, n * (difference / sd) ** 2, bound))
    # SciPy gives NaN here and there where the difference is so large that the power is 1 to the last digit.
    return 1.0 if math.isnan(missed) else 1.0 - missed


def seeds_needed(sd: float, difference: float, level: float = 0.95, power: float = 0.8) -> int:
    """The fewest seeds with which a paired t test finds `difference` with at least this power, and with which a
    sign-flip test can attain the level.

    sd is that of the paired differences; from few seeds it is a rough guess itself, and so is the answer.

    Raises:
        ValueError: sd or the difference not above 0 in size, a level or power outside (0, 1), or more than a
            million seeds would be needed.
    """
    if difference == 0:
        raise ValueError("difference=0: no number of seeds shows that there is none")
    _check_power(power, level)
    low = high = least_seeds(level)
    while t_power(sd, difference, high, level) < power:
        low, high = high + 1, 2 * high
        if low > MOST:
            raise ValueError(f"difference={difference}: more than {MOST:,} seeds would be needed at sd={sd}")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if t_power(sd, difference, middle, level) >= power else (middle + 1, high)
    return high


def smallest_detectable(sd: float, n: int, level: float = 0.95, power: float = 0.8) -> float:
    """The difference that a paired t test over n seeds finds with this power, in the unit of sd.

    Raises:
        ValueError: sd not above 0, n below 2, or a level or power outside (0, 1).
    """
    _check_power(power, level)
    t_power(sd, sd, n, level)
    from scipy.optimize import brentq

    high = 1.0
    while t_power(1.0, high, n, level) < power:
        high *= 2
    return sd * float(brentq(lambda effect: t_power(1.0, effect, n, level) - power, 0.0, high, xtol=1e-10))


def _check_sd(sd: float) -> None:
    if not (math.isfinite(sd) and sd > 0):
        raise ValueError(f"sd={sd}: must be above 0")


def _check_power(power: float, level: float) -> None:
    check_level(level)
    if not 1 - level < power < 1:
        raise ValueError(f"power={power}: a number between {1 - level:g} and 1, both excluded")
