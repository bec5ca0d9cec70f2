"""The tables of the report, for every format that people read: text, what a column sorts by, where a cell leads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lenet_lab.report.facts import Arm, Contrast, Facts, Run
from lenet_lab.report.numbers import (
    NONE,
    decimals,
    ends,
    interval,
    optional,
    p_value,
    plus_minus,
    shown,
    signed,
    span,
)
from lenet_lab.report.question import measure

MOST_MISTAKES = 10


@dataclass(frozen=True)
class Cell:
    """A cell: its text, what it sorts by, and the arm (by number) or the address that it leads to."""

    text: str
    sort: float | str | None = None
    arm: int | None = None
    link: str | None = None


@dataclass(frozen=True)
class Table:
    """A table; `numbers[i]` says that column i holds numbers. The first cell of a row names it."""

    name: str
    head: tuple[str, ...]
    numbers: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


def arms(facts: Facts) -> Table:
    """One row an arm."""
    asked = measure(facts.metric)
    show = shown(asked)
    others = [name for name in ("test/acc", "test/errors", "test/loss", "train_eval/acc") if name != facts.metric]
    rows = []
    for arm in facts.arms:
        spread = arm.metrics.get(facts.metric)
        mean = None if spread is None else spread.mean
        rows.append(
            (
                _arm(arm),
                Cell(_runs(arm), float(arm.n)),
                Cell(plus_minus(spread, show) + _own_n(arm, facts.metric), mean),
                Cell(interval(spread, show), mean),
                Cell(_best(arm), _best(arm)),
                *(_spread(arm, name) for name in others),
            )
        )
    head = ("Arm", "Runs (n)", asked.head, f"{facts.level:.0%} interval", "May be the best")
    caption = (
        "Mean ± sample standard deviation over seeds; the interval is Student's t interval for the mean. An arm may be "
        f"the best if no other beats it in a paired t test at {_alpha(facts)}, adjusted by Holm over all pairs; "
        "an arm with diverged seeds is never among them."
    )
    numbers = (False, True, True, True, False, *(True,) * len(others))
    return Table("arms", (*head, *(measure(name).head for name in others)), numbers, tuple(rows), caption)


def cells(facts: Facts) -> Table | None:
    """The arms laid out by factors."""
    if facts.pivot is None:
        return None
    asked = measure(facts.metric)
    head = (" ".join(facts.pivot.rows) or "all", *(" ".join(_pairs(facts.pivot.columns, v)) for v in _across(facts)))
    rows = []
    for values, numbers in zip(facts.pivot.row_values, facts.pivot.cells, strict=True):
        label = " ".join(_pairs(facts.pivot.rows, values)) or "all"
        rows.append((Cell(label, label), *(_pivoted(facts, number) for number in numbers)))
    caption = f"{asked.head}: mean ± sample standard deviation over seeds. *: may be the best."
    return Table("cells", head, (False, *(True,) * (len(head) - 1)), tuple(rows), caption)


def contrasts(facts: Facts) -> Table | None:
    """One row a comparison."""
    if not facts.contrasts:
        return None
    asked = measure(facts.metric)
    unit = f", {asked.points}" if asked.points else ""
    head = (
        "Arm", "Compared with", "Seeds", f"Difference{unit}", f"{facts.level:.0%} interval", "p (sign flips)",
        "p (Holm)", "p (t test)", "Effect size", "Better in", "Reading", "Seeds that would do",
    )  # fmt: skip
    rows = tuple(_contrast(facts, one) for one in facts.contrasts)
    family = f"over the {facts.family} comparisons" if facts.family == len(rows) else f"over the first {facts.family}"
    caption = (
        f"Differences paired by seed, in {asked.words}; t interval, not adjusted. The reading rests on the sign-flip "
        f"test (exact up to 40 seeds; {NONE}: too few seeds to reach the level at all) after Holm {family}. Effect "
        "size: Hedges' g of the differences. Better in: share of seeds, a tie counting half. Seeds that would do: to "
        "show the difference seen, or the one that the study hopes for, with a power of 80%, the spread being as seen."
    )
    numbers = (False, False, *(True,) * 8, False, True)
    return Table("comparisons", head, numbers, rows, caption)


def tests(facts: Facts) -> Table | None:
    """One row a factor and a pair of factors: whether it does anything."""
    if not facts.tests:
        return None
    rows = []
    for one in facts.tests:
        name = " × ".join(one.factors)
        why = f"{NONE} (needs {one.needs} seeds)" if one.p is None else p_value(one.p)
        what = "main effect" if len(one.factors) == 1 else "interaction"
        rows.append((Cell(name, name), Cell(what, what), Cell(str(one.df), float(one.df)), Cell(why, one.p),
                     Cell(optional(one.adjusted, p_value), one.adjusted)))  # fmt: skip
    caption = (
        "Hotelling's T² over the contrasts that each seed gives, so seeds are the unit of replication; Holm over the "
        "rows of this table."
    )
    head = ("Factor", "What", "Degrees of freedom", "p", "p (Holm)")
    return Table("tests", head, (False, False, True, True, True), tuple(rows), caption)


def effects(facts: Facts) -> Table | None:
    """One row a level, or pair of levels."""
    if not facts.effects:
        return None
    asked = measure(facts.metric)
    show, sign = shown(asked), signed(asked)
    rows = []
    for one in facts.effects:
        name = " ".join(f"{factor}={level}" for factor, level in zip(one.factors, one.levels, strict=True))
        what = "main effect" if len(one.factors) == 1 else "interaction"
        rows.append((Cell(name, name), Cell(what, what), Cell(show(one.mean), one.mean),
                     Cell(sign(one.effect), one.effect), Cell(ends(one.low, one.high, sign), one.effect)))  # fmt: skip
    caption = (
        "Main effect: the level's mean less the mean over all cells. Interaction: how far a pair of levels is from the "
        "sum of its two main effects. t intervals over seeds, not adjusted for their number."
    )
    unit = f", {asked.points}" if asked.points else ""
    head = (
        "Level",
        "What",
        f"Mean {asked.head[:1].lower()}{asked.head[1:]}",
        f"Effect{unit}",
        f"{facts.level:.0%} interval",
    )
    return Table("effects", head, (False, False, True, True, True), tuple(rows), caption)


def cost(facts: Facts) -> Table:
    """What each arm costs."""
    rows = []
    for arm in facts.arms:
        speed = arm.metrics.get("images_per_s")
        mark = "" if speed is None or arm.timed_alone else " †"
        rows.append(
            (
                _arm(arm),
                _count(arm, "params/total"),
                _count(arm, "params/macs"),
                _spread(arm, "time/train_s"),
                Cell(plus_minus(speed, decimals(0)) + mark, None if speed is None else speed.mean),
                _count(arm, "epochs"),
                _spread(arm, "epochs/best"),
            )
        )
    head = ("Arm", "Parameters", "Multiply-accumulates an image", "Train time, s", "Images/s", "Epochs", "Best epoch")
    caption = (
        "Best epoch: the one with the best validation score, counted from 1. Multiply-accumulates: of one image, "
        f"forwards. {NONE}: not tracked."
    )
    return Table("cost", head, (False, *(True,) * 6), tuple(rows), caption)


def answers(facts: Facts) -> Table | None:
    """McNemar's test, one row a pair of networks."""
    if not facts.answers:
        return None
    rows = tuple(
        (
            _arm(facts.arm(one.arm)),
            _arm(facts.arm(one.base)),
            Cell(str(one.seed), float(one.seed)),
            Cell(f"{one.only_arm:,}", float(one.only_arm)),
            Cell(f"{one.only_base:,}", float(one.only_base)),
            Cell(p_value(one.p), one.p),
        )
        for one in facts.answers
    )
    caption = "McNemar's exact test. Each row speaks of two networks, not of their arms, and rows are never pooled."
    head = ("Arm", "Compared with", "Seed", "Right in the first alone", "Right in the second alone", "p")
    return Table("mcnemar", head, (False, False, True, True, True, True), rows, caption)


