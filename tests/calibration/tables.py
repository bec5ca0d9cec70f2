"""The simulations, one table each. They call the package's own functions, study by study."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from lenet_lab import stats
from tests.calibration.harness import ALPHA, DRAW, LEVEL, MEAN, Row, Values, arm, normal, skewed, table

Rng = np.random.Generator
SEEDS = (5, 10, 20)
EVERY = tuple(itertools.product(DRAW, SEEDS))
SCENES = {
    "all equal": (0.0,) * 6,
    "one ahead by a deviation": (1.0, *(0.0,) * 5),
    "two ahead by two": (2.0, 2.0, *(0.0,) * 4),
}


def attainable_size(n: int) -> float:
    """The largest size at most ALPHA that a test over 2^n signs, two at a time, can have."""
    return 2 * math.floor(ALPHA * 2 ** (n - 1)) / 2**n


def small(p: float | None) -> bool:
    """Whether a test rejects."""
    return p is not None and p <= ALPHA


@table("False positives: two arms that are the same, level 0.95", EVERY)
def false_positives(rng: Rng, rounds: int, name: str, n: int) -> Iterator[Row]:
    pairs = DRAW[name](rng, rounds, 2, n)
    found = [stats.compare(arm(a), arm(b), LEVEL) for a, b in pairs]
    yield Row(f"paired t test, {name}", n, sum(small(one.t_p) for one in found), rounds, ALPHA, "most")
    bar = "most" if name == "discrete" else "equal"
    if n == 5:
        assert all(one.sign_flip_p is None and not one.enough for one in found)
        held = sum(stats.sign_flip_p((a - b).tolist()) <= 2 / 2**n for a, b in pairs)
        yield Row(f"sign-flip test at its own least level, {name}", n, held, rounds, 2 / 2**n, bar)
    else:
        held = sum(small(one.sign_flip_p) for one in found)
        yield Row(f"sign-flip test, {name}", n, held, rounds, attainable_size(n), bar)


@table("False positives where only the means are the same: one arm skewed, the other normal", [(n,) for n in SEEDS])
def unlike_arms(rng: Rng, rounds: int, n: int) -> Iterator[Row]:
    pairs = zip(skewed(rng, rounds, n), normal(rng, rounds, n), strict=True)
    found = [stats.compare(arm(a), arm(b), LEVEL) for a, b in pairs]
    yield Row("paired t test", n, sum(small(one.t_p) for one in found), rounds, ALPHA)
    if n > 5:
        yield Row("sign-flip test", n, sum(small(one.sign_flip_p) for one in found), rounds, attainable_size(n))


@table("Coverage of the t interval for the mean of one arm, level 0.95", EVERY)
def coverage(rng: Rng, rounds: int, name: str, n: int) -> Iterator[Row]:
    intervals = [stats.t_interval(values, LEVEL) for values in DRAW[name](rng, rounds, n).tolist()]
    held = sum(low <= MEAN[name] <= high for low, high in intervals)
    yield Row(f"t interval, {name}", n, held, rounds, LEVEL, "within" if name == "normal" else "")


@table("Coverage of the prediction interval for one new run, level 0.95", EVERY)
def prediction(rng: Rng, rounds: int, name: str, n: int) -> Iterator[Row]:
    held = 0
    for *values, new in DRAW[name](rng, rounds, n + 1).tolist():
        low, high = stats.prediction_interval(values, LEVEL)
        held += low <= new <= high
    yield Row(f"prediction interval, {name}", n, held, rounds, LEVEL, "within" if name == "normal" else "")


@table("Coverage of the studentised bootstrap interval, level 0.95, 999 resamples", [(name,) for name in DRAW])
def bootstrap(rng: Rng, rounds: int, name: str) -> Iterator[Row]:
    held = 0
    for values in DRAW[name](rng, rounds, 20).tolist():
        low, high = stats.bootstrap_t_interval(values, LEVEL, resamples=999)
        held += low <= MEAN[name] <= high
    yield Row(f"studentised bootstrap, {name}", 20, held, rounds, LEVEL, "within" if name == "normal" else "")


@table("Why percentile intervals are not offered: their coverage, normal, level 0.95", [(n,) for n in SEEDS])
def percentile(rng: Rng, rounds: int, n: int) -> Iterator[Row]:
    held = 0
    for values in normal(rng, rounds, n):
        means = np.sort(values[rng.integers(0, n, size=(999, n))].mean(axis=1))
        held += bool(means[24] <= 0 <= means[974])
    yield Row("percentile bootstrap", n, held, rounds, LEVEL)


@table(
    "Holm: at least one false positive among five comparisons with one baseline, level 0.95",
    [(0, 5), (0, 10), (0, 20), (2, 10)],
)
def family(rng: Rng, rounds: int, real: int, n: int) -> Iterator[Row]:
    shift = np.array([2.0] * real + [0.0] * (6 - real))[:, None]
    by_t = by_flips = 0
    for arms in normal(rng, rounds, 6, n) + shift:
        found = [stats.compare(arm(values), arm(arms[5]), LEVEL) for values in arms[:5]]
        by_t += any(map(small, stats.holm([one.t_p for one in found])[real:]))
        by_flips += any(map(small, stats.holm([one.sign_flip_p for one in found])[real:]))
    words = f"{real} of 5 differ by two deviations" if real else "none of 5 differs"
    yield Row(f"paired t test, {words}", n, by_t, rounds, ALPHA, "most")
    if n > 5:
        yield Row(f"sign-flip test, {words}", n, by_flips, rounds, ALPHA, "most")


@table(
    "The arms that may be the best: how often all that are truly the best are among them, six arms, level 0.95",
    [*(("all equal", *case) for case in EVERY), *((scene, "normal", n) for scene in [*SCENES][1:] for n in SEEDS)],
)
def best(rng: Rng, rounds: int, scene: str, name: str, n: int) -> Iterator[Row]:
    truly = {f"{i}" for i, mean in enumerate(SCENES[scene]) if mean == max(SCENES[scene])}
    held = size = 0
    for arms in DRAW[name](rng, rounds, 6, n) + np.array(SCENES[scene])[:, None]:
        found = stats.indistinguishable_from_best({f"{i}": arm(values) for i, values in enumerate(arms)}, (), LEVEL)
        held += truly <= found
        size += len(found)
    note = f" ({size / rounds:.1f} of 6 kept)"
    yield Row(f"{scene}, {name}", n, held, rounds, LEVEL, "least", note)


@table("Factorial 2x3: joint tests of effects that are not there, and the interval of one that is, level 0.95", EVERY)
def factorial(rng: Rng, rounds: int, name: str, n: int) -> Iterator[Row]:
    keys = list(itertools.product("ab", "xyz"))
    # Level b lies far from a, beyond the noise: it must not show as an interaction.
    far = 0.01 if name == "discrete" else 3.0
    shift = np.array([far if first == "b" else 0.0 for first, _ in keys])[:, None]
    main = interaction = covered = 0
    for cells in DRAW[name](rng, rounds, 6, n) + shift:
        found = stats.factorial(dict(zip(keys, map(arm, cells), strict=True)), ("first", "second"), LEVEL)
        main += small(found.main["second"].test.p)
        interaction += small(found.interactions["first", "second"].test.p)
        interval = found.main["first"].effects["b"].interval
        covered += interval is not None and interval.low <= far / 2 <= interval.high
    yield Row(f"main effect of the three levels, {name}", n, main, rounds, ALPHA, "most")
    yield Row(f"interaction, {name}", n, interaction, rounds, ALPHA, "most")
    bar = "within" if name == "normal" else ""
    yield Row(f"interval of the effect of a level, {name}", n, covered, rounds, LEVEL, bar)


@table("Power of the paired t test with as many seeds as `seeds_needed` asks for", [(2.0,), (1.0,), (0.5,)])
def needed(rng: Rng, rounds: int, difference: float) -> Iterator[Row]:
    n = stats.seeds_needed(1.0, difference, LEVEL, 0.8)
    held = finds(normal(rng, rounds, n) + difference)
    yield Row(f"to see {difference:g} deviations", n, held, rounds, 0.8, "least")


@table("Power of the paired t test at the difference that `smallest_detectable` names", [(n,) for n in SEEDS])
def detectable(rng: Rng, rounds: int, n: int) -> Iterator[Row]:
    difference = stats.smallest_detectable(1.0, n, LEVEL, 0.8)
    held = finds(normal(rng, rounds, n) + difference)
    yield Row(f"{difference:.2f} deviations", n, held, rounds, 0.8, "equal")


def finds(differences: Values) -> int:
    """How many rows have a t interval without 0."""
    return sum(not low <= 0 <= high for low, high in (stats.t_interval(row, LEVEL) for row in differences.tolist()))
