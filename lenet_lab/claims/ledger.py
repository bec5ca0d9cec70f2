"""The ledger: one YAML file a source, with what it claims and the configurations that put it to the test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from lenet_lab.claims.rules import NUMBER_SEEDS, Node, Rule, Text, arms_of, seeds_for
from lenet_lab.records import LabError

Reading = Literal["", "README", "code"]


class Arm(Node):
    """A configuration.

    Attributes:
        words: overrides behind the source's base, or `alone`.
        timed: its runs train one at a time.
        seeds: how many are aimed at, where it is not the source's number.
        minutes: of one core that a run takes.
        parameters: of the source's own network, where it says or its code builds them.
    """

    words: str = ""
    alone: bool = False
    timed: bool = False
    seeds: int | None = None
    minutes: float | None = None
    parameters: int | None = None


class Column(Node):
    """A printed number: which metric it is of, in which unit, and what it was measured on.

    Attributes:
        scale: what the metric is multiplied by; None: 100 for `%`, 1,000 for `ms`, else 1.
        error: the printed number is 1 less the metric.
        images: of the author's own draw, where the number rests on other images than ours.
        ratio: the arm that a time is divided by; machines differ, ratios less so.
        exact: a count, that is equal or is not.
    """

    metric: Text
    unit: Literal["", "%", "% error", "ms"]
    measured: Text
    scale: float | None = None
    error: bool = False
    images: int | None = None
    ratio: str | None = None
    exact: bool = False

    def printed(self, value: float) -> float:
        """A value of the metric in the unit of the source."""
        factor = self.scale or {"%": 100.0, "% error": 100.0, "ms": 1000.0}.get(self.unit, 1.0)
        return factor * (1 - value if self.error else value)


class Row(BaseModel):
    """A row of a printed table: its arm, where it stands, and a number as printed for each column.

    Attributes:
        also: the arm of the code, where it is not that of the README.
        doubt: column -> why the number cannot be what it says.
        decimals: column -> to how many it is known, where fewer are printed (1.0 among numbers of five).
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    arm: Text
    where: Text
    also: str | None = None
    id: str = ""
    untestable: str | None = None
    doubt: dict[str, str] = {}
    decimals: dict[str, int] = {}

    @property
    def numbers(self) -> dict[str, str]:
        """Column -> the number as printed."""
        return dict(self.model_extra or {})


class Statement(Node):
    """A sentence of the source: what would bear it out, or why that is settled without a run.

    Attributes:
        supposed: the source does not say it; what it does or how it compares supposes it.
        changed: how the rule read before, where runs were there when it was changed.
        own: the column (or two: the first less the second) of the source's numbers that the rule is tried on first.
        contradicted: what of the source itself speaks against it.
        untestable: why no run can tell.
    """

    id: Text
    says: Text
    where: Text
    supposed: bool = False
    changed: str = ""
    rule: Rule | None = None
    own: str | tuple[str, str] | None = None
    contradicted: str | None = None
    untestable: str | None = None
    note: str = ""

    @model_validator(mode="after")
    def _one_way(self) -> Statement:
        if sum(one is not None for one in (self.rule, self.contradicted, self.untestable)) != 1:
            raise ValueError("one of rule, contradicted and untestable")
        return self


class Lesson(Node):
    """What runs taught, said on the page when each claim in `when` has that verdict."""

    says: Text
    when: Mapping[str, str]


class Cell(Node):
    """One printed number: `claim` names it, `name` its column, `says` how it is printed, `reading` whose arm it is.

    Attributes:
        rounding: half a unit of the last decimal that it is known to.
    """

    claim: str
    arm: str
    name: str
    column: Column
    says: str
    rounding: float
    where: str
    reading: Reading = ""
    untestable: str | None = None
    doubt: str | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """Those that judge it: its own, and the one that a time is divided by."""
        return tuple(dict.fromkeys((self.arm, self.column.ratio or self.arm)))


