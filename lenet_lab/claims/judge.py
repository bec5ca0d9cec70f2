"""The judge: what tracked runs say of a printed number or a sentence, by the rules of the ledger.

A printed number is held against the interval in which one new run would fall with a chance of 95% (mean ± t s
sqrt(1 + 1/n)), widened by the rounding of what is printed and, for an accuracy that rests on other images than ours, by
the binomial error of both draws. A sentence is held against the 95% t interval of the difference (or of the log of the
ratio), paired by seed. A number is decided by 5 seeds at the least, a comparison by 10. Each claim is judged by itself:
of twenty that are true, one is expected to miss its interval, and of twenty differences of nothing, one to be found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from lenet_lab.claims.estimates import Estimate, estimates, one_ratio, one_run
from lenet_lab.claims.evidence import Evidence
from lenet_lab.claims.ledger import Cell, Column, Source, Statement, number
from lenet_lab.claims.rules import (
    NUMBER_SEEDS,
    More,
    Narrower,
    Ratio,
    arms_of,
    holds_if,
    seeds_for,
)
from lenet_lab.stats import seeds_needed


class Verdict(StrEnum):
    """What can be said of a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    UNDECIDED = "undecided"
    CONTRADICTED = "contradicted by its own numbers"
    NOT_TESTABLE = "not testable"


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    Attributes:
        says: the number as printed, or the sentence.
        why: what the verdict rests on where the numbers alone do not say it.
        arms: those that it was judged by.
        seeds: how many seeds decide it.
        times: the claimed ratio, where it is a ratio that is judged.
        rule: of a sentence, what would bear it out, in words.
        metric: of a sentence, what it is judged by.
        supposed: the source does not say it.
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
    rule: str = ""
    metric: str = ""
    supposed: bool = False

    @property
    def n(self) -> int:
        """Seeds that it rests on."""
        return min((one.n for one in self.ours), default=0)


def judge(source: Source, evidence: Evidence) -> list[Judged]:
    """Every claim of a source, its numbers first."""
    judged = [_cell(source, cell, evidence) for cell in source.cells]
    return judged + [_statement(source, one, evidence) for one in source.statements]


def _cell(source: Source, cell: Cell, evidence: Evidence) -> Judged:
    column = cell.column
    arms = cell.arms

    def made(verdict: Verdict, why: str = "", *ours: Estimate, seeds: int = NUMBER_SEEDS) -> Judged:
        return Judged(cell.claim, cell.says, cell.where, verdict, why, ours, arms, seeds, cell.reading, column, times)

    times = None
    if cell.untestable:
        return made(Verdict.NOT_TESTABLE, cell.untestable)
    if column.ratio == cell.arm:
        return made(Verdict.NOT_TESTABLE, "a time of another machine; those of the other rows are divided by it")
    (claimed, _), rounding = number(cell.says), cell.rounding
    if column.ratio:
        base, other = _printed(source, column.ratio, cell.name)
        rounding = claimed / base * (rounding / claimed + other / base)
        claimed = times = claimed / base
        ours = one_ratio(evidence, arms, column.metric, rounding)
    else:
        ours = one_run(evidence, cell.arm, column, rounding)
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
    why = "" if inside else f"the claim is {'above' if claimed > ours.high else 'below'} what one run gives"
    return made(
        Verdict.REPRODUCED if inside else Verdict.NOT_REPRODUCED,
        (why + _some(evidence, cell.arm)).removeprefix("; "),
        ours,
    )


