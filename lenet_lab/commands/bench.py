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
        help="epoch, again, packed, side, sweep, replicas, compiled, start, stores or profile; default: epoch",
    )
    args.add_argument("--rounds", type=int, default=5, metavar="N", help="of each measurement (default: 5)")
    args.add_argument("--batches", type=_numbers, metavar="N,N", help="batch sizes of a case, instead of its own")
    args.add_argument("--sizes", type=_numbers, metavar="N,N", help="of the packs of replicas, likewise")
    args.add_argument("--out", type=Path, metavar="FILE", help="also write the measurements as JSON")
    chosen = args.parse_args(words)
    from lenet_lab.bench import BATCHED, CASES, SIZED, Asked, Row, run_case, text
    from lenet_lab.bench.machine import machine, mnist_root
    from lenet_lab.engines.checkpoints import write_whole
    from lenet_lab.records import LabError

    asked = chosen.case or ["epoch"]
    for name in asked:
        if name not in CASES:
            raise LabError(f"bench: {name}: no such case; allowed: {', '.join(CASES)}")
        for option, value, able in (("--batches", chosen.batches, BATCHED), ("--sizes", chosen.sizes, SIZED)):
            if value and name not in able:
                raise LabError(f"bench: {option}: {name} has its own; allowed with: {', '.join(able)}")
    if chosen.rounds < 1:
        raise LabError(f"bench: --rounds {chosen.rounds}: must be 1 or more")
    if chosen.out is not None and not chosen.out.parent.is_dir():
        raise LabError(f"bench: --out {chosen.out}: no folder {chosen.out.parent}")
    root = mnist_root()
    if root is None and "epoch" in asked:
        print("the MNIST files are not here, so Lightning with torchvision's data set is left out", file=sys.stderr)
    how = Asked(
        chosen.rounds,
        root,
        lambda what: print(f"measuring: {what}", file=sys.stderr, flush=True),
        chosen.batches,
        chosen.sizes,
    )
    measured: list[Row] = []
    failed = False
    for name in asked:
        rows: list[Row] = []
        try:
            for row in run_case(name, how):
                rows.append(row)
                if chosen.out is not None:  # at once: what was measured is not lost with what comes later
                    said = [{**asdict(one), "median": one.median} for one in (*measured, *rows)]
                    write_whole(
                        chosen.out, (json.dumps({"machine": machine(), "rows": said}, indent=1) + "\n").encode()
                    )
        except RuntimeError as error:
            print(f"lenet_lab: bench: {name}: {error}", file=sys.stderr)
            failed = True
        if rows:
            print(f"\n{name}\n{text(rows)}", flush=True)
        measured += rows
    print(f"\n{machine()}")
    return 1 if failed else 0


def _numbers(words: str) -> tuple[int, ...]:
    if not all(word.isdigit() and int(word) for word in words.split(",")):
        raise argparse.ArgumentTypeError(f"{words}: whole numbers, 1 or more, with commas between them")
    return tuple(int(word) for word in words.split(","))
