"""Rules of judgement, as the ledger's statements name them, and the seeds that they take."""

from __future__ import annotations

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
    low: float
    high: float


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
