"""A studentised bootstrap interval: no normal population supposed, at least 20 values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lenet_lab.stats.intervals import Interval, mean, sample_sd
from lenet_lab.stats.paired import check_level

LEAST = 20


def bootstrap_t_interval(
    values: Sequence[float], level: float = 0.95, resamples: int = 9_999, seed: int = 0
) -> Interval:
    """Bootstrap-t interval for the mean: mean - sd/√n times the quantiles of (mean* - mean) / (sd*/√n).

    Resamples come from a generator of its own, so that the same values, in any order, give the same interval.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, section 12.5. Percentile intervals are not
    offered: with five values they cover the mean 84 times in 100 where 95 are promised.

    Raises:
        ValueError: fewer than 20 values, one that is not finite, a level outside (0, 1), too few resamples for it, or
            values so nearly all equal that the interval has no end.
    """
    check_level(level)
    if len(values) < LEAST:
        raise ValueError(f"{len(values)} values: a bootstrap interval needs at least {LEAST}")
    if resamples + 1 < 2 / (1 - level):
        raise ValueError(f"resamples={resamples}: too few for level={level}")
    centre, spread = mean(values), sample_sd(values)
    if not spread:
        raise ValueError("all values are equal: there is nothing to resample")
    ordered = (np.sort(np.asarray(values, dtype=float)) - centre) / spread
    drawn = ordered[np.random.default_rng(seed).integers(0, len(ordered), size=(resamples, len(ordered)))]
    low, high = _quantiles(drawn, level)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("nearly all values are equal: the interval has no end")
    scale = spread / math.sqrt(len(values))
    return Interval(centre - high * scale, centre - low * scale)


def _quantiles(drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Lower and upper quantile of mean / (sd / √n) over resamples (b, n) of values whose mean is 0.

    A resample of equal values lies infinitely far out. The quantiles are the order statistics (b + 1) q.
    """
    n = drawn.shape[1]
    means, sds = drawn.mean(axis=1), drawn.std(axis=1, ddof=1)
    flat = sds < 1e-9
    far = np.where(np.abs(means) < 1e-9, 0.0, np.copysign(np.inf, means))
    t = np.where(flat, far, means * math.sqrt(n) / np.where(flat, 1.0, sds))
    t.sort()
    rank = round((1 - level) / 2 * (len(t) + 1))
    return float(t[rank - 1]), float(t[-rank])
