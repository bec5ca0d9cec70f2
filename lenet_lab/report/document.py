"""The report as sections of sentences, tables and figures, in the order of reading; a renderer only spells them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from lenet_lab.report import comparison_tables, tables
from lenet_lab.report.facts import Arm, Facts
from lenet_lab.report.table import Table
from lenet_lab.report.words import made_of, summary, timing_note, warnings

MOST_OPEN = 30  # rows of a list of runs that is unfolded at first


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        id: names it in addresses.
        tables: a table and, for a list of runs, the arm whose runs they are.
        figures: by name; drawn only where there is something to draw.
        notes: what is said below the tables.
        code: lines for a shell.
        fold: the heading of what a page may fold away; empty: nothing is.
        folded: whether it is at first.
    """

    id: str
    title: str
    tables: tuple[tuple[Table, Arm | None], ...] = ()
    figures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fold: bool = False
    folded: bool = False
    code: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """The whole report."""

    title: str
    summary: tuple[str, ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]


def document(facts: Facts) -> Document:
    """What is to be shown of the facts."""
    return Document(facts.title, summary(facts), warnings(facts), tuple(_sections(facts)))


def _sections(facts: Facts) -> list[Section]:
    some = [
        Section("arms", "Arms", _tables(tables.arms(facts)), ("accuracy",)),
        Section("cells", "Table of cells", _tables(comparison_tables.cells(facts))),
        Section("comparisons", "Comparisons", _tables(comparison_tables.contrasts(facts)), ("differences",)),
        Section(
            "factors",
            "Factors",
            _tables(comparison_tables.tests(facts), comparison_tables.effects(facts)),
            ("interactions",),
        ),
        Section("cost", "Cost", _tables(tables.cost(facts)), ("pareto",), (timing_note(facts.arms),)),
        Section("curves", "Learning curves", (), ("learning_curves",)),
        Section(
            "answers",
            "Answers",
            _tables(comparison_tables.answers(facts), tables.mistakes(facts)),
            ("confusion", "mistakes"),
        ),
    ]
    found = [one for one in some if one.tables or one.id == "curves"] if facts.arms else []
    if facts.common:
        table = tables.common(facts)
        found.append(
            Section("settings", f"Settings common to all arms ({len(table.rows)})", _tables(table), (), (), True, True)
        )
    if facts.counted:
        groups = [
            (tables.counted(facts, list(runs)), facts.arm(number))
            for number, runs in itertools.groupby(facts.counted, key=lambda run: run.arm or 0)
        ]
        n = len(facts.counted)
        found.append(
            Section("runs", f"Runs that this rests on ({n})", tuple(groups), (), made_of(facts), True, n > MOST_OPEN)
        )
    if facts.excluded:
        title = f"Runs that do not count ({len(facts.excluded)})"
        found.append(Section("excluded", title, _tables(tables.excluded(facts)), (), (), True))
    return found


def _tables(*several: Table | None) -> tuple[tuple[Table, None], ...]:
    return tuple((table, None) for table in several if table is not None)
