"""`import`: bring the runs of an export into a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lenet_lab.commands.common import parser


def main(words: Sequence[str]) -> int:
    """Check the file whole, then write its runs; a run that is there already is not written twice."""
    args = parser("import", "Bring the runs of an export into a store, where they count like any other.")
    args.add_argument("file", type=Path, metavar="FILE.zip", help="what `export` has written")
    chosen = args.parse_args(words)
    from lenet_lab.tracking.imports import import_runs

    done = import_runs(chosen.file, chosen.store)
    for line in done.skipped:
        print("".join(c if c.isprintable() else "?" for c in line))
    print(
        f"imported {done.runs} runs and {done.sweeps} sweeps; {done.present} runs were there already, "
        f"{len(done.skipped)} left out"
    )
    return 0
