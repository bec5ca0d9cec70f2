"""The page of verdicts: what was learned, every claim beside what the runs give, and the command that runs it again."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lenet_lab.claims.estimates import Estimate
from lenet_lab.claims.evidence import Evidence
from lenet_lab.claims.judge import Judged, Verdict, judge
from lenet_lab.claims.ledger import Source
from lenet_lab.claims.rules import COMPARISON_SEEDS, NUMBER_SEEDS
from lenet_lab.report.document import Document, Section
from lenet_lab.report.numbers import NONE
from lenet_lab.report.table import Cell, Table

TITLE = "Published claims, put to the test"
TOO_FEW = "Too few runs to say"
ORDER = (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.UNDECIDED, Verdict.CONTRADICTED, Verdict.NOT_TESTABLE)
_HEADS = {
    Verdict.REPRODUCED: "Holds",
    Verdict.NOT_REPRODUCED: "Does not hold",
    Verdict.UNDECIDED: "Cannot be told from noise",
    Verdict.CONTRADICTED: "Contradicted by its own numbers, code or data",
    Verdict.NOT_TESTABLE: "Not testable",
}


@dataclass(frozen=True)
class Chapter:
    """A source, its evidence, and what follows."""

    source: Source
    evidence: Evidence
    judged: tuple[Judged, ...]

    @classmethod
    def of(cls, source: Source, evidence: Evidence) -> Chapter:
        """The judged claims of a source."""
        return cls(source, evidence, tuple(judge(source, evidence)))


def document(chapters: Sequence[Chapter]) -> Document:
    """The whole page."""
    sections = [Section("learned", "What was learned", notes=tuple(_lessons(chapters)))]
    sections += [section for verdict in ORDER for section in _verdicts(chapters, verdict)]
    for chapter in chapters:
        sections += _chapter(chapter)
    sections.append(_missing(chapters))
    return Document(TITLE, tuple(_summary(chapters)), (), tuple(one for one in sections if _filled(one)))


def table(chapters: Sequence[Chapter]) -> str:
    """Every claim as CSV: numbers in the unit of the claim."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = (
        "claim",
        "reading",
        "says",
        "unit",
        "where",
        "verdict",
        "why",
        "n",
        "set_against",
        "mean",
        "low",
        "high",
        "arms",
    )
    writer.writerow(head)
    for chapter in chapters:
        for one in chapter.judged:
            fixed = (
                one.claim,
                one.reading,
                one.says,
                one.column.unit if one.column else "",
                one.where,
                one.verdict,
                one.why,
            )
            for ours in one.ours or (None,):
                numbers = (
                    ("", "", "", "", "")
                    if ours is None
                    else (ours.n, ours.name, *(f"{value:.9g}" for value in (ours.mean, ours.low, ours.high)))
                )
                writer.writerow((*fixed, *numbers, " ".join(one.arms)))
    return out.getvalue()


def _summary(chapters: Sequence[Chapter]) -> list[str]:
    everything = [one for chapter in chapters for one in chapter.judged]
    twice = len(everything) - len({one.claim for one in everything})
    runs = {record.run_id for chapter in chapters for several in chapter.evidence.runs.values() for record in several}
    return [
        f"{len(everything)} claims of {len(chapters)} sources, {twice} of them a second reading of another, "
        f"{len(runs)} runs: {_counts(everything)}.",
        "A printed number is reproduced when it lies where one new run would fall with a chance of 95% "
        "(mean ± t s √(1 + 1/n)), widened by its rounding and, for an accuracy that may rest on other images "
        "than ours, by the binomial error of both draws: our runs do not speak against it. A comparison is "
        "reproduced, or not, when the 95% interval of the paired difference says so. "
        f"{NUMBER_SEEDS} seeds decide a number, {COMPARISON_SEEDS} a comparison; counts are equal or they are not.",
        "Each claim is judged by itself, without a correction for their number: of twenty printed numbers that are "
        "true, one is expected to be missed, and of twenty differences that are none, one to be found. Where README "
        "and code differ, both were run and both are shown. Times are ratios on the machine of these runs.",
        "Sources: " + "; ".join(f"{chapter.source.letter}, {chapter.source.source}" for chapter in chapters) + ".",
    ]


def _counts(judged: Sequence[Judged]) -> str:
    counted = Counter(one.verdict for one in judged)
    return ", ".join(f"{counted[verdict]} {verdict}" for verdict in ORDER if counted[verdict])


def _lessons(chapters: Sequence[Chapter]) -> list[str]:
    """What the sources' files would teach, where the verdicts bear it out."""
    found = []
    for chapter in chapters:
        judged = [one for one in chapter.judged if not _open(one)]
        verdicts = {f"{one.claim} {one.reading}".strip(): one.verdict for one in judged}
        for lesson in chapter.source.lessons:
            if all(verdicts.get(name) == verdict for name, verdict in lesson.when.items()):
                found.append(f"{lesson.says} ({', '.join(lesson.when) or chapter.source.letter})")
    return found


def _verdicts(chapters: Sequence[Chapter], verdict: Verdict) -> list[Section]:
    """The sentences with this verdict, and how many numbers; those that more runs would decide by themselves."""
    judged = [one for chapter in chapters for one in chapter.judged if one.verdict == verdict]
    open_ = [one for one in judged if _open(one)]
    heads = ((_HEADS[verdict], [one for one in judged if one not in open_]), (TOO_FEW, open_))
    return [Section(f"v-{head.lower().replace(' ', '-')}", head, notes=_listed(several)) for head, several in heads]


