"""Two arms compared seed by seed: the difference, its interval, two tests, an effect size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet_lab.stats.intervals import Interval, around, mean, sample_sd

EXACT_UP_TO = 30  # seeds: two lists of 2^15 sums
_DRAWS, _PARTS = 99_999, 9
ROUNDING = 1e-12  # of the largest value: what float arithmetic can add to a difference of decimals


@dataclass(frozen=True)
class Comparison:
    """Arm a less arm b, paired by the seeds that both have.

    Attributes:
        n: seeds that both have.
        mean: mean of a - b, in the unit of the values.
        sd: sample standard deviation of the differences; None for one seed.
        interval: paired t interval for the mean; None for one seed, or when the differences are all equal.
        t_p: two-sided p of the paired t test; None as `interval`.
        sign_flip_p: two-sided p of the sign-flip test; None where `attainable` is above 1 - level.
        attainable: the smallest p that the sign-flip test can give with n seeds, 2 / 2^n.
        effect: Cohen's d of the differences (mean / sd) with Hedges' correction; None for fewer than three
            seeds, or when the differences are all equal.
        improvement: share of seeds where a > b, those with a = b counted half.
        enough: n can attain the level: attainable <= 1 - level.
    """

    n: int
    mean: float
    sd: float | None
    interval: Interval | None
    t_p: float | None
    sign_flip_p: float | None
    attainable: float
    effect: float | None
    improvement: float
    enough: bool


def compare(a: Mapping[int, float], b: Mapping[int, float], level: float = 0.95) -> Comparison:
    """Arm a against arm b: seed -> value.

    Raises:
        ValueError: no seed in common, a value of a common seed is not finite, or a level outside (0, 1).
    """
    check_level(level)
    differences = paired_differences(a, b)
    n = len(differences)
    attainable = 2 / 2**n
    enough = attainable <= 1 - level + ROUNDING
    centre = mean(differences)
    sd = sample_sd(differences) if n > 1 else None
    t = centre / (sd / math.sqrt(n)) if sd else None
    return Comparison(
        n=n,
        mean=centre,
        sd=sd,
        interval=around(centre, sd, n, level) if sd else None,
        t_p=None if t is None else 2 * t_tail(abs(t), n - 1),
        sign_flip_p=sign_flip_p(differences) if enough else None,
        attainable=attainable,
        effect=hedges(n - 1) * centre / sd if sd and n > 2 else None,
        improvement=sum((d > 0) + (d == 0) / 2 for d in differences) / n,
        enough=enough,
    )


def paired_differences(a: Mapping[int, float], b: Mapping[int, float]) -> list[float]:
    """a - b for the seeds that both have, by rising seed.

    Rounding is taken out: a difference within 1e-12 of the values' size from 0 is 0, from another one equals it.

    Raises:
        ValueError: no seed in common, or a value of a common seed is not finite.
    """
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        raise ValueError("the arms have no seed in common")
    for seed in seeds:
        if not (math.isfinite(a[seed]) and math.isfinite(b[seed])):
            raise ValueError(f"seed {seed}: values must be finite numbers, not {a[seed]} and {b[seed]}")
    size = max(max(abs(a[seed]), abs(b[seed])) for seed in seeds)
    return _levelled([a[seed] - b[seed] for seed in seeds], ROUNDING * size)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of the sign-flip (randomisation) test: the share of the 2^n patterns of signs with which
    the differences have a mean at least as far from 0 as theirs; equal ones count, the pattern seen is one.

    Exact up to 30 differences, by the sums of either half (Horowitz and Sahni, J. ACM 21, 1974); above that
    99,999 patterns drawn from a fixed generator and the pattern seen (Phipson and Smyth, 2010).
    It supposes that a difference is as likely as its negative; no shape beyond that. Source: Fisher, The
    Design of Experiments, 1935, section 21.

    Raises:
        ValueError: no differences, or one that is not finite.
    """
    values = np.asarray(differences, dtype=float)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("differences: at least one, and all finite")
    seen = abs(math.fsum(differences)) - ROUNDING * float(np.abs(values).sum())
    if len(values) > EXACT_UP_TO:
        return (1 + sum(int((np.abs(sums) >= seen).sum()) for sums in _drawn_sums(values))) / (1 + _DRAWS)
    # The first sign is held: a pattern and its negative are equally far from 0.
    half = len(values) // 2 + 1
    left, right = values[0] + _signed_sums(values[1:half]), _signed_sums(values[half:])
    above = len(right) - np.searchsorted(right, seen - left, side="left")
    below = np.searchsorted(right, -seen - left, side="right")
    # Where nothing is seen both counts take in everything.
    return float(min(1.0, (above.sum() + below.sum()) / (len(left) * len(right))))


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums of `values` (n,) under every pattern of signs, (2^n,), rising; for no values the one sum 0."""
    sums = np.zeros(1)
    for value in np.abs(values):
        sums = np.sort(np.concatenate([sums - value, sums + value]), kind="stable")
    return sums


def _drawn_sums(values: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """99,999 sums of `values` (n,) under random signs, always the same ones, some at a time."""
    generator = np.random.default_rng(0)
    for _ in range(_PARTS):
        yield (2.0 * generator.integers(0, 2, size=(_DRAWS // _PARTS, len(values)), dtype=np.int8) - 1) @ values


def t_tail(t: float, df: int) -> float:
    """P(T >= t) of Student's t with df degrees of freedom."""
    from scipy.special import stdtr

    return float(stdtr(df, -t))


def hedges(df: int) -> float:
    """Hedges' correction of a standardised mean: Γ(df/2) / (√(df/2) Γ((df-1)/2)), for df above 1.

    Source: Hedges, "Distribution theory for Glass's estimator of effect size", J. Educ. Stat. 6 (1981), eq. 6e.
    """
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def check_level(level: float) -> None:
    """Raises ValueError for a level outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level={level}: a number between 0 and 1, both excluded")


def _levelled(values: list[float], tolerance: float) -> list[float]:
    """`values` with those that lie within `tolerance` of 0 or of a smaller one set to it."""
    known = 0.0
    equal = {}
    for value in sorted(set(values), key=lambda v: (abs(v), v)):
        if abs(abs(value) - known) > tolerance:
            known = abs(value)
        equal[value] = math.copysign(known, value) if known else 0.0
    return [equal[value] for value in values]
