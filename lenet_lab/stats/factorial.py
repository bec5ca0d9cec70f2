"""Main effects and two-way interactions of a full factorial study, computed within each seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lenet_lab.stats.intervals import Interval
from lenet_lab.stats.paired import ROUNDING, check_level

Levels = tuple[str, ...]
Values = NDArray[np.float64]
Cells = Mapping[Levels, Mapping[int, float]]


@dataclass(frozen=True)
class Effect:
    """One contrast: a value in each seed, their mean and t interval; no interval where all seeds say the same."""

    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class Joint:
    """Hotelling's test that all contrasts of a factor, or of a pair, are 0.

    p is None with too few seeds (`needs` says how many it takes at the least) or where the contrasts do not vary.
    """

    df: int
    p: float | None
    needs: int


@dataclass(frozen=True)
class Main:
    """One factor, the others averaged over.

    Attributes:
        levels: in the order of first appearance.
        means: the level's mean over seeds and the other factors, with the interval for it.
        effects: level -> its mean less the grand mean, within each seed.
    """

    factor: str
    levels: Levels
    means: Mapping[str, Effect]
    effects: Mapping[str, Effect]
    test: Joint


@dataclass(frozen=True)
class Interaction:
    """Two factors, the others averaged over.

    Attributes:
        means: (level of the first, level of the second) -> mean, with the interval for it; what a plot shows.
        effects: how far that mean is from the sum of the two main effects, within each seed.
    """

    factors: tuple[str, str]
    means: Mapping[tuple[str, str], Effect]
    effects: Mapping[tuple[str, str], Effect]
    test: Joint


@dataclass(frozen=True)
class Factorial:
    """What the factors do.

    Attributes:
        seeds: the seeds that every cell has; only they count.
        left_out: seeds that some cell lacks.
        grand: the mean over all cells.
        main: by factor.
        interactions: by pair of factors, in the order given.
    """

    factors: tuple[str, ...]
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    grand: Effect
    main: Mapping[str, Main]
    interactions: Mapping[tuple[str, str], Interaction]


def factorial(cells: Cells, factors: Sequence[str], level: float = 0.95) -> Factorial:
    """The effects of a study in which every combination of levels was run: levels -> seed -> value.

    Each seed gives one value of every contrast, so seeds stay the unit of replication: no common variance
    of the cells, no sphericity is supposed, and intervals are t intervals over seeds. Joint tests are Hotelling's T²
    over the seeds' contrasts, exact for normal ones (Anderson, An Introduction to Multivariate Statistical
    Analysis, section 5.3.2). Neither is adjusted for how many there are: see `holm`.

    Raises:
        ValueError: a factor with fewer than two levels, a combination that is missing, fewer than two seeds that
            every combination has, a value that is not finite, or a level outside (0, 1).
    """
    check_level(level)
    levels = _levels(cells, factors)
    seeds = sorted(set.intersection(*(set(values) for values in cells.values())))
    if len(seeds) < 2:
        raise ValueError(
            f"{len(seeds)} seeds that every combination has: at least 2 are needed{_scarce(cells, factors)}"
        )
    values = np.array([[cells[key][seed] for key in itertools.product(*levels)] for seed in seeds], dtype=float)
    if not np.isfinite(values).all():
        raise ValueError("values must be finite numbers")
    table = values.reshape(len(seeds), *map(len, levels))
    others = sorted(set().union(*cells.values()) - set(seeds))
    names = tuple(factors)
    return Factorial(
        factors=names,
        seeds=tuple(seeds),
        left_out=tuple(others),
        grand=_effects(values.mean(axis=1, keepdims=True), float(np.abs(values).max()), level)[0],
        main={name: _main(table, names, levels, i, level) for i, name in enumerate(names)},
        interactions={
            (names[i], names[j]): _interaction(table, names, levels, (i, j), level)
            for i, j in itertools.combinations(range(len(names)), 2)
        },
    )


def hotelling_p(contrasts: Values) -> float | None:
    """p that the mean of contrasts (n, q) is 0: T² (n-q) / (q (n-1)) against F(q, n-q).

    None for n <= q, or where the contrasts do not span q dimensions.
    """
    n, q = contrasts.shape
    if n <= q:
        return None
    scale = np.abs(contrasts).max()
    if not scale:
        return None
    unit = contrasts / scale
    centre = unit.mean(axis=0)
    spread = unit - centre
    if np.linalg.matrix_rank(spread, tol=1e-9 * math.sqrt(n)) < q:
        return None
    from scipy.special import fdtrc

    t2 = n * float(centre @ np.linalg.solve(spread.T @ spread / (n - 1), centre))
    return float(fdtrc(q, n - q, t2 * (n - q) / (q * (n - 1))))


def _main(table: Values, names: Levels, levels: Sequence[Levels], i: int, level: float) -> Main:
    size = float(np.abs(table).max())
    means = _margin(table, (i,))
    effects = means - means.mean(axis=1, keepdims=True)
    return Main(
        factor=names[i],
        levels=levels[i],
        means=dict(zip(levels[i], _effects(means, size, level), strict=True)),
        effects=dict(zip(levels[i], _effects(effects, size, level), strict=True)),
        test=_joint(effects, (len(levels[i]),), size),
    )


def _interaction(
    table: Values, names: Levels, levels: Sequence[Levels], pair: tuple[int, int], level: float
) -> Interaction:
    size = float(np.abs(table).max())
    means = _margin(table, pair)
    rows, columns = means.mean(axis=2, keepdims=True), means.mean(axis=1, keepdims=True)
    effects = means - rows - columns + means.mean(axis=(1, 2), keepdims=True)
    spots = [(a, b) for a in levels[pair[0]] for b in levels[pair[1]]]
    return Interaction(
        factors=(names[pair[0]], names[pair[1]]),
        means=dict(zip(spots, _effects(means.reshape(len(means), -1), size, level), strict=True)),
        effects=dict(zip(spots, _effects(effects.reshape(len(effects), -1), size, level), strict=True)),
        test=_joint(effects.reshape(len(effects), -1), effects.shape[1:], size),
    )


def _joint(effects: Values, shape: tuple[int, ...], size: float) -> Joint:
    """The test on the independent ones of the effects (n, product of shape): orthonormal contrasts."""
    basis = _helmert(shape[0])
    for length in shape[1:]:
        basis = np.asarray(np.kron(basis, _helmert(length)), dtype=np.float64)
    contrasts = _zeroed(effects @ basis, size)
    return Joint(contrasts.shape[1], hotelling_p(contrasts), contrasts.shape[1] + 1)


@lru_cache
def _helmert(length: int) -> Values:
    """Orthonormal contrasts (length, length - 1): each level against those before it."""
    from scipy.linalg import helmert

    return np.asarray(helmert(length)).T


def _effects(values: Values, size: float, level: float) -> list[Effect]:
    """Mean and t interval of each column (n, k); `size` is that of the values that the contrasts were taken of."""
    from scipy.special import stdtrit

    values = _zeroed(values, size)
    means = values.mean(axis=0)
    halves = stdtrit(len(values) - 1, (1 + level) / 2) * values.std(axis=0, ddof=1) / math.sqrt(len(values))
    vary = np.ptp(values, axis=0) > ROUNDING * size
    return [
        Effect(mean, Interval(mean - half, mean + half) if varies else None)
        for mean, half, varies in zip(means.tolist(), halves.tolist(), vary.tolist(), strict=True)
    ]


def _zeroed(values: Values, size: float) -> Values:
    """What rounding left of a contrast that is 0 is 0."""
    return np.where(np.abs(values) <= ROUNDING * size, 0.0, values)


def _margin(table: Values, keep: tuple[int, ...]) -> Values:
    """Means over all factors but those kept: (seeds, levels...)."""
    return table.mean(axis=tuple(axis + 1 for axis in range(table.ndim - 1) if axis not in keep))


def _levels(cells: Cells, factors: Sequence[str]) -> tuple[Levels, ...]:
    if not factors or len(set(factors)) < len(factors):
        raise ValueError(f"factors={list(factors)}: one or more different names")
    wrong = [key for key in cells if len(key) != len(factors)]
    if wrong or not cells:
        raise ValueError(
            f"combinations of {len(factors)} levels are needed, one a factor: {wrong[:1] or 'there are none'}"
        )
    levels = tuple(tuple(dict.fromkeys(key[i] for key in cells)) for i in range(len(factors)))
    for factor, several in zip(factors, levels, strict=True):
        if len(several) < 2:
            raise ValueError(f"factor {factor}: at least two levels are needed, there is {several[0]} alone")
    missing = [key for key in itertools.product(*levels) if key not in cells]
    if missing:
        named = "; ".join(_named(key, factors) for key in missing[:6])
        more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
        raise ValueError(f"not every combination of the factors was run; missing: {named}{more}")
    return levels


def _scarce(cells: Cells, factors: Sequence[str]) -> str:
    key = min(cells, key=lambda k: len(cells[k]))
    return f"; {_named(key, factors)} has {len(cells[key])}"


def _named(key: Levels, factors: Sequence[str]) -> str:
    return " ".join(f"{factor}={level}" for factor, level in zip(factors, key, strict=True))