def _statement(source: Source, one: Statement, evidence: Evidence) -> Judged:
    claim = f"{source.letter}.{one.id}"
    arms = () if one.rule is None else arms_of(one.rule)
    seeds = 0 if one.rule is None else seeds_for(one.rule)
    metric, rule = ("", "") if one.rule is None else (one.rule.metric, holds_if(one.rule))
    rule += f"; before: {one.changed}" if one.changed else ""

    def made(verdict: Verdict, why: str, *ours: Estimate) -> Judged:
        return Judged(
            claim, one.says, one.where, verdict, why, ours, arms, seeds, rule=rule, metric=metric, supposed=one.supposed
        )

    if one.untestable:
        return made(Verdict.NOT_TESTABLE, one.untestable)
    if one.contradicted:
        return made(Verdict.CONTRADICTED, one.contradicted)
    assert one.rule is not None
    found, low, high = estimates(one.rule, evidence)
    against = _own(source, one)
    if against:
        return made(Verdict.CONTRADICTED, against, *found)
    restless = sum(evidence.unsettled(arm, metric) for arm in arms)
    if restless:  # theirs would be a later epoch than any that ran
        complete = restless + sum(len(evidence.values(arm, metric)) for arm in arms)
        why = f"{restless} of {complete} runs end before they stay within 0.1 points of their best: too short"
        return made(Verdict.UNDECIDED, why, *found)
    if not found:
        return made(*_incomparable(evidence, arms, metric, seeds))
    n = min(estimate.n for estimate in found)
    diverged = "".join(f"; {evidence.diverged(arm)} of {arm} diverged" for arm in arms if evidence.diverged(arm))
    if n < seeds:
        return made(Verdict.UNDECIDED, _few(n, seeds) + diverged, *found)
    note = (one.note + diverged).removeprefix("; ")
    if all(low <= estimate.low and estimate.high <= high for estimate in found):
        return made(Verdict.REPRODUCED, note, *found)
    if any(estimate.high < low or high < estimate.low for estimate in found):
        return made(Verdict.NOT_REPRODUCED, note, *found)
    return made(Verdict.UNDECIDED, "; ".join(filter(None, (note, _would_do(one, found)))), *found)


def _would_do(one: Statement, found: tuple[Estimate, ...]) -> str:
    """How many seeds would tell a difference of the size that ours has from none."""
    if not isinstance(one.rule, More | Narrower):
        return ""
    open_ = [estimate for estimate in found if estimate.low <= 0 <= estimate.high and estimate.sd and estimate.mean]
    try:
        return f"about {max(seeds_needed(e.sd, e.mean) for e in open_)} seeds would tell a difference of this size"
    except ValueError:  # none open, or more seeds than anybody has
        return ""


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
                f"its own numbers give {of(top) / of(bottom):.3g} times" if math.isfinite(of(top) / of(bottom)) else ""
            )
        case More(more=arm, than=others):
            less = [other for other in others if of(arm) <= of(other)]
            return f"its own numbers give {of(arm):g}, and {of(less[0]):g} for {less[0]}" if less else ""
        case Narrower(narrower=arm, than=other) if of(arm) >= of(other):
            return f"its own gaps are {of(arm):.2g} and {of(other):.2g}"
    return ""


def _incomparable(evidence: Evidence, arms: tuple[str, ...], metric: str, seeds: int) -> tuple[Verdict, str]:
    """The verdict where an arm has no run that counts: the first, which the sentence is about, or another."""
    if missing := next((arm for arm in arms if not evidence.runs.get(arm)), ""):
        return Verdict.UNDECIDED, f"{missing} not run" if len(arms) > 1 else "not run"
    empty = next((arm for arm in arms if not evidence.values(arm, metric)), arms[0])
    verdict, why = _nothing(evidence, empty, seeds)
    if empty != arms[0] and verdict == Verdict.NOT_REPRODUCED:
        return Verdict.UNDECIDED, f"{why}, of {empty}: nothing to compare with"
    return verdict, why


def _nothing(evidence: Evidence, arm: str, seeds: int) -> tuple[Verdict, str]:
    """The verdict where an arm has no complete run."""
    diverged = evidence.diverged(arm)
    if len(evidence.runs.get(arm, ())) > diverged:
        return Verdict.UNDECIDED, "its runs shared the machine"
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
