"""Where one more run of the same arm would fall."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lenet_lab.stats.intervals import Interval, mean, t_interval


def prediction_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Interval for one new value from the same normal population: mean ± t(n-1, (1+level)/2) sd sqrt(1 + 1/n).

    For equal values it has no width. Source: Hahn and Meeker, Statistical Intervals, section 4.8.

    Raises:
        ValueError: fewer than two values, one that is not finite, or a level outside (0, 1).
    """
    low, high = t_interval(values, level)
    half = (high - low) / 2 * math.sqrt(len(values) + 1)
    return Interval(mean(values) - half, mean(values) + half)
