"""Claiming a cell: who may train it, and from where."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from lenet_lab.records import LabError
from lenet_lab.tracking.locks import RunLock
from lenet_lab.tracking.runs import LEASE_S, OUTCOMES, Busy, TrackedRun
from lenet_lab.tracking.sender import Sender
from lenet_lab.tracking.spool import StopDelivery, acknowledged, deliver
from lenet_lab.tracking.store import Store, public

T = TypeVar("T")
PATIENCE_S = 12.0


def claim(store: Store, key: str, name: str, fresh: bool = False) -> TrackedRun | Any:
    """Claim a cell: a new run, the dead one of the same key to go on with, or the MLflow run that has finished it.

    A dead run is gone on with where its locks, and so its checkpoints and its spool, are this machine's; one that
    another machine left is closed, and a new run starts. Nothing is said on a run before `TrackedRun.begin`.

    Args:
        fresh: always a new run, whatever there is of this key.

    Raises:
        Busy: another process trains it.
        LabError: the store does not answer.
    """
    lock = RunLock(store, key)
    if not lock.acquire():
        raise Busy(f"{name}: another process on this machine is training it")
    try:
        return _patiently(store, lambda: _claimed(store, key, name, lock, fresh))
    except BaseException:
        lock.release()
        raise


def _claimed(store: Store, key: str, name: str, lock: RunLock, fresh: bool) -> TrackedRun | Any:
    run = None if fresh else find(store, [key]).get(key)
    if run is not None and not counts(run.data.tags) and _deliver_left(store, run.info.run_id):
        run = store.client.get_run(run.info.run_id)
    if run is not None and counts(run.data.tags):
        lock.release()
        return run
    if run is not None and run.data.tags.get("lenet.locks") == store.domain:
        return TrackedRun(store, key, lock, run.info.run_id, dict(run.data.tags))
    if run is not None:
        _await_lease(store, run, name)
        _close(store, run.info.run_id, f"lost with {run.data.tags.get('lenet.host')}")
    shutil.rmtree(store.state / "checkpoints" / key, ignore_errors=True)
    tags = {"lenet.key": key, "lenet.state": "running", "lenet.locks": store.domain}
    created = store.client.create_run(store.experiment_id, run_name=name, tags=tags)
    return TrackedRun(store, key, lock, created.info.run_id, {})


def _await_lease(store: Store, run: Any, name: str) -> None:
    """Watch the heart of a run of another machine: only one that does not beat for a whole lease is dead.

    The lease is counted on this machine's own monotonic clock, so that no clock's jump ends it early.
    """
    seen, end = run.data.tags.get("lenet.heartbeat"), time.monotonic() + LEASE_S
    while run.data.tags.get("lenet.state") == "running" and time.monotonic() < end:
        time.sleep(min(3.0, LEASE_S / 10))
        run = store.client.get_run(run.info.run_id)
        if run.data.tags.get("lenet.heartbeat") != seen:
            raise Busy(f"{name}: {run.data.tags.get('lenet.host')} is training it")


def find(store: Store, keys: Iterable[str]) -> dict[str, Any]:
    """MLflow's runs of these keys: for each key the one that counts, else the newest."""
    wanted = set(keys)
    if len(wanted) <= 200:
        runs = [run for key in sorted(wanted) for run in search(store, f"tags.`lenet.key` = '{key}'")]
    else:
        runs = search(store)
    found: dict[str, Any] = {}
    for run in runs:
        key = run.data.tags.get("lenet.key")
        if key in wanted and (key not in found or (counts(run.data.tags) and not counts(found[key].data.tags))):
            found[key] = run
    return found


def search(store: Store, filter_string: str = "") -> list[Any]:
    """All matching runs, newest first, however many."""
    runs: list[Any] = []
    token = None
    while True:
        page = store.client.search_runs([store.experiment_id], filter_string, max_results=1000, page_token=token)
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def counts(tags: Mapping[str, str]) -> bool:
    """Whether a run is an outcome: complete or diverged, said so by the process that owned it last."""
    ended = tags.get("lenet.ended_by")
    return tags.get("lenet.state") in OUTCOMES and ended is not None and ended == tags.get("lenet.owner")


def bury(store: Store, key: str, why: str) -> None:
    """Say on a run whose process is gone how it ended; does nothing while it lives or where it has ended itself."""
    run = find(store, [key]).get(key)
    if run is None or run.data.tags.get("lenet.state") != "running":
        return
    lock = RunLock(store, key)
    if not lock.acquire():
        return
    try:
        if not _deliver_left(store, run.info.run_id):
            _close(store, run.info.run_id, why)
    finally:
        lock.release()


def deliver_pending(store: Store) -> int:
    """Deliver what earlier launches could not; returns the number of spools that were behind.

    What cannot be delivered now either stays where it is.
    """
    behind = 0
    for path in sorted(store.folder("spool").glob("*.jsonl")):
        if acknowledged(path) >= path.stat().st_size:
            continue
        with contextlib.suppress(Exception):
            run = store.client.get_run(path.stem)
            lock = RunLock(store, run.data.tags["lenet.key"])
            if lock.acquire(patience=0.0):
                try:
                    behind += _deliver_left(store, path.stem)
                finally:
                    lock.release()
    return behind


def _deliver_left(store: Store, run_id: str) -> bool:
    """Deliver what a process that is gone left in its spool; True when it had said how it ended."""
    path = store.folder("spool") / f"{run_id}.jsonl"
    ended = False

    def send(events: list[dict[str, Any]]) -> None:
        nonlocal ended
        Sender(store, run_id, None).send(events)
        ended = any("status" in event for event in events)

    with contextlib.suppress(StopDelivery):
        deliver(path, send)
    return ended


def _close(store: Store, run_id: str, why: str) -> None:
    store.client.set_tag(run_id, "lenet.error", why)
    store.client.set_tag(run_id, "lenet.state", "failed")
    store.client.set_terminated(run_id, "KILLED")


def _patiently(store: Store, act: Callable[[], T]) -> T:
    """Try again for a while what a locked or restarting store refuses.

    Raises:
        LabError: it still refuses.
    """
    from mlflow.exceptions import MlflowException

    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return act()
        except MlflowException as error:
            if time.monotonic() > end:
                why = " ".join(str(error).split())[:200]
                raise LabError(f"tracking.uri={public(store.uri)}: the store does not answer: {why}") from None
            time.sleep(0.5)
