"""`report`: the comparison, from the tracked runs alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lenet_lab.commands.common import parser


def main(words: Sequence[str]) -> int:
    """Write Markdown, HTML, CSV and figures."""
    args = parser("report", "Write the comparison of tracked runs: Markdown, one HTML page, CSV, figures.")
    args.add_argument("sweep", nargs="?", help="a sweep's id, or its beginning; default: every tracked run")
    args.add_argument("--out", type=Path, default=Path("reports/all"), metavar="DIR", help="default: %(default)s")
    chosen = args.parse_args(words)
    from lenet_lab.records import LabError
    from lenet_lab.report import build, write
    from lenet_lab.report.facts import CURVES
    from lenet_lab.tracking import open_store, read_curves, read_runs
    from lenet_lab.tracking.parents import cells_of, find_parent

    store = open_store(chosen.store, create=False)
    records = read_runs(store)
    if chosen.sweep:
        keys = {cell["key"] for cell in cells_of(store, find_parent(store, chosen.sweep))}
        records = [record for record in records if record.key in keys]
    if not records:
        raise LabError("report: no tracked runs to report on; run something first")
    counted = [record.run_id for record in records if record.state in ("complete", "diverged")]
    facts = build(records, read_curves(store, counted, CURVES))
    out = write(facts, chosen.out)
    print(f"report on {len(counted)} runs: {out / 'report.html'}, {out / 'report.md'}, {out / 'arms.csv'}")
    return 0
