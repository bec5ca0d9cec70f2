"""The judge: what tracked runs say of a printed number or a sentence, by rules that were fixed before the runs.

A printed number is held against the interval in which one new run would fall with a chance of 95% (mean ± t s
sqrt(1 + 1/n)), widened by the rounding of what is printed and, where it rests on other images than ours, by the
binomial error of both draws. A sentence is held against the 95% t interval of the difference (or of the log of the
ratio), paired by seed. A number is decided by 5 seeds at the least, a comparison by 10. Each claim is judged by itself:
of twenty that are true, one is expected to miss its interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from lenet_lab import stats
from lenet_lab.claims.evidence import Evidence
from lenet_lab.claims.ledger import (
    Cell,
    Column,
    Difference,
    Gap,
    Mean,
    More,
    Narrower,
    Predicts,
    Ratio,
    Rule,
    Source,
    Statement,
    arms_of,
)  # fmt: skip

LEVEL = 0.95
NUMBER_SEEDS, COMPARISON_SEEDS = 5, 10
Values = Mapping[int, float]


class Verdict(StrEnum):
    """What can be said of a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    UNDECIDED = "undecided"
    CONTRADICTED = "contradicted by its own numbers"
    NOT_TESTABLE = "not testable"


@dataclass(frozen=True)
class Estimate:
    """What our runs give, in the unit of the claim: `low` to `high` is the interval that it is judged by.

    Attributes:
        of: what the number is: "", "times", "points" of a difference.
        name: the arm that it is set against, where there are several.
    """

    n: int
    mean: float
    low: float
    high: float
    of: str = ""
    name: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    Attributes:
        says: the number as printed, or the sentence.
        why: what the verdict rests on where the numbers alone do not say it.
        arms: those that it was judged by.
        seeds: how many seeds decide it.
        times: the claimed ratio, where it is a ratio that is judged.
    """

    claim: str
    says: str
    where: str
    verdict: Verdict
    why: str
    ours: tuple[Estimate, ...]
    arms: tuple[str, ...]
    seeds: int
    reading: str = ""
    column: Column | None = None
    times: float | None = None

    @property
    def n(self) -> int:
        """Seeds that it rests on."""
        return min((one.n for one in self.ours), default=0)


def judge(source: Source, evidence: Evidence) -> list[Judged]:
    """Every claim of a source, its numbers first."""
    judged = [_cell(source, cell, evidence) for cell in source.cells]
    return judged + [_statement(source, one, evidence) for one in source.statements]


def number(text: str) -> tuple[float, float]:
    """A printed number and half a unit of its last digit."""
    value = Decimal(text.replace(",", ""))
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return float(value), 0.5 * 10.0**exponent


def _cell(source: Source, cell: Cell, evidence: Evidence) -> Judged:
    column = cell.column
    arms = (cell.arm,) if column.ratio in (None, cell.arm) else (cell.arm, str(column.ratio))

    def made(verdict: Verdict, why: str = "", *ours: Estimate, seeds: int = NUMBER_SEEDS) -> Judged:
        return Judged(cell.claim, cell.says, cell.where, verdict, why, ours, arms, seeds, cell.reading, column, times)

    times = None
    if cell.untestable:
        return made(Verdict.NOT_TESTABLE, cell.untestable)
    if column.ratio == cell.arm:
        return made(Verdict.NOT_TESTABLE, "a time of another machine; those of the other rows are divided by it")
    claimed, rounding = number(cell.says)
    if column.ratio:
        base, other = _printed(source, column.ratio, cell.name)
        rounding = claimed / base * (rounding / claimed + other / base)
        claimed = times = claimed / base
        ours = _one_ratio(evidence, arms, column.metric, rounding)
    else:
        ours = _one(evidence, cell.arm, column, rounding)
    if cell.doubt:
        return made(Verdict.CONTRADICTED, cell.doubt, *((ours,) if ours else ()))
    if ours is None:
        return made(*_nothing(evidence, cell.arm, NUMBER_SEEDS))
    if column.exact:
        ours = replace(ours, low=ours.mean, high=ours.mean)
        same = round(ours.mean) == round(claimed)
        return made(Verdict.REPRODUCED if same else Verdict.NOT_REPRODUCED, "", ours, seeds=1)
    if ours.n < NUMBER_SEEDS:
        return made(Verdict.UNDECIDED, _few(ours.n, NUMBER_SEEDS), ours)
    inside = ours.low <= claimed <= ours.high
    why = "" if inside else f"{'above' if claimed > ours.high else 'below'} what one run gives"
    return made(Verdict.REPRODUCED if inside else Verdict.NOT_REPRODUCED, why + _some(evidence, cell.arm), ours)


def _one(evidence: Evidence, arm: str, column: Column, rounding: float) -> Estimate | None:
    """Where one new run of an arm would print its number."""
    values = [column.printed(value) for value in evidence.values(arm, column.metric).values()]
    if not values:
        return None
    centre = stats.mean(values)
    if len(values) == 1:
        return Estimate(1, centre, centre, centre)
    half = stats.prediction_interval(values, LEVEL).high - centre
    if column.images and column.metric.rpartition("/")[2] in ("acc", "top3"):
        share = stats.mean(list(evidence.values(arm, column.metric).values()))
        draws = math.sqrt(2) * stats.binomial_se(share, column.images) * abs(column.printed(1.0) - column.printed(0.0))
        half = math.hypot(half, 1.96 * draws)
    return Estimate(len(values), centre, centre - half - rounding, centre + half + rounding)


def _one_ratio(evidence: Evidence, arms: tuple[str, ...], metric: str, rounding: float) -> Estimate | None:
    """Where the ratio of one new run of each of two arms would fall, as runs of one seed go."""
    logs = _paired(evidence, arms[0], arms[1], metric, logs=True)
    if not logs:
        return None
    centre = stats.mean(logs)
    low, high = stats.prediction_interval(logs, LEVEL) if len(logs) > 1 else (centre, centre)
    return Estimate(len(logs), math.exp(centre), math.exp(low) - rounding, math.exp(high) + rounding, "times")


def _statement(source: Source, one: Statement, evidence: Evidence) -> Judged:
    claim = f"{source.letter}.{one.id}"
    arms = () if one.rule is None else arms_of(one.rule)
    seeds = 0 if one.rule is None else _needed(one.rule)

    def made(verdict: Verdict, why: str, *ours: Estimate) -> Judged:
        return Judged(claim, one.says, one.where, verdict, why, ours, arms, seeds)

    if one.untestable:
        return made(Verdict.NOT_TESTABLE, one.untestable)
    if one.contradicted:
        return made(Verdict.CONTRADICTED, one.contradicted)
    assert one.rule is not None
    estimates, low, high = _estimates(one.rule, evidence)
    against = _own(source, one)
    if against:
        return made(Verdict.CONTRADICTED, against, *estimates)
    if not estimates:
        missing = next((arm for arm in arms if not evidence.runs.get(arm)), arms[0])
        return made(*_nothing(evidence, missing, seeds))
    n = min(estimate.n for estimate in estimates)
    if n < seeds:
        return made(Verdict.UNDECIDED, _few(n, seeds), *estimates)
    if all(low <= estimate.low and estimate.high <= high for estimate in estimates):
        return made(Verdict.REPRODUCED, one.note, *estimates)
    if any(estimate.high < low or high < estimate.low for estimate in estimates):
        return made(Verdict.NOT_REPRODUCED, one.note, *estimates)
    return made(Verdict.UNDECIDED, one.note, *estimates)


def _estimates(rule: Rule, evidence: Evidence) -> tuple[tuple[Estimate, ...], float, float]:
    """What our runs say of a rule, none where an arm has no runs; and the bounds that bear it out.

    For `More` and `Narrower` the bound excludes 0 itself, by the smallest float above it.
    """
    above, ends = math.nextafter(0.0, 1.0), math.inf
    found: list[Estimate | None]
    match rule:
        case More():
            several = len(rule.than) > 1
            found = [
                _difference(_paired(evidence, rule.more, other, rule.metric), other if several else "")
                for other in rule.than
            ]
            low, high = above, ends
        case Difference():
            found = [_difference(_paired(evidence, *rule.difference, rule.metric))]
            low, high = rule.low, rule.high
        case Ratio():
            logs = _difference(_paired(evidence, *rule.ratio, rule.metric, logs=True))
            found = [logs and Estimate(logs.n, math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high), "times")]
            low, high = rule.low, rule.high
        case Mean():
            found = [_mean(evidence.values(rule.mean, rule.metric))]
            low, high = rule.low, rule.high
        case Gap():
            several = len(rule.gap) > 1
            found = [_difference(list(_gaps(evidence, arm, rule).values()), arm if several else "") for arm in rule.gap]
            low, high = rule.low, rule.high
        case Narrower():
            own, other = (_gaps(evidence, arm, rule) for arm in (rule.narrower, rule.than))
            found = [_difference([other[seed] - own[seed] for seed in sorted(own.keys() & other.keys())])]
            low, high = above, ends
        case Predicts():
            value, rounding = number(rule.value)
            column = Column(metric=rule.metric, unit="", measured="runs", images=rule.images)
            one = _one(evidence, rule.predicts, column, rounding)
            # the printed value lies in our interval: as bounds, ours holds it
            found = [one]
            low, high = (-ends, ends) if one and one.low <= value <= one.high else (ends, ends)
    return (tuple(one for one in found if one) if all(found) else ()), low, high


def _paired(evidence: Evidence, one: str, other: str, metric: str, logs: bool = False) -> list[float]:
    """The differences (or log ratios) of the seeds that both arms have, by rising seed."""
    a, b = evidence.values(one, metric), evidence.values(other, metric)
    if logs:
        return [math.log(a[seed] / b[seed]) for seed in sorted(a.keys() & b.keys()) if a[seed] > 0 and b[seed] > 0]
    return [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]


def _gaps(evidence: Evidence, arm: str, rule: Gap | Narrower) -> dict[int, float]:
    a, b = evidence.values(arm, rule.metric), evidence.values(arm, rule.less)
    return {seed: a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())}


def _difference(differences: list[float], name: str = "") -> Estimate | None:
    one = _mean(dict(enumerate(differences)))
    return one and Estimate(one.n, one.mean, one.low, one.high, "difference", name)


def _mean(values: Values) -> Estimate | None:
    several = list(values.values())
    if not several:
        return None
    centre = stats.mean(several)
    low, high = stats.t_interval(several, LEVEL) if len(several) > 1 else (centre, centre)
    return Estimate(len(several), centre, low, high)


def _needed(rule: Rule) -> int:
    """Seeds that decide it; a count is the same in every run."""
    if getattr(rule, "metric", "").startswith("params/"):
        return 1
    return NUMBER_SEEDS if isinstance(rule, Mean | Predicts) else COMPARISON_SEEDS


def _printed(source: Source, arm: str, column: str) -> tuple[float, float]:
    """The first number that the source prints for an arm in a column, and its rounding; NaN where it prints none."""
    found = (cell.says for cell in source.cells if (cell.arm, cell.name) == (arm, column))
    says = next(found, None)
    return (math.nan, math.nan) if says is None else number(says)


def _own(source: Source, one: Statement) -> str:
    """What of the source's own numbers speaks against its sentence; empty where nothing does."""
    if one.own is None:
        return ""
    columns = (one.own,) if isinstance(one.own, str) else one.own

    def of(arm: str) -> float:
        values = [_printed(source, arm, name)[0] for name in columns]
        return values[0] if len(values) == 1 else values[0] - values[1]

    match one.rule:
        case Ratio(ratio=(top, bottom), low=low, high=high) if not low <= of(top) / of(bottom) <= high:
            return (
                f"its own numbers give {of(top) / of(bottom):.2g} times" if math.isfinite(of(top) / of(bottom)) else ""
            )
        case More(more=arm, than=others):
            less = [other for other in others if of(arm) <= of(other)]
            return f"its own numbers give {of(arm):g}, and {of(less[0]):g} for {less[0]}" if less else ""
        case Narrower(narrower=arm, than=other) if of(arm) >= of(other):
            return f"its own gaps are {of(arm):.2g} and {of(other):.2g}"
    return ""


def _nothing(evidence: Evidence, arm: str, seeds: int) -> tuple[Verdict, str]:
    """The verdict where an arm has no complete run."""
    diverged = evidence.diverged(arm)
    if not diverged:
        return Verdict.UNDECIDED, "not run"
    if diverged < seeds:
        return Verdict.UNDECIDED, f"every run diverged, of {diverged}; {seeds} decide"
    return Verdict.NOT_REPRODUCED, f"every run diverged, of {diverged}"


def _some(evidence: Evidence, arm: str) -> str:
    diverged = evidence.diverged(arm)
    return f"; {diverged} diverged" if diverged else ""


def _few(n: int, seeds: int) -> str:
    return f"{n} seed{'s' * (n != 1)}; {seeds} decide"
