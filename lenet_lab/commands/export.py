"""`export`: tracked runs as one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lenet_lab.commands.common import parser


def main(words: Sequence[str]) -> int:
    """Write the runs that count into one file."""
    args = parser("export", "Write tracked runs, complete and diverged, and their sweeps as one file.")
    args.add_argument("sweep", nargs="?", help="a sweep's id, its beginning, or its study's name; default: every run")
    args.add_argument("--out", type=Path, required=True, metavar="FILE.zip", help="the file to write")
    args.add_argument(
        "--artifacts",
        choices=("all", "predictions", "none"),
        default="none",
        help="which files of the runs go with them; default: %(default)s",
    )
    chosen = args.parse_args(words)
    from lenet_lab.tracking import open_store
    from lenet_lab.tracking.exports import write_export

    store = open_store(chosen.store, create=False)
    runs, sweeps = write_export(store, chosen.out, chosen.sweep, chosen.artifacts)
    print(f"exported {runs} runs and {sweeps} sweeps: {chosen.out}")
    return 0
