"""`report`: the comparison, from the tracked runs alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_lab.commands.common import parser

if TYPE_CHECKING:
    from lenet_lab.records import Curves, RunRecord


def main(words: Sequence[str]) -> int:
    """Write Markdown, HTML, CSV and figures."""
    args = parser("report", "Write the comparison of tracked runs: Markdown, one HTML page, CSV, figures.")
    args.add_argument("sweep", nargs="?", help="a sweep's id, or its beginning; default: every tracked run")
    args.add_argument("--out", type=Path, default=Path("reports/all"), metavar="DIR", help="default: %(default)s")
    args.add_argument("--from", type=Path, dest="file", metavar="FILE.zip", help="an export, instead of a store")
    chosen = args.parse_args(words)
    from lenet_lab.records import LabError
    from lenet_lab.report import build, write

    records, curves = _exported(chosen.file, chosen.sweep) if chosen.file else _tracked(chosen.store, chosen.sweep)
    if not records:
        raise LabError("report: no tracked runs to report on; run something first")
    out = write(build(records, curves), chosen.out)
    print(f"report on {len(curves)} runs: {out / 'report.html'}, {out / 'report.md'}, {out / 'arms.csv'}")
    return 0


def _tracked(uri: str | None, sweep: str | None) -> tuple[list[RunRecord], Curves]:
    """The runs of a store, and the curves of those that count."""
    from lenet_lab.report.facts import CURVES
    from lenet_lab.tracking import open_store, read_curves, read_runs
    from lenet_lab.tracking.parents import cells_of, find_parent

    store = open_store(uri, create=False)
    records = read_runs(store)
    if sweep:
        keys = {cell["key"] for cell in cells_of(store, find_parent(store, sweep))}
        records = [record for record in records if record.key in keys]
    counted = [record.run_id for record in records if record.state in ("complete", "diverged")]
    return records, read_curves(store, counted, CURVES)


def _exported(file: Path, sweep: str | None) -> tuple[list[RunRecord], Curves]:
    """The runs of an export, all of which count."""
    from lenet_lab.tracking.exports import read_export

    export = read_export(file)
    records = export.of_sweep(sweep) if sweep else export.records
    return records, {record.run_id: export.curves[record.run_id] for record in records}
