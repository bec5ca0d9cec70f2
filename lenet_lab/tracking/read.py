"""Tracked runs as plain records."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from sys import intern
from typing import Any

from lenet_lab.records import Curves, LabError, RunRecord
from lenet_lab.tracking.bulk import all_runs
from lenet_lab.tracking.claims import counts, each, search
from lenet_lab.tracking.locks import alive
from lenet_lab.tracking.runs import LEASE_S, RERUN
from lenet_lab.tracking.store import Store, public

SHOWN_TAGS = ("mlflow.parentRunId", "mlflow.source.git.commit")

STATE_TAGS = (
    "lenet.key",
    "lenet.run_id",
    "lenet.state",
    "lenet.ended_by",
    "lenet.owner",
    "lenet.locks",
    "lenet.heartbeat",
)

_MANY = 500  # runs asked for at once


def read_runs(store: Store, filter_string: str = "", only: Collection[str] = ()) -> list[RunRecord]:
    """All runs of cells (not the sweeps' parents).

    Args:
        only: params, tags and metrics to read beside what tells a run's state; fewer take less time. None: all.
    """
    runs = None if filter_string else all_runs(store, (*STATE_TAGS, *only) if only else ())
    if runs is None:
        runs = each(store, filter_string)
    return [record(store, run) for run in runs if "lenet.key" in run.data.tags]


def record(store: Store, run: Any) -> RunRecord:
    """One MLflow run as a record; its state is what is true now, not what was written last."""
    tags, info = run.data.tags, run.info
    params = run.data.params
    return RunRecord(
        run_id=trained_as(run),
        name=info.run_name or info.run_id,
        key=tags.get("lenet.key", ""),
        arm=tags.get("lenet.arm", ""),
        seed=int(params["seed"]) if params.get("seed", "").isdigit() else None,
        state=state_of(store, tags),
        sweep=tags.get("lenet.sweep", ""),
        params=_shared(params),
        metrics={intern(key): value for key, value in run.data.metrics.items()},
        tags=_shared({k: v for k, v in tags.items() if not k.startswith("mlflow.") or k in SHOWN_TAGS}),
        start_ms=info.start_time,
        end_ms=info.end_time,
        artifact_uri=info.artifact_uri or "",
        link=link(store, info.run_id),
    )


def _shared(texts: Mapping[str, str]) -> dict[str, str]:
    """The same, each text kept once: thousands of runs have most of theirs in common."""
    return {intern(str(key)): intern(str(value)) for key, value in texts.items()}


def find_record(store: Store, prefix: str) -> RunRecord:
    """The run of a cell whose id, here or where it was trained, begins with `prefix`.

    Raises:
        LabError: none or several do.
    """
    runs = [run for run in search(store) if "lenet.key" in run.data.tags]
    found = [run for run in runs if any(name.startswith(prefix.lower()) for name in (run.info.run_id, trained_as(run)))]
    if prefix and len(found) == 1:
        return record(store, found[0])
    known = ", ".join(trained_as(run)[:8] for run in runs[:8]) or "none"
    raise LabError(f"run {prefix!r}: {'several' if found else 'no'} runs begin so; there are: {known}")


def trained_as(run: Any) -> str:
    """The id under which a run was trained: its own in this store, or for an imported run the one it came with."""
    return str(run.data.tags.get("lenet.run_id", run.info.run_id))


def state_of(store: Store, tags: Mapping[str, str]) -> str:
    """complete, diverged, failed, stopped, rerun, running, or dead: said to be running by a process that is no more."""
    state = tags.get("lenet.state", "running")
    if counts(tags) or state in ("failed", "stopped", RERUN):
        return state
    if tags.get("lenet.locks") == store.domain:
        return "running" if alive(store, tags.get("lenet.key", "")) else "dead"
    return "running" if abs(time.time() - float(tags.get("lenet.heartbeat", 0))) < LEASE_S else "dead"


def link(store: Store, run_id: str) -> str:
    """Where the run is in MLflow's UI: relative to a server of one's own, absolute on the server that tracks."""
    base = public(store.uri).rstrip("/") if store.uri.startswith("http") else "http://127.0.0.1:5000"
    return f"{base}/#/experiments/{store.experiment_id}/runs/{run_id}"


def read_curves(store: Store, run_ids: Iterable[str], keys: Iterable[str]) -> Curves:
    """Metric histories: run id -> metric -> ((step, value), ...) by step."""
    imported = {trained_as(run): run.info.run_id for run in search(store, "tags.`lenet.run_id` LIKE '%'")}
    own = {imported.get(run_id, run_id): run_id for run_id in run_ids}
    curves: dict[str, dict[str, tuple[tuple[int, float], ...]]] = {run_id: {} for run_id in own.values()}
    for key in list(keys):
        for run, history in _histories(store, list(own), key):
            points = {point.step: point.value for point in history}
            if points:
                curves[own[run]][key] = tuple(sorted(points.items()))
    return curves


def _histories(store: Store, runs: Sequence[str], key: str) -> Iterator[tuple[str, list[Any]]]:
    """One metric of many runs: a database answers for many at once, a server for each."""
    bulk = getattr(store.client._tracking_client.store, "get_metric_history_bulk", None)
    if bulk is None:
        yield from ((run, store.client.get_metric_history(run, key)) for run in runs)
        return
    for start in range(0, len(runs), _MANY):
        found: dict[str, list[Any]] = defaultdict(list)
        for point in bulk(runs[start : start + _MANY], key, None):
            found[point.run_id].append(point)
        yield from found.items()
