"""`bench`: how fast training is on this machine, and against what."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path


def main(words: Sequence[str]) -> int:
    """Measure, print a table, and write it as JSON where asked; exit status 1 where a contender fails."""
    args = argparse.ArgumentParser(
        "python -m lenet_lab bench",
        description="How fast training is here: this harness, bare PyTorch loops and Lightning as tutorials use it, in "
        "processes of their own, in turn. Nothing is tracked. Leave the machine alone while it measures.",
    )
    args.add_argument(
        "case",
        nargs="*",
        metavar="CASE",
        help="epoch, packed, side, replicas, compiled, start, stores or profile; default: epoch",
    )
    args.add_argument("--rounds", type=int, default=5, metavar="N", help="of each measurement (default: 5)")
    args.add_argument("--out", type=Path, metavar="FILE", help="also write the measurements as JSON")
    chosen = args.parse_args(words)
    from lenet_lab.bench import CASES, run_case, text
    from lenet_lab.bench.machine import machine, mnist_root
    from lenet_lab.records import LabError

    asked = chosen.case or ["epoch"]
    for name in asked:
        if name not in CASES:
            raise LabError(f"bench: {name}: no such case; allowed: {', '.join(CASES)}")
    if chosen.rounds < 1:
        raise LabError(f"bench: --rounds {chosen.rounds}: must be 1 or more")
    if chosen.out is not None and not chosen.out.parent.is_dir():
        raise LabError(f"bench: --out {chosen.out}: no folder {chosen.out.parent}")
    root = mnist_root()
    if root is None and "epoch" in asked:
        print("the MNIST files are not here, so Lightning with torchvision's data set is left out", file=sys.stderr)
    measured, failed = [], False
    for name in asked:
        try:
            rows = run_case(name, chosen.rounds, root, lambda what: print(f"measuring: {what}", file=sys.stderr))
        except RuntimeError as error:
            print(f"lenet_lab: bench: {name}: {error}", file=sys.stderr)
            failed = True
            continue
        print(f"\n{name}\n{text(rows)}", flush=True)
        measured += rows
    print(f"\n{machine()}")
    if chosen.out is not None:
        said = {"machine": machine(), "rows": [{**asdict(row), "median": row.median} for row in measured]}
        chosen.out.write_text(json.dumps(said, indent=1) + "\n")
    return 1 if failed else 0
