"""Judged claims as tables of the page, and as lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from lenet_lab.claims.estimates import Estimate
from lenet_lab.claims.evidence import CONVERGED
from lenet_lab.claims.judge import Judged
from lenet_lab.report.numbers import NONE
from lenet_lab.report.table import Cell, Table


def numbers(judged: Sequence[Judged]) -> Table:
    """The printed numbers, each beside ours."""
    rows = []
    for one in judged:
        assert one.column is not None
        ours = one.ours[0] if one.ours else None
        rows.append(
            (
                Cell(one.claim + (f" ({one.reading})" if one.reading else "")),
                Cell(_claimed(one)),
                Cell(" / ".join(one.arms)),
                Cell(one.column.measured),
                *_ours(ours, one.says),
                Cell(one.verdict),
                Cell(one.why),
            )
        )
    head = ("Printed number", "Claimed", "Arm", "Measured on", "Ours, mean", "One run gives", "n", "Verdict", "Why")
    return Table("numbers", head, (False, True, False, False, True, True, True, False, False), tuple(rows))


def _claimed(one: Judged) -> str:
    """The printed number with its unit, and the ratio that a time is judged by."""
    assert one.column is not None
    text = f"{one.says} {one.column.unit}".strip()
    return text if one.times is None else f"{text} ({one.times:.2f} times)"


def _ours(ours: Estimate | None, says: str) -> tuple[Cell, Cell, Cell]:
    if ours is None:
        return Cell(NONE), Cell(NONE), Cell("0", 0.0)
    unit = " times" if ours.of == "times" else ""
    texts = [f"{value:.2f}" if unit else like(value, says) for value in (ours.mean, ours.low, ours.high)]
    held = f"{texts[1]} to {texts[2]}" if ours.low < ours.high else NONE
    return Cell(texts[0] + unit, ours.mean), Cell(held), Cell(str(ours.n), float(ours.n))


def like(value: float, says: str) -> str:
    """A value with as many digits as the printed number."""
    if "e" in says.lower():
        return f"{value:.2e}"
    return f"{value:,.{len(says.partition('.')[2])}f}"


def sentences(judged: Sequence[Judged]) -> Table:
    """The statements, each with what would bear it out."""
    rows = []
    for one in judged:
        found = [said(ours, one.metric) for ours in one.ours]
        rows.append(
            (
                Cell(sentence(one)),
                Cell(one.rule or NONE),
                Cell("; ".join(found) or NONE),
                Cell(str(one.n) if one.ours else NONE, float(one.n)),
                Cell(one.verdict),
                Cell(one.why),
            )
        )
    head = ("Statement", "Holds if", "Ours, with the interval that decides", "n", "Verdict", "Why")
    return Table("statements", head, (False, False, False, True, False, False), tuple(rows))


def said(ours: Estimate, metric: str = "") -> str:
    """In points, times, percent or epochs; shares as fractions where they are held against a printed fraction."""
    percent = ours.of == "difference" or metric.endswith("/acc")

    def show(value: float) -> str:
        if ours.of == "difference":
            return f"{100 * value:+.2f}".replace("-", "−")
        return f"{100 * value:.{max(digits - 2, 0)}f}" if percent else f"{value:.{digits}f}"

    digits = 0 if metric == CONVERGED and ours.low == ours.high else _digits(ours)
    unit = {"difference": " points", "times": " times"}.get(
        ours.of, {CONVERGED: " epochs"}.get(metric, "%" if percent else "")
    )
    name = f"{ours.name}: " if ours.name else ""
    held = f" ({show(ours.low)} to {show(ours.high)})" if ours.low < ours.high else ""
    return f"{name}{show(ours.mean)}{unit}{held}"


def _digits(ours: Estimate) -> int:
    """As many as show half the interval to within a third of itself, six at most; two without an interval."""
    half = (ours.high - ours.low) / 2
    return min(max(-math.floor(math.log10(half / 3)), 0), 6) if half > 0 else 2


def sentence(one: Judged) -> str:
    """A statement with its name."""
    return f"{one.claim}: {one.says}" + (" (supposed, not said)" if one.supposed else "")


def listing(judged: Iterable[Judged]) -> list[tuple[str, ...]]:
    """Claims for a terminal: claim, claimed, ours, n, verdict, why."""
    rows: list[tuple[str, ...]] = []
    for one in judged:
        if one.column is not None:
            ours, held, n = (cell.text for cell in _ours(one.ours[0] if one.ours else None, one.says))
            shown = ours if held == NONE else f"{ours} ({held})"
            name = one.claim + (f" ({one.reading})" if one.reading else "")
            rows.append((name, _claimed(one), shown, n, one.verdict, one.why))
        else:
            shown = "; ".join(said(ours, one.metric) for ours in one.ours) or NONE
            rows.append((one.claim, one.says, shown, str(one.n), one.verdict, one.why))
    return rows
