"""The tables that set arms against each other: factors laid out, comparisons, tests, effects, answers."""

from __future__ import annotations

from collections.abc import Sequence

from lenet_lab.report.facts import Contrast, Facts
from lenet_lab.report.numbers import NONE, decimals, ends, optional, p_value, plus_minus, shown, signed
from lenet_lab.report.question import measure
from lenet_lab.report.table import Cell, Table


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
    family = f"over the first {facts.family}"
    if facts.family == len(rows):
        family = "over the one comparison" if facts.family == 1 else f"over the {facts.family} comparisons"
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


def answers(facts: Facts) -> Table | None:
    """McNemar's test, one row a pair of networks."""
    if not facts.answers:
        return None
    rows = tuple(
        (
            Cell.of(facts.arm(one.arm)),
            Cell.of(facts.arm(one.base)),
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


def _contrast(facts: Facts, one: Contrast) -> tuple[Cell, ...]:
    sign = signed(measure(facts.metric))
    adjusted = "not in the family" if one.adjusted is None and one.p is not None else optional(one.adjusted, p_value)
    return (
        Cell.of(facts.arm(one.arm)),
        Cell.of(facts.arm(one.base)),
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
