"""`status`: sweeps and runs, finished, running, dead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lenet_lab.commands.common import parser

if TYPE_CHECKING:
    from rich.console import Console

    from lenet_lab.records import RunRecord

SHOWN = 40  # runs outside sweeps, unless all are asked for
ORDER = ("complete", "diverged", "running", "stopped", "failed", "dead", "not started")


def main(words: Sequence[str]) -> int:
    """Print the sweeps, or with `--sweep` the cells of one, and the runs that belong to none."""
    args = parser("status", "Sweeps and runs: finished, running, dead.")
    args.add_argument("sweep", nargs="?", help="a sweep's id, or its beginning: show its cells")
    args.add_argument("--all", action="store_true", help=f"list all runs outside sweeps, not the newest {SHOWN}")
    chosen = args.parse_args(words)
    from lenet_lab.sweeps.printing import console, table, texts
    from lenet_lab.tracking import open_store, read_runs
    from lenet_lab.tracking.parents import cells_of, find_parent, parents

    store = open_store(chosen.store, create=False)
    records = {}
    for record in read_runs(store, only=("lenet.error", "test/acc", "epochs")):
        if record.key not in records or record.state == "complete":
            records[record.key] = record
    screen = console()
    if chosen.sweep:
        parent = find_parent(store, chosen.sweep)
        _cells(screen, [(c["name"], records.get(c["key"])) for c in cells_of(store, parent)])
        return 0
    sweeps = parents(store)
    listed: set[str] = set()
    if sweeps:
        listing = table("sweep", "cells", "state", "what")
        for parent in sweeps:
            cells = cells_of(store, parent)
            listed.update(c["key"] for c in cells)
            states = _states(records[c["key"]].state if c["key"] in records else "not started" for c in cells)
            row = (parent.data.tags["lenet.sweep"][:8], str(len(cells)), states, parent.info.run_name)
            listing.add_row(*texts(row))
        screen.print(listing)
    alone = [r for r in records.values() if r.key not in listed]
    if alone:
        screen.print("\nruns outside sweeps:" if sweeps else "runs:")
        alone.sort(key=lambda record: record.state == "complete")  # what is not, first; each newest first
        left = [] if chosen.all else alone[SHOWN:]
        _cells(screen, [(r.name, r) for r in alone[: len(alone) - len(left)]])
        if left:
            screen.print(f"and {len(left):,} more ({_states(r.state for r in left)}): --all lists them")
    if not records and not sweeps:
        screen.print("nothing tracked yet")
    return 0


def _states(states: Iterable[str]) -> str:
    count = Counter(states)
    return ", ".join(
        f"{count[state]:,} {state}" for state in (*ORDER, *sorted(count.keys() - set(ORDER))) if count[state]
    )


def _cells(screen: Console, rows: Sequence[tuple[str, RunRecord | None]]) -> None:
    from lenet_lab.sweeps.printing import table, texts

    listing = table("state", "test acc", "epochs", "run", "cell")
    for name, record in rows:
        listing.add_row(*texts(("not started", "", "", "", name) if record is None else _row(name, record)))
    screen.print(listing)


def _row(name: str, record: RunRecord) -> tuple[str, ...]:
    metrics, state = record.metrics, record.state
    acc = f"{100 * metrics['test/acc']:.2f}%" if "test/acc" in metrics and state == "complete" else ""
    epochs = str(int(metrics["epochs"])) if "epochs" in metrics else ""
    error = record.tags.get("lenet.error")
    note = f"  ({error})" if error and state not in ("complete", "running") else ""
    return (state, acc, epochs, record.run_id[:8], name + note)
