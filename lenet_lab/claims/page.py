"""The page of verdicts: what was learned, every claim beside what the runs give, and the command that runs it again."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lenet_lab.claims.evidence import Evidence
from lenet_lab.claims.judge import Judged, Verdict, judge
from lenet_lab.claims.ledger import Source
from lenet_lab.claims.rules import COMPARISON_SEEDS, NUMBER_SEEDS
from lenet_lab.claims.tables import numbers, sentence, sentences
from lenet_lab.report.document import Document, Section
from lenet_lab.report.table import Cell, Table

TITLE = "Published claims, put to the test"
TOO_FEW = "Too few runs, or too short, to say"
ORDER = (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.UNDECIDED, Verdict.CONTRADICTED, Verdict.NOT_TESTABLE)
_HEADS = {
    Verdict.REPRODUCED: "Holds",
    Verdict.NOT_REPRODUCED: "Does not hold",
    Verdict.UNDECIDED: "Cannot be told from noise",
    Verdict.CONTRADICTED: "Contradicted by the source's own numbers or code, or by the data",
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
    sections.append(_how(chapters))
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
        "measured_on",
        "author_runs",
        "author_selection",
        "holds_if",
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
                one.column.measured if one.column else "",
                chapter.source.runs,
                chapter.source.selection,
                one.rule,
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
        "Sources: " + "; ".join(f"{chapter.source.letter}, {chapter.source.source}" for chapter in chapters) + ".",
    ]


def _how(chapters: Sequence[Chapter]) -> Section:
    """The rules that all sources have in common, and what a reader who trusts nobody can do."""
    superseded = sum(chapter.evidence.superseded for chapter in chapters)
    later = f" ({superseded} runs of the exports are older ones of that kind)" if superseded else ""
    notes = (
        "A printed number is reproduced when it lies where one new run would fall with a chance of 95% "
        "(mean ± t s √(1 + 1/n)), widened by its rounding and, for an accuracy that may rest on other images "
        "than ours, by the binomial error of both draws: our runs do not speak against it, which "
        "wide intervals seldom do. A comparison is reproduced, or not, when the 95% interval of the paired difference "
        f"says so. {NUMBER_SEEDS} seeds decide a number, {COMPARISON_SEEDS} a comparison; counts are equal or are not. "
        "What bears out each statement stands beside it.",
        "Each claim is judged by itself, without a correction for their number: of twenty printed numbers that are "
        "true, one is expected to be missed, and of twenty differences that are none, one to be found. "
        "Numbers of one row are not independent: errors, accuracy and F1 are nearly the same thing said three times.",
        "Intervals of comparisons speak of other seeds, not of other test images.",
        "When rules were written: "
        + " ".join(f"{chapter.source.letter}: {chapter.source.rules}." for chapter in chapters)
        + " Where a run was made again, with newer code, the latest counts, whatever it says"
        + later
        + ".",
        "Where the README and the code of a source differ in a row, that row was run both ways and both are shown. "
        "Times are ratios on the machine of these runs.",
        "Any line can be run again from nothing, here A.max, in a store of its own; its verdict is shown in the end. "
        "Seeds are the same; last digits and times are those of the machine.",
    )
    code = (
        "python -m lenet_lab claims A.max --run --store sqlite:///again.db --out again",
        "python -m lenet_lab claims --check    # is this page what the committed exports give?",
    )
    return Section("how", "How claims are judged", notes=notes, code=code)


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
                found.append(
                    f"{chapter.source.source}: {lesson.says} ({', '.join(lesson.when) or chapter.source.letter})"
                )
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
    lines = [f"{sentence(one)}{f' ({one.why})' if one.why else ''}" for one in judged if one.column is None]
    numbers = Counter(one.claim.partition(".")[0] for one in judged if one.column is not None)
    if numbers:
        lines.append("Printed numbers: " + ", ".join(f"{n} of {letter}" for letter, n in sorted(numbers.items())) + ".")
    return tuple(lines)


def _chapter(chapter: Chapter) -> list[Section]:
    source = chapter.source
    printed = [one for one in chapter.judged if one.column is not None]
    said = [one for one in chapter.judged if one.column is None]
    notes = [
        source.about,
        f"Runs behind each of the author's numbers: {source.runs}. Chosen by test images: {source.selection}.",
        f"{_counts(chapter.judged)}.",
        *(f"How it was read: {text}" for text in source.questions),
    ]
    commands = [line for arm in source.arms for line in (f"# {arm}: {_ran(chapter, arm)}", source.command(arm))]
    tables = tuple((made, None) for made in (numbers(printed), sentences(said)) if made.rows)
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


def _missing(chapters: Sequence[Chapter]) -> Section:
    """What has not been run, and the command that would."""
    lines, total = [], 0.0
    for chapter in chapters:
        for arm in chapter.source.arms:
            left = chapter.source.aim(arm) - len(chapter.evidence.runs.get(arm, ()))
            if left > 0:
                cost = chapter.source.arms[arm].minutes
                total += left * (cost or 0)
                price = f", about {cost:g} minutes {'each ' if left > 1 else ''}on one core" if cost else ""
                lines.append(f"{chapter.source.letter}.{arm}: {left} run{'s' if left > 1 else ''}{price}")
    notes = (
        f"About {total / 60:.0f} hours of one core in all. claims --run runs them, the cheapest first; "
        "a run that is there is not made again. Minutes are estimates.",
    )
    made = Table("missing", ("Arm, runs, cost",), (False,), tuple((Cell(line),) for line in lines))
    return Section("missing", "What has not been run", ((made, None),) if lines else (), (), notes if lines else ())


def _filled(section: Section) -> bool:
    return bool(section.tables or section.notes or section.code)