def mistakes(facts: Facts) -> Table | None:
    """The images that most runs got wrong."""
    if not facts.mistakes:
        return None
    who = [number for number, _, _ in facts.mistakes[0].wrong]
    rows = tuple(
        (
            Cell(str(one.index), float(one.index)),
            Cell(str(one.label), float(one.label)),
            Cell(str(one.answer), float(one.answer)),
            *(Cell(f"{wrong} of {runs}", wrong / runs) for _, wrong, runs in one.wrong),
        )
        for one in facts.mistakes[:MOST_MISTAKES]
    )
    more = len(facts.mistakes) - len(rows)
    caption = "The images that most runs got wrong" + (f"; {more} more are in facts.json." if more else ".")
    head = ("Test image", "Class", "Commonest wrong answer", *(f"Wrong in {facts.arm(n).short}" for n in who))
    return Table("mistakes", head, (False, *(True,) * (len(head) - 1)), rows, caption)


def common(facts: Facts) -> Table:
    rows = tuple((Cell(name, name), Cell(value, value)) for name, value in facts.common)
    return Table("settings", ("Setting", "Value"), (False, False), rows)


def counted(facts: Facts, runs: Sequence[Run]) -> Table:
    """The runs that count."""
    asked = measure(facts.metric)
    rows = tuple(
        (
            Cell(run.name or "(no name)", run.name, link=run.link),
            Cell(f"A{run.arm} {run.label}", f"{run.arm:06}"),
            _seed(run),
            Cell(run.state, run.state),
            Cell(optional(run.metrics.get(facts.metric), shown(asked)), run.metrics.get(facts.metric)),
            Cell(run.timing, run.timing),
            Cell(run.run_id, run.run_id),
        )
        for run in runs
    )
    head = ("Run", "Arm", "Seed", "State", asked.head, "Timing", "Run id")
    return Table("runs", head, (False, False, True, False, True, False, False), rows)


