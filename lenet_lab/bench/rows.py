"""What a measurement says: values by round, what they are compared with, and what was promised."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

# Of the measurements written now; docs/performance.py says what is different about those of a lower number.
METHOD = 3  # 2: honest starts, whole epochs; 3: pools and tanh as they are now
# case, contender, unit -> what its median should be at most
MOST = {
    ("start", "job, full artifacts", "s"): 2.5,
    ("start", "job, minimal artifacts", "s"): 0.5,
    ("stores", "status", "s"): 5.0,
    ("stores", "report", "s"): 30.0,
    ("stores", "report", "MiB"): 500e6 / 2**20,
}


class Promise(NamedTuple):
    """A goal of a contender against another, in the settings that match: the least ratio, or the most seconds more."""

    case: str
    setting: str
    contender: str
    against: str
    goal: float | None = None
    within: float | None = None


PROMISES = (
    Promise("epoch", r"threads?$", "harness", "bare loop", goal=1.0),
    Promise("epoch", r"^batch 128, \d+ threads?$", "harness", "Lightning", goal=3.0),
    Promise("epoch", r"^batch 128, \d+ threads?$", "harness", "Lightning, 2 workers", goal=3.0),
    Promise("start", "^help$", "--help", "empty Hydra application", within=0.2),
    Promise("start", "^help$", "completion", "empty Hydra application", within=0.2),
)


@dataclass(frozen=True)
class Row:
    """One contender in one setting, against one other.

    Attributes:
        values: of each round, in `unit`.
        ratio: median over rounds of this contender by `against` in the same round, the larger the better; None for the
            reference itself.
        goal: what the ratio should reach; None where nothing was promised.
        most: what the median should be at most, in `unit`; likewise.
        more: median over rounds of what this contender took more than `against`, in `unit`.
        within: what that should be at most; likewise.
        method: the number of the way in which it was measured.
    """

    case: str
    setting: str
    contender: str
    unit: str
    values: tuple[float, ...]
    against: str | None = None
    ratio: float | None = None
    goal: float | None = None
    most: float | None = None
    more: float | None = None
    within: float | None = None
    method: int = 1

    @property
    def median(self) -> float:
        """Of the values."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None where there is none."""
        if self.most is not None:
            return self.median <= self.most
        if self.within is not None and self.more is not None:
            return self.more <= self.within
        return None if self.goal is None or self.ratio is None else self.ratio >= self.goal

    def compared(self, name: str, values: Sequence[float], goal: float | None, within: float | None = None) -> Row:
        """The same against another's values of the same rounds; where seconds are measured, fewer are better."""
        pairs = list(zip(self.values, values, strict=True))
        ratio = statistics.median(theirs / ours if self.unit == "s" else ours / theirs for ours, theirs in pairs)
        more = statistics.median(ours - theirs for ours, theirs in pairs)
        return replace(self, against=name, ratio=ratio, more=more, goal=goal, within=within)


def rows_of(
    case: str,
    setting: str,
    unit: str,
    values: Mapping[str, Sequence[float]],
    goals: Sequence[tuple[str, str, float | None]],
) -> list[Row]:
    """A row for every contender and every other that it is compared with; `goals` are (contender, against, least)."""
    rows = []
    for name, taken in values.items():
        row = Row(case, setting, name, unit, tuple(taken), most=MOST.get((case, name, unit)), method=METHOD)
        against = [(other, goal) for contender, other, goal in goals if contender == name]
        rows += [row.compared(other, values[other], goal) for other, goal in against] or [row]
    return judged(rows)


def judged(rows: Sequence[Row]) -> list[Row]:
    """The same rows, compared anew from their values, and those of promises that are not among them."""
    found = []
    for row in rows:
        theirs = _values(rows, row, row.against)
        found.append(row if theirs is None else row.compared(str(row.against), theirs, row.goal, row.within))
    for promise in PROMISES:
        for row in [row for row in found if (row.case, row.contender) == (promise.case, promise.contender)]:
            theirs = _values(rows, row, promise.against)
            if theirs is None or not re.search(promise.setting, row.setting):
                continue
            promised = row.compared(promise.against, theirs, promise.goal, promise.within)
            own = [at for at, one in enumerate(found) if _same(one, row)]
            at = next((at for at in own if found[at].against in (promise.against, None)), None)
            if at is None:
                found.insert(own[-1] + 1, promised)
            else:
                found[at] = promised
    return found


def _same(one: Row, other: Row) -> bool:
    return (one.case, one.setting, one.contender, one.unit) == (other.case, other.setting, other.contender, other.unit)


def _values(rows: Sequence[Row], row: Row, name: str | None) -> tuple[float, ...] | None:
    """What another contender has taken in the same setting and as many rounds."""
    return next(
        (
            one.values
            for one in rows
            if name is not None and _same(one, replace(row, contender=name)) and len(one.values) == len(row.values)
        ),
        None,
    )
