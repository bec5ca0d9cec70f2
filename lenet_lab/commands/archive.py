"""`archive`: runs out of the way, and back."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lenet_lab.commands.common import human, parser

if TYPE_CHECKING:
    from lenet_lab.tracking import Store
    from lenet_lab.tracking.archive import Candidate

STATES = ("failed", "stopped", "dead", "rerun", "diverged", "complete")
EPILOG = """Archived runs are marked as deleted in MLflow: no command sees them any more, `archive --restore RUN` brings
them back, and `gc` removes their files. Runs that ./reports or --cited cite, and running ones, stay."""


def main(words: Sequence[str]) -> int:
    """Print what would be archived; with `--yes`, do it."""
    from lenet_lab.commands.citations import add_cited, cited

    args = parser("archive", "Mark runs as deleted; shows them first.", EPILOG)
    args.add_argument("runs", nargs="*", metavar="RUN", help="a run's id, or its beginning")
    args.add_argument("--older-than", type=_days, metavar="DAYS", help="runs without a sign of life for so long")
    args.add_argument("--state", type=_states, metavar="S[,S...]", help=f"runs in these states: {', '.join(STATES)}")
    args.add_argument("--complete", action="store_true", help="finished runs that a sweep lists, too")
    args.add_argument("--restore", action="store_true", help="bring archived runs back")
    args.add_argument("--yes", action="store_true", help="do it; without it, only show what would be done")
    add_cited(args)
    chosen = args.parse_args(words)
    by_filter = chosen.older_than is not None or chosen.state is not None
    if bool(chosen.runs) == by_filter or (chosen.restore and not chosen.runs):
        args.error("give runs, or --older-than and --state to choose them; --restore wants runs")
    from lenet_lab.tracking import open_store
    from lenet_lab.tracking.archive import candidates, cell_runs, pick, select

    store = open_store(chosen.store, create=False)
    runs = cell_runs(store, deleted=chosen.restore)
    if by_filter:
        picked = select(store, runs, chosen.state, 86400 * (chosen.older_than or 0))
    else:
        picked = list({(run := pick(runs, word, chosen.restore)).info.run_id: run for word in chosen.runs}.values())
    if chosen.restore:
        return _restore(store, picked, chosen.yes)
    return _archive(store, candidates(store, picked, cited(chosen.cited), chosen.complete), by_filter, chosen.yes)


def _archive(store: Store, judged: Sequence[Candidate], by_filter: bool, yes: bool) -> int:
    from lenet_lab.records import LabError
    from lenet_lab.sweeps.printing import console, table, texts
    from lenet_lab.tracking.archive import archive

    refused = [candidate for candidate in judged if candidate.refusal]
    if refused and not by_filter:
        raise LabError(f"run {refused[0].run_id[:8]}: not archived, and no other: {refused[0].refusal}")
    going = [candidate for candidate in judged if not candidate.refusal]
    screen = console()
    listing = table("size", "state", "run", "cell")
    for candidate in going:
        found = candidate.record
        listing.add_row(*texts((human(candidate.size), found.state, candidate.run_id[:8], found.name)))
    if going:
        screen.print(listing)
    for candidate in refused:
        screen.print(*texts((f"kept: {candidate.run_id[:8]}: {candidate.refusal}",)))
    if not going:
        screen.print("nothing to archive")
        return 0
    if not yes:
        size = human(sum(candidate.size for candidate in going))
        screen.print(f"would archive {_runs(going)}, of which `gc` then frees {size}; --yes does it")
        return 0
    stayed = archive(store, going)
    for candidate, why in stayed:
        screen.print(*texts((f"not archived: {candidate.run_id[:8]}: {why}",)))
    gone = [candidate for candidate in going if candidate not in [other for other, _ in stayed]]
    size = human(sum(candidate.size for candidate in gone))
    screen.print(f"archived {_runs(gone)}; `archive --restore` brings them back, `gc` frees {size} for good")
    return 1 if stayed else 0


def _restore(store: Store, picked: Sequence[Any], yes: bool) -> int:
    from lenet_lab.sweeps.printing import console, texts
    from lenet_lab.tracking.archive import restore

    screen = console()
    for run in picked:
        if yes:
            restore(store, run.info.run_id)
        screen.print(*texts((f"{'restored' if yes else 'would restore'} {run.info.run_id[:8]} {run.info.run_name}",)))
    if not yes:
        screen.print("--yes does it")
    return 0


def _runs(candidates: Sequence[Candidate]) -> str:
    return f"{len(candidates)} run{'' if len(candidates) == 1 else 's'}"


def _days(text: str) -> float:
    days = float(text)
    if not (0 <= days < math.inf):
        raise argparse.ArgumentTypeError(f"{text}: allowed are 0 or more days")
    return days


def _states(text: str) -> set[str]:
    states = set(text.split(","))
    if not states <= set(STATES):
        raise argparse.ArgumentTypeError(f"{text}: allowed are {', '.join(STATES)}, with commas between them")
    return states