def excluded(facts: Facts) -> Table:
    """The runs that do not."""
    rows = tuple(
        (
            Cell(run.name or "(no name)", run.name, link=run.link),
            _seed(run),
            Cell(run.state, run.state),
            Cell(run.excluded, run.excluded),
            Cell(run.run_id, run.run_id),
        )
        for run in facts.excluded
    )
    head = ("Run", "Seed", "State", "Why it does not count", "Run id")
    return Table("excluded", head, (False, True, False, False, False), rows)


def _contrast(facts: Facts, one: Contrast) -> tuple[Cell, ...]:
    sign = signed(measure(facts.metric))
    adjusted = "not in the family" if one.adjusted is None and one.p is not None else optional(one.adjusted, p_value)
    return (
        _arm(facts.arm(one.arm)),
        _arm(facts.arm(one.base)),
        Cell(str(one.n), float(one.n)),
        Cell(optional(one.mean, sign), one.mean),
        Cell(ends(one.low, one.high, sign), one.mean),
        Cell(optional(one.p, p_value), one.p),
        Cell(adjusted, one.adjusted),
        Cell(optional(one.t_p, p_value), one.t_p),
        Cell(optional(one.effect, lambda v: f"{v:+.2f}".replace("-", "−")), one.effect),
        Cell(optional(one.improvement, lambda v: f"{v:.0%}"), one.improvement),
        Cell(one.reading, one.reading),
        Cell(optional(one.needed, decimals(0)), one.needed),
    )


def _pivoted(facts: Facts, number: int | None) -> Cell:
    if number is None:
        return Cell(NONE)
    arm = facts.arm(number)
    spread = arm.metrics.get(facts.metric)
    mark = (" *" if arm.best else "") + (f" (+{len(arm.diverged)} diverged)" if arm.diverged else "")
    text = plus_minus(spread, shown(measure(facts.metric))) + mark
    return Cell(text, None if spread is None else spread.mean, arm=number)


def _across(facts: Facts) -> tuple[tuple[str, ...], ...]:
    assert facts.pivot is not None
    return facts.pivot.column_values


def _pairs(names: Sequence[str], values: Sequence[str]) -> list[str]:
    return [f"{name}={value}" for name, value in zip(names, values, strict=True)] or ["all"]


def _arm(arm: Arm) -> Cell:
    return Cell(arm.label, arm.label, arm=arm.number)


def _best(arm: Arm) -> str:
    return "diverged" if arm.diverged else {True: "yes", False: "no", None: NONE}[arm.best]


def _spread(arm: Arm, name: str) -> Cell:
    spread = arm.metrics.get(name)
    text = plus_minus(spread, shown(measure(name))) + _own_n(arm, name)
    return Cell(text, None if spread is None else spread.mean)


def _count(arm: Arm, name: str) -> Cell:
    spread = arm.metrics.get(name)
    return Cell(span(spread), None if spread is None else spread.mean)


def _own_n(arm: Arm, name: str) -> str:
    """A number taken over fewer runs than the arm has says so."""
    spread = arm.metrics.get(name)
    return "" if spread is None or spread.n == arm.n else f" (n={spread.n})"


def _runs(arm: Arm) -> str:
    return f"{arm.n} (+{len(arm.diverged)} diverged)" if arm.diverged else str(arm.n)


def _seed(run: Run) -> Cell:
    return Cell(NONE if run.seed is None else str(run.seed), run.seed)


def _alpha(facts: Facts) -> str:
    return f"{1 - facts.level:.3g}"
