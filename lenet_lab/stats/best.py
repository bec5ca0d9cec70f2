"""The arms that cannot be told from the best one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lenet_lab.stats.paired import ROUNDING, check_level


def indistinguishable_from_best(
    arms: Mapping[str, Mapping[int, float]], diverged: Collection[str] = (), level: float = 0.95
) -> frozenset[str]:
    """The arms that may be the best: arm -> seed -> value, more is better.

    An arm is left out when some other arm beats it in a one-sided paired t test at (1 - level) / (k - 1), k arms
    in the running. No arm is picked by its mean first, so there is no selection to correct for: the truly best
    arm has to lose one of k - 1 tests, each with a chance of at most (1 - level) / (k - 1), to be left out. It
    therefore stays with a chance of at least `level` (for differences that are roughly normal). This is the
    subset selection of Gupta (Technometrics 7, 1965) and Hsu (Ann. Stat. 12, 1984), with paired differences and
    Bonferroni in place of a common variance.

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
    if len(running) < 2:
        return frozenset(running)
    alpha = (1 - level) / (len(running) - 1)
    table = _table([arms[arm] for arm in running])
    kept = frozenset(arm for i, arm in enumerate(running) if not _beaten(table, i, alpha))
    return kept or frozenset(running)


def _table(arms: Sequence[Mapping[int, float]]) -> NDArray[np.float64]:
    """Values (arms, seeds), NaN where an arm lacks the seed."""
    seeds = {seed: i for i, seed in enumerate(sorted(set().union(*arms)))}
    table = np.full((len(arms), len(seeds)), np.nan)
    for row, values in zip(table, arms, strict=True):
        row[[seeds[seed] for seed in values]] = list(values.values())
    return table


def _beaten(table: NDArray[np.float64], i: int, alpha: float) -> bool:
    """Whether some row of the table is above row i in a one-sided paired t test at alpha."""
    from scipy.special import stdtrit

    ahead = table - table[i]
    both = np.isfinite(ahead)
    n = both.sum(axis=1)
    rows = n > 1
    ahead, both, n = np.where(both, ahead, 0.0)[rows], both[rows], n[rows]
    mean = ahead.sum(axis=1) / n
    sd = np.sqrt((np.where(both, ahead - mean[:, None], 0.0) ** 2).sum(axis=1) / (n - 1))
    vary = sd > ROUNDING * np.nanmax(np.abs(table))
    return bool((mean[vary] * np.sqrt(n[vary]) >= sd[vary] * stdtrit(n[vary] - 1, 1 - alpha)).any())
