"""Main effects and two-way interactions of a full factorial study, computed within each seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet_lab.stats.intervals import Interval, mean, t_interval
from lenet_lab.stats.paired import check_level

Levels = tuple[str, ...]
Cells = Mapping[Levels, Mapping[int, float]]
_ROUNDING = 1e-12


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
        grand=_effect(values.mean(axis=1), 0.0, level),
        main={name: _main(table, names, levels, i, level) for i, name in enumerate(names)},
        interactions={
            (names[i], names[j]): _interaction(table, names, levels, (i, j), level)
            for i, j in itertools.combinations(range(len(names)), 2)
        },
    )


def hotelling_p(contrasts: NDArray[np.float64]) -> float | None:
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


def _main(table: NDArray[np.float64], names: Levels, levels: Sequence[Levels], i: int, level: float) -> Main:
    means = _margin(table, (i,))
    effects = means - means.mean(axis=1, keepdims=True)
    size = float(np.abs(table).max())
    return Main(
        factor=names[i],
        levels=levels[i],
        means={name: _effect(means[:, k], 0.0, level) for k, name in enumerate(levels[i])},
        effects={name: _effect(effects[:, k], size, level) for k, name in enumerate(levels[i])},
        test=_joint(effects, (len(levels[i]),), size),
    )


def _interaction(
    table: NDArray[np.float64], names: Levels, levels: Sequence[Levels], pair: tuple[int, int], level: float
) -> Interaction:
    means = _margin(table, pair)
    rows, columns = means.mean(axis=2, keepdims=True), means.mean(axis=1, keepdims=True)
    effects = means - rows - columns + means.mean(axis=(1, 2), keepdims=True)
    size = float(np.abs(table).max())
    spots = list(itertools.product(*(enumerate(levels[i]) for i in pair)))
    return Interaction(
        factors=(names[pair[0]], names[pair[1]]),
        means={(a, b): _effect(means[:, j, k], 0.0, level) for (j, a), (k, b) in spots},
        effects={(a, b): _effect(effects[:, j, k], size, level) for (j, a), (k, b) in spots},
        test=_joint(effects.reshape(len(effects), -1), effects.shape[1:], size),
    )


def _joint(effects: NDArray[np.float64], shape: tuple[int, ...], size: float) -> Joint:
    """The test on the independent ones of the effects (n, product of shape): orthonormal contrasts."""
    basis = np.eye(1)
    for length in shape:
        basis = np.kron(basis, _helmert(length))
    contrasts = _zeroed(effects @ basis, size)
    return Joint(contrasts.shape[1], hotelling_p(contrasts), contrasts.shape[1] + 1)


def _helmert(length: int) -> NDArray[np.float64]:
    """Orthonormal contrasts (length, length - 1): each level against those before it."""
    from scipy.linalg import helmert

    return np.asarray(helmert(length)).T


def _effect(values: NDArray[np.float64], size: float, level: float) -> Effect:
    """`size` is that of the values a contrast was taken of: what rounding left of them is 0."""
    found = _zeroed(values, size).tolist()
    vary = max(found) - min(found) > _ROUNDING * max(size, *map(abs, found))
    return Effect(mean(found), t_interval(found, level) if vary else None)


def _zeroed(values: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    return np.where(np.abs(values) <= _ROUNDING * size, 0.0, values)


def _margin(table: NDArray[np.float64], keep: tuple[int, ...]) -> NDArray[np.float64]:
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
