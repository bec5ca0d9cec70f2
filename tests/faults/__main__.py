"""Inject every fault and print the table: fault, rounds, survived, lost, worst time, bar, ok.

python -m tests.faults                      # some 20 minutes on 2 idle cores
python -m tests.faults --rounds 200         # 200 kills; hours
python -m tests.faults --only locked        # the faults whose name contains it
python -m tests.faults --out faults.md      # what is done is kept beside it: given again, the command goes on
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import random
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults.harness import FAULTS, Fault, Tally

say = print


def main() -> int:
    """0 when every bar holds."""
    parser = argparse.ArgumentParser("python -m tests.faults", description="Inject faults and count what survives.")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of a fault (some do fewer); default: 20")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="faults whose name contains it")
    parser.add_argument("--seed", type=int, default=None, help="of the random moments; default: drawn, and printed")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.md", help="the table as Markdown, and FILE.jsonl: go on with it"
    )
    parser.add_argument("--list", action="store_true", help="name the faults and do nothing")
    args = parser.parse_args()
    from tests.faults import damage, jobs, kills, reports, servers, signals, stores, twins  # noqa: F401

    chosen = [fault for fault in FAULTS if not args.only or any(name in fault.name for name in args.only)]
    if args.list or not chosen:
        say("\n".join(f"{fault.name}: {fault.bar}" for fault in FAULTS))
        return 0 if args.list else 2
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    say(f"seed {seed}, {os.cpu_count()} cores", flush=True)
    tallies = [inject(fault, fault.rounds(args.rounds), seed, args.out) for fault in chosen]
    say(table(tallies, plain=True))
    if args.out is not None:
        kept = _kept(args.out)
        everything = [total(kept[fault.name], fault) for fault in FAULTS if fault.name in kept]
        args.out.write_text(table(everything, plain=False) + "\n")
    return 0 if all(tally.ok for tally in tallies) else 1


def inject(fault: Fault, rounds: int, seed: int, out: Path | None) -> Tally:
    """One fault, in parts that are kept; what goes wrong in the campaign itself counts against it."""
    parts = _kept(out).get(fault.name, []) if out is not None else []
    most = max(10, math.ceil(rounds / 10)) if out is not None else rounds
    while (left := rounds - sum(part["asked"] for part in parts)) > 0:
        tally, begun, asked = Tally(fault.name, fault.bar), time.monotonic(), min(left, most)
        try:
            fault.act(tally, asked, random.Random(f"{seed} {fault.name} {left}"))
        except Exception:
            tally.count([traceback.format_exc()])
        took = time.monotonic() - begun
        say(f"{'ok ' if tally.ok else 'BAD'} {fault.name}: {tally.survived}/{tally.rounds}, {took:.0f} s", flush=True)
        for note in tally.notes[:8]:
            say(f"    {note}", flush=True)
        parts.append({"asked": asked, **dataclasses.asdict(tally)})
        if out is not None:
            with out.with_suffix(".jsonl").open("a") as file:
                file.write(json.dumps(parts[-1]) + "\n")
    return total(parts, fault)


def _kept(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The parts of each fault that earlier commands have done."""
    found: dict[str, list[dict[str, Any]]] = {}
    path = out.with_suffix(".jsonl")
    for line in path.read_text().splitlines() if path.exists() else ():
        part = json.loads(line)
        found.setdefault(part["name"], []).append(part)
    return found


def total(parts: Sequence[dict[str, Any]], fault: Fault) -> Tally:
    """The parts of a fault as one tally: counts add up, of times and of facts named "most" or "worst" the largest."""
    whole = Tally(fault.name, fault.bar)
    for part in parts:
        whole.rounds += part["rounds"]
        whole.survived += part["survived"]
        whole.lost += part["lost"]
        whole.notes += part["notes"]
        if part["worst"] is not None:
            whole.worst = max(whole.worst or 0.0, part["worst"])
        for fact, value in part["facts"].items():
            (whole.most if fact.startswith(("most", "worst")) else whole.add)(fact, value)
    return whole


def table(tallies: Sequence[Tally], plain: bool) -> str:
    """The closing table."""
    titles = ("fault", "rounds", "survived", "lost", "worst time", "bar", "ok")
    lines = [
        (
            tally.name,
            str(tally.rounds),
            str(tally.survived),
            str(tally.lost),
            "" if tally.worst is None else f"{tally.worst:.1f} s",
            tally.bar + "".join(f"; {fact}: {value:.4g}" for fact, value in tally.facts.items()),
            "yes" if tally.ok else "NO",
        )
        for tally in tallies
    ]
    if not plain:
        ruled = [titles, (":--", "--:", "--:", "--:", "--:", ":--", ":--"), *lines]
        return "\n".join("| " + " | ".join(line) + " |" for line in ruled)
    widths = [max(len(line[column]) for line in (titles, *lines)) for column in range(len(titles))]
    padded = ([text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in (titles, *lines))
    return "\n".join("  ".join(line).rstrip() for line in padded)


if __name__ == "__main__":
    sys.exit(main())
