"""Numbers as text, the same in every format."""

from __future__ import annotations

from collections.abc import Callable

from lenet_lab.report.facts import Spread
from lenet_lab.report.question import Measure

NONE = "—"
Format = Callable[[float], str]


def percent(share: float) -> str:
    """A share of 0..1 in percent with two decimals, without the sign."""
    return f"{100 * share:.2f}"


def decimals(places: int) -> Format:
    return lambda value: f"{value:,.{places}f}"


def shown(measure: Measure) -> Format:
    """The values of a metric, in its unit, without it."""
    return lambda value: f"{measure.scale * value:,.{measure.places}f}"


def signed(measure: Measure) -> Format:
    """A difference of the same, with its sign; a true minus, and no sign for what rounds to zero."""
    show = shown(measure)

    def text(value: float) -> str:
        plain = show(abs(value))
        return plain if not plain.strip("0.,") else f"{'+' if value > 0 else '−'}{plain}"

    return text


def optional(value: float | None, show: Format) -> str:
    return NONE if value is None else show(value)


def ends(low: float | None, high: float | None, show: Format) -> str:
    return NONE if low is None or high is None else f"{show(low)} to {show(high)}"


def p_value(p: float) -> str:
    """A p-value with three decimals; below that its order."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def plus_minus(spread: Spread | None, show: Format) -> str:
    """`mean ± sd`; the mean alone for n=1; a dash for nothing."""
    if spread is None:
        return NONE
    return show(spread.mean) if spread.sd is None else f"{show(spread.mean)} ± {show(spread.sd)}"


def interval(spread: Spread | None, show: Format) -> str:
    return NONE if spread is None else ends(spread.low, spread.high, show)


def span(spread: Spread | None) -> str:
    """A count that is mostly the same in all runs: that count, else its range."""
    if spread is None:
        return NONE
    low, high = min(spread.values), max(spread.values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def quantity(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
