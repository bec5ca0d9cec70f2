"""Numbers as text, the same in every format."""

from __future__ import annotations

from collections.abc import Callable

from lenet_lab.report.facts import Spread

NONE = "—"
Format = Callable[[float], str]


def percent(share: float) -> str:
    """A share of 0..1 in percent with two decimals, without the sign."""
    return f"{100 * share:.2f}"


def decimals(places: int) -> Format:
    return lambda value: f"{value:,.{places}f}"


def plus_minus(spread: Spread | None, show: Format) -> str:
    """`mean ± sd`; the mean alone for n=1; a dash for nothing."""
    if spread is None:
        return NONE
    return show(spread.mean) if spread.sd is None else f"{show(spread.mean)} ± {show(spread.sd)}"


def interval(spread: Spread | None, show: Format) -> str:
    if spread is None or spread.low is None or spread.high is None:
        return NONE
    return f"{show(spread.low)} to {show(spread.high)}"


def span(spread: Spread | None) -> str:
    """A count that is mostly the same in all runs: that count, else its range."""
    if spread is None:
        return NONE
    low, high = min(spread.values), max(spread.values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def quantity(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
