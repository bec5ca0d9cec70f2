"""Rules of judgement, as the ledger's statements name them: the seeds that they take, and how the page puts them."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

NUMBER_SEEDS, COMPARISON_SEEDS = 5, 10  # that decide a printed number, and a comparison
Text = Annotated[str, Field(min_length=1)]
Arms = Annotated[tuple[str, ...], Field(min_length=1)]


class Node(BaseModel):
    """A part of the ledger: no key that is not known, nothing changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class More(Node):
    """The metric of an arm is larger than that of each of the others."""

    more: Text
    than: Arms
    metric: Text

    @model_validator(mode="before")
    @classmethod
    def _several(cls, node: Any) -> Any:
        than = node.get("than")
        return {**node, "than": (than,)} if isinstance(than, str) else node


class Ratio(Node):
    """The metric of the first arm by that of the second lies between two numbers."""

    ratio: tuple[str, str]
    metric: Text
    low: float
    high: float


class Difference(Node):
    """The metric of the first arm less that of the second lies between two numbers."""

    difference: tuple[str, str]
    metric: Text
    low: float
    high: float


class Mean(Node):
    """The mean of an arm's metric lies between two numbers."""

    mean: Text
    metric: Text
    low: float = -math.inf
    high: float = math.inf


class Gap(Node):
    """One metric less another lies between two numbers in every one of the arms."""

    gap: Arms
    metric: Text
    less: Text
    low: float
    high: float


class Narrower(Node):
    """One metric less another is smaller in an arm than in the other."""

    narrower: Text
    than: Text
    metric: Text
    less: Text


class Predicts(Node):
    """A printed number is what one run of the arm would give for another metric."""

    predicts: Text
    metric: Text
    value: Text
    images: int | None = None


Rule = More | Ratio | Difference | Mean | Gap | Narrower | Predicts


def seeds_for(rule: Rule) -> int:
    """Seeds that decide it; a count is the same in every run."""
    if getattr(rule, "metric", "").startswith("params/"):
        return 1
    return NUMBER_SEEDS if isinstance(rule, Mean | Predicts) else COMPARISON_SEEDS


def arms_of(rule: Rule) -> tuple[str, ...]:
    """The arms that a rule looks at."""
    match rule:
        case More():
            return (rule.more, *rule.than)
        case Ratio():
            return rule.ratio
        case Difference():
            return rule.difference
        case Mean():
            return (rule.mean,)
        case Gap():
            return rule.gap
        case Narrower():
            return (rule.narrower, rule.than)
        case Predicts():
            return (rule.predicts,)


_NAMES = {
    "test/acc": "test accuracy",
    "train_eval/acc": "training accuracy",
    "test/top3": "share of test images whose class is among the three best scores",
    "time/train_s": "training time",
    "params/total": "number of parameters",
    "converged": "first epoch from which on the accuracy stays within 0.1 points of the run's best",
    "train/loss@1": "training loss of the first epoch",
}


def holds_if(rule: Rule) -> str:
    """What would bear a statement out, in words; accuracies in percent or points."""
    what = named(rule.metric)
    match rule:
        case More(more=arm, than=others):
            return f"{what} of {arm} above that of {_list(others, 'and')}"
        case Ratio(ratio=(top, bottom), low=low, high=high):
            return f"{what} of {top} {low:g} to {high:g} times that of {bottom}"
        case Difference(difference=(one, other)):
            return f"{what} of {one} less that of {other} {_between(rule.metric, rule.low, rule.high, 'points')}"
        case Mean(mean=arm):
            return f"{what} of {arm} {_between(rule.metric, rule.low, rule.high, '%')}"
        case Gap(gap=arms):
            between = _between(rule.metric, rule.low, rule.high, "points")
            return f"{what} less {named(rule.less)} {between} in {_list(arms, 'and')}"
        case Narrower(narrower=arm, than=other):
            return f"{what} less {named(rule.less)} smaller in {arm} than in {other}"
        case Predicts(predicts=arm, value=value):
            return f"{value} is a {what} that one run of {arm} may have"


def named(metric: str) -> str:
    """A metric in words."""
    return _NAMES.get(metric, metric)


def _between(metric: str, low: float, high: float, unit: str) -> str:
    share = metric.endswith("/acc")
    low, high, unit = (100 * low, 100 * high, unit if unit == "%" else f" {unit}") if share else (low, high, "")
    ends = [f"{end:g}".replace("-", "−") for end in (low, high)]
    if not math.isfinite(low):
        return f"at most {ends[1]}{unit}"
    return f"{ends[0]} to {ends[1]}{unit}"


def _list(several: tuple[str, ...], last: str) -> str:
    return f" {last} ".join(filter(None, (", ".join(several[:-1]), several[-1])))
