"""A table of the report, for every format that people read: text, what a column sorts by, where a cell leads."""

from __future__ import annotations

from dataclasses import dataclass

from lenet_lab.report.facts import Arm


@dataclass(frozen=True)
class Cell:
    """A cell: its text, what it sorts by, and the arm (by number) or the address that it leads to."""

    text: str
    sort: float | str | None = None
    arm: int | None = None
    link: str | None = None

    @classmethod
    def of(cls, arm: Arm) -> Cell:
        """The name of an arm."""
        return cls(arm.label, arm.label, arm=arm.number)


@dataclass(frozen=True)
class Table:
    """A table; `numbers[i]` says that column i holds numbers. The first cell of a row names it."""

    name: str
    head: tuple[str, ...]
    numbers: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
