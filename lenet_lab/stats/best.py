"""The arms that cannot be told from the best one."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lenet_lab.stats.multiplicity import holm
from lenet_lab.stats.paired import ROUNDING, check_level


def indistinguishable_from_best(
    arms: Mapping[str, Mapping[int, float]], diverged: Collection[str] = (), level: float = 0.95
) -> frozenset[str]:
    """The arms that may be the best: arm -> seed -> value, more is better.

    An arm is left out when it loses to some other arm in a two-sided paired t test, adjusted by Holm over all pairs
    of arms. No arm is picked by its mean first, so there is no selection to correct for. Every arm that is truly
    as good as the best one stays, all of them together, with a chance of at least `level` (for differences
    that are roughly normal): to leave one out, a test has to be wrong somewhere in the family.

    Arms in `diverged` are not in the running at all. A pair with fewer than two common seeds, or with the
    same difference in all of them, is not told apart. Nor is anything where every arm loses to another one,
    as can happen only to arms of different seeds.

    Raises:
        ValueError: an arm in the running without values or with one that is not finite, or a level outside (0, 1).
    """
    check_level(level)
    running = sorted(arm for arm in arms if arm not in diverged)
    for arm in running:
        if not arms[arm]:
            raise ValueError(f"arm {arm}: has no values")
        if not all(math.isfinite(value) for value in arms[arm].values()):
            raise ValueError(f"arm {arm}: values must be finite numbers")
    pairs = list(_pairs(_table([arms[arm] for arm in running]))) if len(running) > 1 else []
    adjusted = holm([p for _, p in pairs])
    beaten = {loser for (loser, _), p in zip(pairs, adjusted, strict=True) if p is not None and p <= 1 - level}
    return frozenset(arm for i, arm in enumerate(running) if i not in beaten) or frozenset(running)


def _table(arms: Sequence[Mapping[int, float]]) -> NDArray[np.float64]:
    """Values (arms, seeds), NaN where an arm lacks the seed."""
    seeds = {seed: i for i, seed in enumerate(sorted(set().union(*arms)))}
    table = np.full((len(arms), len(seeds)), np.nan)
    for row, values in zip(table, arms, strict=True):
        row[[seeds[seed] for seed in values]] = list(values.values())
    return table


def _pairs(table: NDArray[np.float64]) -> Iterator[tuple[int, float | None]]:
    """Of every pair of rows: the one with the lower mean, and p of the two-sided paired t test."""
    from scipy.special import stdtr

    size = np.nanmax(np.abs(table))
    for i, row in enumerate(table[:-1]):
        ahead = table[i + 1 :] - row
        both = np.isfinite(ahead)
        n = both.sum(axis=1)
        mean = np.where(both, ahead, 0.0).sum(axis=1) / np.maximum(n, 1)
        sd = np.sqrt((np.where(both, ahead - mean[:, None], 0.0) ** 2).sum(axis=1) / np.maximum(n - 1, 1))
        vary = (n > 1) & (sd > ROUNDING * size)
        t = np.abs(mean) * np.sqrt(n) / np.where(vary, sd, 1.0)
        p = 2 * stdtr(np.maximum(n - 1, 1), -t)
        losers = np.where(mean > 0, i, np.arange(i + 1, len(table)))
        tested = zip(losers.tolist(), p.tolist(), vary.tolist(), strict=True)
        yield from ((loser, one if known else None) for loser, one, known in tested)
