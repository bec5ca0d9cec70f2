"""Measurements as tables: for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from lenet_lab.bench.rows import Row

HEAD = ("setting", "contender", "median", "range", "n", "ratio", "goal")


def cells(row: Row) -> tuple[str, ...]:
    """One row as words."""
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} of {row.against}"
    if row.ratio is not None and row.unit == "s":
        more = "" if row.more is None else f" ({row.more:+.2f} s)"
        ratio = f"{1 / row.ratio:.2f} times {row.against}{more}"
    goal = ""
    if row.goal is not None:
        wanted = f"at most {1 / row.goal:.2f}" if row.unit == "s" else f"at least {row.goal:.2f}"
        goal = f"{wanted}: {'met' if row.met else 'missed'}"
    if row.within is not None:
        goal = f"at most {row.within:.2f} s more: {'met' if row.met else 'missed'}"
    if row.most is not None:
        goal = f"at most {_number(row.most, row.unit)}: {'met' if row.met else 'missed'}"
    spread = f"{_number(min(row.values), row.unit)} to {_number(max(row.values), row.unit)}"
    return row.setting, row.contender, _number(row.median, row.unit), spread, str(len(row.values)), ratio, goal


def text(rows: Sequence[Row]) -> str:
    """A table for the terminal."""
    table = [HEAD, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in table
    )


def markdown(rows: Sequence[Row]) -> str:
    """The same in Markdown."""
    lines = [HEAD, (":--", ":--", "--:", "--:", "--:", ":--", ":--"), *(cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}"