def _open(one: Judged) -> bool:
    """Whether more runs would decide it, or show that it cannot be told."""
    return one.verdict == Verdict.UNDECIDED and one.n < one.seeds


def _listed(judged: Sequence[Judged]) -> tuple[str, ...]:
    lines = [f"{one.claim}: {one.says}{f' ({one.why})' if one.why else ''}" for one in judged if one.column is None]
    numbers = Counter(one.claim.partition(".")[0] for one in judged if one.column is not None)
    if numbers:
        lines.append("Printed numbers: " + ", ".join(f"{n} of {letter}" for letter, n in sorted(numbers.items())) + ".")
    return tuple(lines)


def _chapter(chapter: Chapter) -> list[Section]:
    source = chapter.source
    numbers = [one for one in chapter.judged if one.column is not None]
    sentences = [one for one in chapter.judged if one.column is None]
    notes = [
        source.about,
        f"{_counts(chapter.judged)}.",
        *(f"Left open by the source: {text}" for text in source.questions),
    ]
    commands = [line for arm in source.arms for line in (f"# {arm}: {_ran(chapter, arm)}", source.command(arm))]
    tables = tuple((made, None) for made in (_numbers(numbers), _sentences(sentences)) if made.rows)
    return [
        Section(source.letter, f"{source.letter}: {source.source}", tables, (), tuple(notes)),
        Section(
            f"{source.letter}-runs",
            f"{source.letter}: the runs, and how to make them again",
            code=tuple(commands),
            fold=True,
            folded=True,
        ),
    ]


def _ran(chapter: Chapter, arm: str) -> str:
    runs = chapter.evidence.runs.get(arm, ())
    diverged = chapter.evidence.diverged(arm)
    return f"{len(runs)} of {chapter.source.aim(arm)} seeds run" + (f", {diverged} diverged" if diverged else "")


def _numbers(judged: Sequence[Judged]) -> Table:
    rows = []
    for one in judged:
        assert one.column is not None
        ours = one.ours[0] if one.ours else None
        rows.append(
            (
                Cell(one.claim + (f" ({one.reading})" if one.reading else "")),
                Cell(_claimed(one)),
                Cell(one.column.measured),
                *_ours(ours, one.says),
                Cell(one.verdict),
                Cell(one.why),
            )
        )
    head = ("Printed number", "Claimed", "Measured on", "Ours, mean", "One run gives", "n", "Verdict", "Why")
    return Table("numbers", head, (False, True, False, True, True, True, False, False), tuple(rows))


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


def _sentences(judged: Sequence[Judged]) -> Table:
    rows = []
    for one in judged:
        said = [_said(ours) for ours in one.ours]
        rows.append(
            (
                Cell(f"{one.claim}: {one.says}"),
                Cell("; ".join(said) or NONE),
                Cell(str(one.n) if one.ours else NONE, float(one.n)),
                Cell(one.verdict),
                Cell(one.why),
            )
        )
    head = ("Statement", "Ours, with the 95% interval", "n", "Verdict", "Why")
    return Table("statements", head, (False, False, True, False, False), tuple(rows))


def _said(ours: Estimate) -> str:
    def show(value: float) -> str:
        if ours.of == "difference":
            return f"{100 * value:+.2f}".replace("-", "−")
        return f"{value:.{digits}f}"

    digits = _digits(ours)
    unit = {"difference": " points", "times": " times"}.get(ours.of, "")
    name = f"{ours.name}: " if ours.name else ""
    held = f" ({show(ours.low)} to {show(ours.high)})" if ours.low < ours.high else ""
    return f"{name}{show(ours.mean)}{unit}{held}"


def _digits(ours: Estimate) -> int:
    """As many as show half the interval to within a third of itself, six at most; two without an interval."""
    half = (ours.high - ours.low) / 2
    return min(max(-math.floor(math.log10(half / 3)), 0), 6) if half > 0 else 2


def _missing(chapters: Sequence[Chapter]) -> Section:
    """What has not been run, and the command that would."""
    lines = []
    for chapter in chapters:
        for arm in chapter.source.arms:
            left = chapter.source.aim(arm) - len(chapter.evidence.runs.get(arm, ()))
            if left > 0:
                cost = chapter.source.arms[arm].minutes
                price = f", about {cost:g} minutes {'each ' if left > 1 else ''}on one core" if cost else ""
                lines.append(f"{chapter.source.letter}.{arm}: {left} run{'s' if left > 1 else ''}{price}")
    notes = (
        "claims --run runs them, the cheapest first; a run that is there is not made again. Minutes are estimates.",
    )
    made = Table("missing", ("Not run yet",), (False,), tuple((Cell(line),) for line in lines))
    return Section("missing", "What could not be run", ((made, None),) if lines else (), (), notes if lines else ())


def _filled(section: Section) -> bool:
    return bool(section.tables or section.notes or section.code)


def listing(chapter: Chapter) -> list[tuple[str, ...]]:
    """The claims of a source for a terminal: claim, claimed, ours, n, verdict, why."""
    rows: list[tuple[str, ...]] = []
    for one in chapter.judged:
        if one.column is not None:
            ours, held, n = (cell.text for cell in _ours(one.ours[0] if one.ours else None, one.says))
            said = ours if held == NONE else f"{ours} ({held})"
            name = one.claim + (f" ({one.reading})" if one.reading else "")
            rows.append((name, _claimed(one), said, n, one.verdict, one.why))
        else:
            said = "; ".join(_said(ours) for ours in one.ours) or NONE
            rows.append((one.claim, one.says, said, str(one.n), one.verdict, one.why))
    return rows
