"""Runs out of the way, and back: MLflow's deletion, which keeps everything until `gc`."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lenet_lab.records import LabError, RunRecord
from lenet_lab.tracking.belongings import artifact_folder, artifact_root, cites, every_run, key_of, size_of
from lenet_lab.tracking.glance import behind
from lenet_lab.tracking.locks import RunLock
from lenet_lab.tracking.parents import cells_of, parents
from lenet_lab.tracking.read import record, state_of
from lenet_lab.tracking.runs import OUTCOMES
from lenet_lab.tracking.store import Store
from lenet_lab.tracking.upkeep import PATIENCE_S, PURGED


@dataclass(frozen=True)
class Candidate:
    """A run, the bytes that `gc` would free after it is archived, and why it may not be; "" where it may.

    `run_id` is MLflow's, which for an imported run is not the record's.
    """

    run_id: str
    record: RunRecord
    size: int
    refusal: str


def candidates(store: Store, runs: Sequence[Any], cited: Mapping[str, str], complete: bool = False) -> list[Candidate]:
    """Judge MLflow's runs.

    Args:
        cited: run id -> the file that cites it.
        complete: finished runs that a sweep lists may go too.
    """
    (listed, unread), root = _listed(store), artifact_root(store)
    judged = []
    for run in runs:
        found = record(store, run)
        sweep = listed.get(found.key) or (found.sweep if found.sweep in unread else "")
        refusal = ""
        if found.state == "running":
            refusal = "it is running"
        elif cites(cited, run):
            refusal = f"cited by {cited[cites(cited, run)]}"
        elif behind(store.state / "spool" / f"{run.info.run_id}.jsonl"):  # it may be about to say that it is complete
            refusal = "what it tracked is not delivered yet (the next sweep on this store delivers it)"
        elif found.state in OUTCOMES and sweep and not complete:
            refusal = f"{found.state}, and sweep {sweep[:8]} lists it (--complete archives it all the same)"
        folder = artifact_folder(root, run)
        size = size_of(folder) if folder is not None else 0
        judged.append(Candidate(run.info.run_id, found, size + _state_size(store, run.info.run_id, found), refusal))
    return judged


def archive(store: Store, chosen: Iterable[Candidate]) -> list[tuple[Candidate, str]]:
    """Delete runs in MLflow; returns those that stayed, with the reason."""
    stayed = []
    for candidate in chosen:
        lock = RunLock(store, candidate.record.key)
        if candidate.refusal or not lock.acquire(patience=PATIENCE_S):
            stayed.append((candidate, candidate.refusal or "it is running"))
            continue
        try:
            tags = store.client.get_run(candidate.run_id).data.tags
            if tags.get("lenet.locks") != store.domain and state_of(store, tags) == "running":
                stayed.append((candidate, "it is running"))
            else:
                store.client.delete_run(candidate.run_id)
        finally:
            lock.release()
    return stayed


def restore(store: Store, run_id: str) -> None:
    """Bring an archived run back."""
    store.client.restore_run(run_id)


def cell_runs(store: Store, deleted: bool = False) -> list[Any]:
    """MLflow's runs of cells, newest first: the active or the deleted ones."""
    stage = "deleted" if deleted else "active"
    return [run for run in every_run(store) if run.info.lifecycle_stage == stage and key_of(run)]


def select(store: Store, runs: Sequence[Any], states: Container[str] | None, older_than_s: float) -> list[Any]:
    """Those in one of the states (None: any but running) whose last sign of life is that old."""
    old = [run for run in runs if time.time() - _last_sign(run) >= older_than_s]
    pairs = [(run, state_of(store, run.data.tags)) for run in old]
    return [run for run, state in pairs if (state != "running" if states is None else state in states)]


def pick(runs: Sequence[Any], prefix: str, deleted: bool = False) -> Any:
    """The run whose id begins with `prefix`, of at least 4 characters.

    Raises:
        LabError: none or several do, or `gc` has removed its files.
    """
    if len(prefix) < 4:
        raise LabError(f"run {prefix!r}: too short to name a run; allowed: at least 4 characters of its id")
    found = [run for run in runs if run.info.run_id.startswith(prefix.lower())]
    if len(found) != 1:
        kind = "archived runs" if deleted else "runs"
        known = ", ".join(run.info.run_id[:8] for run in runs[:8]) or "none"
        raise LabError(f"run {prefix!r}: {'several' if found else 'no'} {kind} begin so; there are: {known}")
    if deleted and PURGED in found[0].data.tags:
        raise LabError(f"run {found[0].info.run_id[:8]}: its files were removed by gc; it cannot be restored")
    return found[0]


def _last_sign(run: Any) -> float:
    beat = 1000 * float(run.data.tags.get("lenet.heartbeat") or 0)
    return max(beat, run.info.start_time or 0, run.info.end_time or 0) / 1000


def _listed(store: Store) -> tuple[dict[str, str], set[str]]:
    """The keys that sweeps list, each with its sweep; and the sweeps whose list cannot be read."""
    listed: dict[str, str] = {}
    unread: set[str] = set()
    for parent in parents(store):
        sweep = parent.data.tags["lenet.sweep"]
        try:
            listed.update((cell["key"], sweep) for cell in cells_of(store, parent))
        except Exception:  # whatever the artifact store raises, or what is no list: its runs are taken for listed
            unread.add(sweep)
    return listed, unread


def _state_size(store: Store, run_id: str, found: RunRecord) -> int:
    left = [store.state / "outbox" / run_id, store.state / "spool" / f"{run_id}.jsonl"]
    if found.state not in OUTCOMES:
        left.append(store.state / "checkpoints" / found.key)
    return sum(size_of(path) for path in left if path.exists())