class Source(Node):
    """All that one source claims.

    Attributes:
        letter: names it.
        runs: the author's own number of runs behind each printed number, as far as can be told.
        selection: what the author chose by looking at test images, as far as can be told.
        rules: when the rules were written, beside when the runs were made.
        seeds: how many runs of every arm are aimed at.
        questions: what the source leaves open, and how it was read here.
    """

    letter: str
    source: Text
    about: Text
    runs: int
    selection: Text
    rules: Text
    seeds: int
    base: str
    arms: Mapping[str, Arm]
    columns: Mapping[str, Column]
    rows: tuple[Row, ...]
    statements: tuple[Statement, ...]
    questions: tuple[str, ...] = ()
    lessons: tuple[Lesson, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        """Every printed number, twice where README and code differ."""
        return list(self._cells())

    def _cells(self) -> Iterator[Cell]:
        for row in self.rows:
            for reading, arm in _readings(row):
                for name, says in row.numbers.items():
                    yield Cell(
                        claim=".".join(filter(None, (self.letter, row.arm, row.id, name))),
                        arm=arm,
                        name=name,
                        column=self.columns[name],
                        says=says,
                        rounding=0.5 * 10.0 ** -row.decimals[name] if name in row.decimals else number(says)[1],
                        where=row.where,
                        reading=reading,
                        untestable=row.untestable,
                        doubt=row.doubt.get(name),
                    )

    @property
    def judged_by(self) -> dict[str, tuple[str, ...]]:
        """Claim -> the arms whose runs judge it, in both readings."""
        found: dict[str, tuple[str, ...]] = {}
        for cell in self.cells:
            found[cell.claim] = tuple(dict.fromkeys((*found.get(cell.claim, ()), *cell.arms)))
        for one in self.statements:
            found[f"{self.letter}.{one.id}"] = () if one.rule is None else arms_of(one.rule)
        return found

    def words(self, arm: str) -> list[str]:
        """The overrides of an arm, for the command line."""
        node = self.arms[arm]
        return [*([] if node.alone else self.base.split()), *node.words.split()]

    def aim(self, arm: str) -> int:
        """How many seeds of an arm are aimed at."""
        return self.arms[arm].seeds or self.seeds

    def command(self, arm: str, seeds: int | None = None) -> str:
        """What runs an arm, to be pasted into a shell."""
        words = [*self.words(arm), *(["sweep.workers=1"] if self.arms[arm].timed else [])]
        quoted = [f'"{word}"' if set("[](),;&|<>$*") & set(word) else word for word in words]
        return f'python -m lenet_lab -m {" ".join(quoted)} seed="range({seeds or self.aim(arm)})"'

    @model_validator(mode="after")
    def _known(self) -> Source:
        asked = [name for row in self.rows for name in (row.arm, row.also) if name]
        asked += [name for one in self.statements if one.rule is not None for name in arms_of(one.rule)]
        asked += [column.ratio for column in self.columns.values() if column.ratio]
        columns = [name for row in self.rows for name in (*row.numbers, *row.doubt, *row.decimals)]
        for one in self.statements:
            columns += [one.own] if isinstance(one.own, str) else one.own or []
        for kind, names_, known in (("arm", asked, self.arms), ("column", columns, self.columns)):
            if wrong := [name for name in names_ if name not in known]:
                raise ValueError(f"{kind} {wrong[0]!r}: not among the {kind}s")
        claims = [f"{cell.claim} {cell.reading}" for cell in self.cells] + [one.id for one in self.statements]
        for arm, seeds in self._needs():
            if self.aim(arm) < seeds:
                raise ValueError(
                    f"arm {arm!r}: {seeds} seeds decide what is claimed of it, {self.aim(arm)} are aimed at"
                )
        if double := {name for name in claims if claims.count(name) > 1}:
            raise ValueError(f"{min(double)!r}: there twice")
        return self

    def _needs(self) -> Iterator[tuple[str, int]]:
        """Each arm that a claim rests on, and the seeds that decide the claim."""
        for cell in self.cells:
            if not (cell.untestable or cell.doubt):
                yield cell.arm, 1 if cell.column.exact else NUMBER_SEEDS
        for one in self.statements:
            if one.rule is not None:
                yield from ((arm, seeds_for(one.rule)) for arm in arms_of(one.rule))


def number(text: str) -> tuple[float, float]:
    """A printed number and half a unit of its last digit."""
    value = Decimal(text.replace(",", ""))
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return float(value), 0.5 * 10.0**exponent


def _readings(row: Row) -> list[tuple[Reading, str]]:
    return [("README", row.arm), ("code", row.also)] if row.also else [("", row.arm)]


def names() -> list[str]:
    """The letters of the sources."""
    return sorted(
        file.name.removesuffix(".yaml") for file in files("lenet_lab.claims").iterdir() if file.name.endswith(".yaml")
    )


@lru_cache
def load(letter: str) -> Source:
    """The claims of one source.

    Raises:
        LabError: there is no such source, or its file is not what a ledger holds.
    """
    if letter not in names():
        raise LabError(f"claims: {letter!r}: no such source; there are: {', '.join(names())}")
    node = yaml.safe_load((files("lenet_lab.claims") / f"{letter}.yaml").read_text(encoding="utf-8"))
    try:
        return Source(letter=letter, **node)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise LabError(f"claims/{letter}.yaml: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
