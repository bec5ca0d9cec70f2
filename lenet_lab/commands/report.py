"""`report`: the comparison, from the tracked runs alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_lab.commands.common import parser

if TYPE_CHECKING:
    from lenet_lab.commands.chosen import Chosen
    from lenet_lab.report import Facts, Question
    from lenet_lab.report.figures import Images

EPILOG = """An arm is named by what sets it apart: "pool=max norm=bn". Exit status: 0; 1 where --check finds the report
stale; 2 for a mistake in the command."""


def main(words: Sequence[str]) -> int:
    """Write Markdown, HTML, LaTeX, CSV, the facts and figures; or check what is there."""
    args = _parser()
    chosen = args.parse_args(words)
    if not 0.5 <= chosen.level < 1:
        args.error(f"--level {chosen.level}: from 0.5 to below 1")
    if chosen.attach and (chosen.file or chosen.check):
        args.error("--attach: wants a store, and writes; not with --from or --check")
    from lenet_lab.commands import chosen as choose
    from lenet_lab.records import LabError
    from lenet_lab.report import build, write
    from lenet_lab.report.write import stale

    runs = choose.exported(chosen.file, chosen.word) if chosen.file else choose.tracked(chosen.store, chosen.word)
    if chosen.attach and runs.parent is None:
        raise LabError("report: --attach: name a sweep, whose page the report goes to")
    if not runs.records:
        cells = f"none of its {len(runs.asked)} cells has a run" if runs.asked else "no tracked runs to report on"
        raise LabError(f"report: {runs.title}: {cells}; run something first")
    facts = build(runs.records, runs.curves, _question(chosen, runs), runs.predictions)
    out = chosen.out or Path("reports") / runs.folder
    if chosen.check:
        wrong = stale(facts, out)
        if wrong:
            print(f"report: {out} is stale: {', '.join(wrong)}; the same command without --check writes it anew")
        return 1 if wrong else 0
    out = write(facts, out, _images(facts, runs))
    print(f"report on {len(facts.counted)} runs: {out / 'report.html'}, {out / 'report.md'}, {out / 'arms.csv'}")
    if chosen.attach:
        _attach(runs, facts, out)
    return 0


def _parser() -> argparse.ArgumentParser:
    about = "Write the comparison of tracked runs: Markdown, one HTML page, LaTeX, CSV, the facts, figures."
    args = parser("report", about, EPILOG)
    args.add_argument(
        "word", nargs="?", metavar="STUDY|SWEEP|FILTER",
        help="a study, a sweep's id (or its beginning), or MLflow's filter syntax such as \"params.pool = 'max' and "
        "metrics.test/acc > 0.9\"; default: every tracked run",
    )  # fmt: skip
    args.add_argument("--out", type=Path, metavar="DIR", help="default: reports/ and the study, the sweep, or `all`")
    args.add_argument("--from", type=Path, dest="file", metavar="FILE.zip", help="an export, instead of a store")
    args.add_argument("--metric", metavar="NAME", help="what is compared; default: the study's, else test/acc")
    args.add_argument("--baseline", metavar="ARM", help="the arm the others are compared with")
    args.add_argument(
        "--pair", nargs=2, action="append", default=[], metavar="ARM", help="compare the first with the second"
    )
    args.add_argument("--rows", type=_listed, default=(), metavar="F[,F]", help="factors down the table of cells")
    args.add_argument("--columns", type=_listed, default=(), metavar="F[,F]", help="factors across it")
    args.add_argument("--level", type=float, default=0.95, help="of intervals and tests; default: %(default)s")
    args.add_argument("--mcnemar", action="store_true", help="compare networks of one seed by their answers")
    args.add_argument("--mixed", action="store_true", help="let runs of different test sets stand in one table")
    args.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the report is stale")
    args.add_argument("--attach", action="store_true", help="also put it on the sweep's page in MLflow")
    return args


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _question(given: argparse.Namespace, runs: Chosen) -> Question:
    from lenet_lab.commands.chosen import defaults
    from lenet_lab.report import Question
    from lenet_lab.study import METRIC

    return Question(
        title=runs.title,
        metric=given.metric or (runs.study.metric if runs.study else METRIC),
        level=given.level,
        baseline=given.baseline,
        study=runs.study,
        defaults=defaults(),
        pairs=tuple((one, other) for one, other in given.pair),
        rows=given.rows,
        columns=given.columns,
        mcnemar=given.mcnemar,
        mixed=given.mixed,
        asked=runs.asked,
    )


def _images(facts: Facts, runs: Chosen) -> Images | None:
    """The images of the mistakes, where the data set is at hand; a report never downloads one."""
    if not facts.mistakes or len(facts.test_sets) != 1:
        return None
    from lenet_lab.commands.pictures import test_images
    from lenet_lab.records import LabError

    row = next(record for record in runs.records if record.run_id == facts.counted[0].run_id)
    try:
        return test_images(row, [one.index for one in facts.mistakes])
    except LabError:
        return None


def _attach(runs: Chosen, facts: Facts, out: Path) -> None:
    from lenet_lab.report.markdown import attached
    from lenet_lab.tracking.parents import attach

    attach(runs.store, str(runs.parent), out / "report.html", *attached(facts))
    print(f"attached to the sweep's run {runs.parent}")
