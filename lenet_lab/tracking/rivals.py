"""Machines that share a store but no locks: of those that begin one cell at once, one goes on.

A store has no compare-and-set, so this is a doorway. Whoever wants to train a cell says on its run that it is running,
then looks who else says so, and enters (`lenet.entered`) when nobody has entered before and nobody with a lower run id
stands in the doorway. Two who look at once see each other; who looks alone enters before the next can have looked.
"""

from __future__ import annotations

import time
from typing import Any

from lenet_lab.tracking.store import Store, of_key

NOBODY = "nobody"


def enter(store: Store, key: str, run_id: str, token: str, patience: float) -> str | None:
    """Enter with a run that says that it is running and whose it is; else the host that trains the cell.

    Args:
        patience: seconds for which those in the doorway are waited for; who stands there longer is dead.
    """
    end = time.monotonic() + patience
    while rivals := _rivals(store, key, run_id):
        first = next((run for run in rivals if _entered(run) or run.info.run_id < run_id), None)
        if first is not None:
            return str(first.data.tags.get("lenet.host", "another machine"))
        if time.monotonic() > end:
            for run in rivals:
                close(store, run.info.run_id, "lost before it began")
        time.sleep(0.2)
    store.client.set_tag(run_id, "lenet.entered", token)
    return None


def close(store: Store, run_id: str, why: str) -> None:
    """End a run for a process that is gone.

    The owner first: should its process live after all, it must find the run taken, and never count.
    """
    store.client.set_tag(run_id, "lenet.owner", NOBODY)
    store.client.set_tag(run_id, "lenet.error", why)
    store.client.set_tag(run_id, "lenet.state", "failed")
    store.client.set_terminated(run_id, "KILLED")


def _rivals(store: Store, key: str, run_id: str) -> list[Any]:
    wanted = f"{of_key(key)} AND tags.`lenet.state` = 'running'"
    runs = store.client.search_runs([store.experiment_id], wanted, max_results=100)
    return [run for run in runs if run.info.run_id != run_id and run.data.tags.get("lenet.locks") != store.domain]


def _entered(run: Any) -> bool:
    """By its present owner: what an earlier life of the run said has passed."""
    entered = run.data.tags.get("lenet.entered")
    return entered is not None and entered == run.data.tags.get("lenet.owner")
