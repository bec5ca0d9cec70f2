"""Simulated populations, and tables of how often something held beside how often it should."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL, ALPHA = 0.95, 0.05
STEP = 1 / 2000
ROUNDS = 4_000
AGAIN = 4  # times as many studies for a case that missed
Values = NDArray[np.float64]
Case = tuple[Any, ...]


def normal(rng: np.random.Generator, *shape: int) -> Values:
    """Standard normal."""
    return rng.normal(size=shape)


def skewed(rng: np.random.Generator, *shape: int) -> Values:
    """Exponential less 1: mean 0, deviation 1, skewness 2."""
    return rng.exponential(size=shape) - 1


def discrete(rng: np.random.Generator, *shape: int) -> Values:
    """Accuracies around 0.97 in steps of 1/2000, their deviation two steps: many of them are equal."""
    return 0.97 + STEP * np.round(2 * rng.normal(size=shape))


DRAW: dict[str, Callable[..., Values]] = {"normal": normal, "skewed": skewed, "discrete": discrete}
MEAN = {"normal": 0.0, "skewed": 0.0, "discrete": 0.97}


@dataclass(frozen=True)
class Row:
    """How often something held in `rounds` simulated studies, and what was promised.

    `bar`: `most` (at most the promise, plus two standard errors), `least` (at least, less two), `equal` (within
    two), `within` (within one point, or two standard errors where these are more); none where the figure is
    shown and nothing is promised.
    """

    name: str
    n: int
    held: int
    rounds: int
    promised: float
    bar: str = ""
    note: str = ""

    @property
    def rate(self) -> float:
        return self.held / self.rounds

    @property
    def ok(self) -> bool:
        slack = 2 * math.sqrt(self.promised * (1 - self.promised) / self.rounds)
        off = round(self.rate - self.promised, 12)
        return {
            "most": off <= slack,
            "least": off >= -slack,
            "equal": abs(off) <= slack,
            "within": abs(off) <= max(0.01, slack),
            "": True,
        }[self.bar]


@dataclass(frozen=True)
class Table:
    """`simulate(rng, rounds, *case)` yields the rows of a case."""

    title: str
    cases: Sequence[Case]
    simulate: Callable[..., Iterator[Row]]

    def rows(self, case: Case, rounds: int = ROUNDS) -> list[Row]:
        """The rows of one case, always from the same draws.

        With 50 bars of two standard errors, two or three are missed by chance alone. A row that misses is
        therefore drawn once more, four times as long: the second figure decides, and the first is shown beside it.
        """
        first = list(self.simulate(self._generator(case), rounds, *case))
        if all(row.ok for row in first):
            return first
        second = self.simulate(self._generator((*case, "again")), AGAIN * rounds, *case)
        return [
            one if one.ok else replace(other, note=f"{other.note} (first: {one.rate:.2%})")
            for one, other in zip(first, second, strict=True)
        ]

    def _generator(self, words: Case) -> np.random.Generator:
        text = " ".join(map(str, (self.simulate.__name__, *words)))
        return np.random.default_rng([1998, zlib.crc32(text.encode())])


TABLES: dict[str, Table] = {}


def table(title: str, cases: Sequence[Case]) -> Callable[[Callable[..., Iterator[Row]]], Callable[..., Iterator[Row]]]:
    """Puts a simulation on the list, under its own name."""

    def put(simulate: Callable[..., Iterator[Row]]) -> Callable[..., Iterator[Row]]:
        TABLES[simulate.__name__] = Table(title, cases, simulate)
        return simulate

    return put


def arm(values: Values) -> dict[int, float]:
    """Seed -> value."""
    return dict(enumerate(values.tolist()))


def line(row: Row) -> str:
    """The row as a line of a Markdown table."""
    words = {"most": "at most {}", "least": "at least {}", "equal": "{}", "within": "{} ± 1%", "": "no promise"}
    promise = words[row.bar].format(f"{row.promised:.2%}".replace(".00%", "%"))
    holds = ("yes" if row.ok else "**no**") if row.bar else "-"
    return f"| {row.name} | {row.n} | {row.rate:.2%}{row.note} | {promise} | {row.rounds:,} | {holds} |"


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, without a final newline."""
    head = ["| what | n | measured | promised | studies | holds |", "|:--|--:|--:|:--|--:|:--|"]
    return "\n".join([*head, *map(line, rows)])
