"""The arms that cannot be told from the best one."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lenet_lab.stats.paired import check_level, compare


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
    alpha = (1 - level) / max(1, len(running) - 1)
    kept = frozenset(
        arm for arm in running if not any(_beats(arms[other], arms[arm], alpha) for other in running if other != arm)
    )
    return kept or frozenset(running)


def _beats(a: Mapping[int, float], b: Mapping[int, float], alpha: float) -> bool:
    if len(a.keys() & b.keys()) < 2:
        return False
    found = compare(a, b)
    return found.t_p is not None and found.mean > 0 and found.t_p / 2 <= alpha
