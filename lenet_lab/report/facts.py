"""The immutable tables that every renderer shows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from lenet_lab.report.labels import Settings

COMPLETE, DIVERGED = "complete", "diverged"
CURVES = ("val/acc", "train/loss", "val/loss")
NOT_RECORDED = "not recorded"
# Learning curves are drawn, and kept, for so many arms: those with the best means.
MOST_CURVES = 10


@dataclass(frozen=True)
class Spread:
    """A number over the runs of an arm that have it; sd and the t interval for the mean need two runs."""

    values: tuple[float, ...]
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Band:
    """A learning curve over the runs of an arm: the number of runs, their mean and range at each epoch."""

    steps: tuple[int, ...]
    n: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Arm:
    """One row of the comparison.

    `metrics` has a `Spread` for each metric that any complete run has. `time/train_s` is taken over the runs
    that had the machine to themselves, and missing where there are none; `images_per_s` is taken over these,
    or over all runs where there are none (`timed_alone` is false then: a throughput, not to be compared).
    `best`: whether it cannot be told from the best; None where the runs do not let one say.
    """

    number: int
    arm: str
    label: str
    settings: Settings
    seeds: tuple[int | None, ...]
    diverged: tuple[int | None, ...]
    metrics: Mapping[str, Spread]
    timed_alone: bool
    curves: Mapping[str, Band]
    best: bool | None = None

    @property
    def n(self) -> int:
        """Complete runs; diverged ones are counted beside."""
        return len(self.seeds)

    @property
    def short(self) -> str:
        """`A3`: how the other tables and the figures name it."""
        return f"A{self.number}"


@dataclass(frozen=True)
class Contrast:
    """One arm compared with another, paired by seed; differences in the unit of the metric.

    Attributes:
        arm, base: numbers of the two arms; the difference is `arm` less `base`.
        p, adjusted: of the exact sign-flip test, None where so few seeds cannot reach the level; and after Holm
            over the family, None outside it.
        attainable: the smallest p-value that a sign-flip test of so many pairs can give.
        effect: Hedges' g of the differences.
        improvement: the share of pairs of seeds in which `arm` is better, a tie counting half.
        needed: seeds with which the difference seen (or hoped for by the study) would show with a power of 80%;
            None where it shows, or cannot be said.
        detectable: the difference that so many seeds show with that power.
        reading: `better`, `worse`, `not told apart` or `too few seeds`.
    """

    arm: int
    base: int
    seeds: tuple[int, ...]
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    t_p: float | None
    p: float | None
    adjusted: float | None
    attainable: float | None
    effect: float | None
    improvement: float | None
    needed: int | None
    detectable: float | None
    reading: str

    @property
    def n(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True)
class Effect:
    """A level of one factor, or a pair of levels of two, in a full grid; the other factors averaged over.

    Attributes:
        mean, mean_low, mean_high: the metric there, with its t interval over seeds.
        effect, low, high: that less the grand mean (one factor), or less the sum of the two main effects (two).
    """

    factors: tuple[str, ...]
    levels: tuple[str, ...]
    mean: float
    mean_low: float | None
    mean_high: float | None
    effect: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class JointTest:
    """Whether a factor does anything, or two interact: p of Hotelling's test, and after Holm over these tests.

    p is None where there are fewer seeds than `needs`, or the contrasts do not vary.
    """

    factors: tuple[str, ...]
    df: int
    p: float | None
    adjusted: float | None
    needs: int


@dataclass(frozen=True)
class Pivot:
    """Arms laid out by factors: `cells[row][column]` is an arm's number, None where no arm has these values."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_values: tuple[tuple[str, ...], ...]
    column_values: tuple[tuple[str, ...], ...]
    cells: tuple[tuple[int | None, ...], ...]


@dataclass(frozen=True)
class Confusion:
    """What the runs of an arm answered on the average: counts (true class, predicted class), mean over runs."""

    arm: int
    runs: int
    mean: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Mistake:
    """A test image that many runs got wrong: its index, class, the commonest wrong answer, and how many did."""

    index: int
    label: int
    answer: int
    wrong: tuple[tuple[int, int, int], ...]
    """For each arm looked at: its number, runs that were wrong, runs."""


@dataclass(frozen=True)
class Answers:
    """One seed of two arms compared by their answers (McNemar): images that only one of the two got right."""

    arm: int
    base: int
    seed: int
    only_arm: int
    only_base: int
    p: float


@dataclass(frozen=True)
class Run:
    """One tracked run as the report lists it; `excluded` says why it does not count, empty if it does."""

    run_id: str
    name: str
    arm: int | None
    label: str
    seed: int | None
    state: str
    excluded: str
    link: str | None
    sweep: str
    timing: str
    data_digest: str
    test_set: str
    split: str
    code: str
    budget: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Facts:
    """The comparison. Arms come from the best mean to the worst, runs by arm, seed and id."""

    title: str
    metric: str
    level: float
    arms: tuple[Arm, ...]
    base: int | None
    contrasts: tuple[Contrast, ...]
    family: int
    effects: tuple[Effect, ...]
    tests: tuple[JointTest, ...]
    factors: tuple[str, ...]
    pivot: Pivot | None
    confusions: tuple[Confusion, ...]
    mistakes: tuple[Mistake, ...]
    answers: tuple[Answers, ...]
    remarks: tuple[str, ...]
    missing: int
    runs: tuple[Run, ...]
    common: Settings
    data_digests: tuple[tuple[str, int], ...]
    test_sets: tuple[tuple[str, int], ...]
    splits: tuple[tuple[str, int], ...]
    codes: tuple[tuple[str, int], ...]
    budgets: tuple[tuple[str, int], ...]

    @property
    def counted(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if not run.excluded)

    @property
    def excluded(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.excluded)

    def arm(self, number: int) -> Arm:
        """The arm of this number."""
        return self.arms[number - 1]


def as_json(facts: Facts) -> str:
    """The facts themselves: one line for every arm, run and contrast; what is not finite is null."""
    lines = []
    for field in fields(facts):
        value = getattr(facts, field.name)
        if isinstance(value, tuple) and value and is_dataclass(value[0]):
            items = ",\n  ".join(_dumps(_plain(item)) for item in value)
            lines.append(f"{_dumps(field.name)}: [\n  {items}\n ]")
        else:
            lines.append(f"{_dumps(field.name)}: {_dumps(_plain(value))}")
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(", ", ": "))
