"""Run every simulation, print the tables, write them into docs/statistics.md; exit 1 where a bar fails.

python -m tests.calibration                     # 4,000 studies a row; about a minute of one core
python -m tests.calibration --rounds 400        # quicker and rougher; writes nothing
python -m tests.calibration --only holm         # the tables whose title contains it; writes nothing
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.calibration import aa
from tests.calibration.harness import ROUNDS, TABLES, markdown
from tests.calibration.page import PAGE, fill, section

say = print


def main() -> int:
    """0 when every bar holds."""
    parser = argparse.ArgumentParser("python -m tests.calibration", description="Calibrate lenet_lab.stats.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"simulated studies a row; default: {ROUNDS}")
    parser.add_argument("--only", default="", help="tables whose title contains it")
    args = parser.parse_args()
    chosen = [one for one in TABLES.values() if args.only.lower() in one.title.lower()]
    if not chosen or args.rounds < 1:
        parser.error(f"--only {args.only}: no table; --rounds {args.rounds}: at least 1")
    made, missed, began = [], 0, time.process_time()
    for one in chosen:
        rows = [row for case in one.cases for row in one.rows(case, args.rounds)]
        made.append(section(one.title, rows))
        missed += sum(not row.ok for row in rows)
        say(f"{one.title}\n\n{markdown(rows)}\n", flush=True)
    say(f"{missed} bars missed; {time.process_time() - began:.0f} s of one core")
    if args.rounds == ROUNDS and len(chosen) == len(TABLES):
        PAGE.write_text(fill(fill(PAGE.read_text(), "calibration", "\n\n".join(made)), "aa", aa.text()))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
