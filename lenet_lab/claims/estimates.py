"""What runs give for a claim, with the interval that it is judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lenet_lab import stats
from lenet_lab.claims.evidence import Evidence
from lenet_lab.claims.ledger import Column, number
from lenet_lab.claims.rules import Difference, Gap, Mean, More, Narrower, Predicts, Ratio, Rule

LEVEL = 0.95
Values = Mapping[int, float]


@dataclass(frozen=True)
class Estimate:
    """What our runs give, in the unit of the claim: `low` to `high` is the interval that it is judged by.

    Attributes:
        of: what the number is: "", "times", or a "difference".
        name: the arm that it is set against, where there are several.
        sd: of the values that `mean` is the mean of; 0 where no mean is judged.
    """

    n: int
    mean: float
    low: float
    high: float
    of: str = ""
    name: str = ""
    sd: float = 0.0


def one_run(evidence: Evidence, arm: str, column: Column, rounding: float) -> Estimate | None:
    """Where one new run of an arm would print its number."""
    values = [column.printed(value) for value in evidence.values(arm, column.metric).values()]
    if not values:
        return None
    centre = stats.mean(values)
    if len(values) == 1:
        return Estimate(1, centre, centre, centre)
    half = stats.prediction_interval(values, LEVEL).high - centre
    what = column.metric.rpartition("/")[2]
    low, high = 0.0 if what == "loss" else -math.inf, math.inf
    if what in ("acc", "top3"):
        low, high = sorted((column.printed(0.0), column.printed(1.0)))
        if column.images:
            share = stats.mean(list(evidence.values(arm, column.metric).values()))
            ours = column.images if column.metric.startswith("val/") else _tested(evidence, arm, column.images)
            draws = math.hypot(stats.binomial_se(share, column.images), stats.binomial_se(share, ours)) * (high - low)
            half = math.hypot(half, 1.96 * draws)
    return Estimate(len(values), centre, max(low, centre - half - rounding), min(high, centre + half + rounding))


def _tested(evidence: Evidence, arm: str, otherwise: int) -> int:
    """How many images our runs of an arm were tested on."""
    return int(next(iter(evidence.values(arm, "test/n").values()), otherwise))


def one_ratio(evidence: Evidence, arms: tuple[str, ...], metric: str, rounding: float) -> Estimate | None:
    """Where the ratio of one new run of each of two arms would fall, as runs of one seed go."""
    logs = _paired(evidence, arms[0], arms[1], metric, logs=True)
    if not logs:
        return None
    centre = stats.mean(logs)
    low, high = stats.prediction_interval(logs, LEVEL) if len(logs) > 1 else (centre, centre)
    return Estimate(len(logs), math.exp(centre), math.exp(low) - rounding, math.exp(high) + rounding, "times")


def estimates(rule: Rule, evidence: Evidence) -> tuple[tuple[Estimate, ...], float, float]:
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
            one = one_run(evidence, rule.predicts, column, rounding)
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
    return one and replace(one, of="difference", name=name)


def _mean(values: Values) -> Estimate | None:
    several = list(values.values())
    if not several:
        return None
    centre = stats.mean(several)
    low, high = stats.t_interval(several, LEVEL) if len(several) > 1 else (centre, centre)
    return Estimate(len(several), centre, low, high, sd=stats.sample_sd(several) if len(several) > 1 else 0.0)
