"""Claiming a cell: who may train it, and from where."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lenet_lab.provenance import redact_text
from lenet_lab.records import LabError
from lenet_lab.tracking.locks import RunLock
from lenet_lab.tracking.rivals import close
from lenet_lab.tracking.runs import LEASE_S, OUTCOMES, Busy, TrackedRun
from lenet_lab.tracking.sender import Sender
from lenet_lab.tracking.spool import DamagedSpool, StopDelivery, acknowledged, deliver
from lenet_lab.tracking.store import Store, of_key, patiently

LOG_BYTES = 64_000  # of a job's log that go on its run


def claim(store: Store, key: str, name: str, fresh: bool = False) -> TrackedRun | Any:
    """Claim a cell: a new run, the dead one of the same key to go on with, or the MLflow run that has finished it.

    A dead run is gone on with where its locks, and so its checkpoints and its spool, are this machine's; one that
    another machine left is closed, and a new run starts. Nothing is said on a run before `TrackedRun.begin`.

    Args:
        fresh: always a new run, whatever there is of this key.

    Raises:
        Busy: another process trains it.
        LabError: the store does not answer, or the folder beside it cannot be written.
    """
    try:
        lock = RunLock(store, key)
        if not lock.acquire():
            raise Busy(f"{name}: another process on this machine is training it")
        try:
            return patiently(store, lambda: _claimed(store, key, name, lock, fresh))
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        raise LabError(f"{error.filename or store.state}: {error.strerror or error}") from None


def _claimed(store: Store, key: str, name: str, lock: RunLock, fresh: bool) -> TrackedRun | Any:
    runs = search(store, of_key(key))
    if not fresh:
        left = [_deliver_left(store, run.info.run_id) for run in runs if not counts(run.data.tags)]
        runs = search(store, of_key(key)) if any(left) else runs
        done = next((run for run in runs if counts(run.data.tags)), None)
        if done is not None:
            lock.release()
            return done
    elsewhere = [run for run in runs if _going_on(run) and run.data.tags.get("lenet.locks") != store.domain]
    for run in elsewhere:
        if _is_silent(store, run, name):
            close(store, run.info.run_id, f"lost with {run.data.tags.get('lenet.host')}")
    if elsewhere:  # what has not been lost has ended meanwhile, perhaps well
        return _claimed(store, key, name, lock, fresh)
    if not fresh:
        mine = next((run for run in runs if run.data.tags.get("lenet.locks") == store.domain), None)
        if mine is not None:
            return TrackedRun(store, key, lock, mine.info.run_id, dict(mine.data.tags))
    shutil.rmtree(store.state / "checkpoints" / key, ignore_errors=True)
    tags = {"lenet.key": key, "lenet.state": "running", "lenet.locks": store.domain}
    # whatever the clock says, the newest run of a key is the one that was made last
    start = max([int(time.time() * 1000), *(run.info.start_time + 1 for run in runs)])
    created = store.client.create_run(store.experiment_id, start_time=start, run_name=name, tags=tags)
    return TrackedRun(store, key, lock, created.info.run_id, {})


def _going_on(run: Any) -> bool:
    return bool(run.data.tags.get("lenet.state") == "running")


def _is_silent(store: Store, run: Any, name: str) -> bool:
    """Watch the heart of a run of another machine: only one that does not beat for a whole lease is dead.

    The lease is counted on this machine's own monotonic clock, so that no clock's jump ends it early. False where
    the run ends while it is watched.

    Raises:
        Busy: it beats.
    """
    seen, end = run.data.tags.get("lenet.heartbeat"), time.monotonic() + LEASE_S
    while _going_on(run) and time.monotonic() < end:
        time.sleep(min(3.0, LEASE_S / 10))
        run = store.client.get_run(run.info.run_id)
        if _going_on(run) and run.data.tags.get("lenet.heartbeat") != seen:
            raise Busy(f"{name}: {run.data.tags.get('lenet.host')} is training it")
    return _going_on(run)


def find(store: Store, keys: Iterable[str]) -> dict[str, Any]:
    """MLflow's runs of these keys: for each key the one that counts, else the newest."""
    wanted = set(keys)
    if len(wanted) <= 200:
        runs = [run for key in sorted(wanted) for run in search(store, of_key(key))]
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
    return list(each(store, filter_string))


def each(store: Store, filter_string: str = "") -> Iterator[Any]:
    """The same one by one, for those who keep less of a run than MLflow does."""
    token = None
    while True:
        page = store.client.search_runs([store.experiment_id], filter_string, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def counts(tags: Mapping[str, str]) -> bool:
    """Whether a run is an outcome: complete or diverged, said so by the process that owned it last."""
    ended = tags.get("lenet.ended_by")
    return tags.get("lenet.state") in OUTCOMES and ended is not None and ended == tags.get("lenet.owner")


def execution_record(tags: Mapping[str, str]) -> dict[str, Any]:
    """The execution record among a run's tags, empty where there is none."""
    try:
        record = json.loads(tags.get("lenet.execution", ""))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def begun_by(store: Store, key: str, tags: Mapping[str, str]) -> str | None:
    """The engine that has left checkpoints here of the run with this key and these tags; None where none has."""
    folder = store.state / "checkpoints" / key
    left = folder.is_dir() and any(folder.iterdir())
    return execution_record(tags).get("engine") if left else None


def bury(store: Store, key: str, why: str, log: Path | None = None, stopped: bool = False) -> None:
    """Say on a run whose process is gone how it ended; does nothing while it lives or where it has ended itself.

    Args:
        log: what the process printed; its end goes on the run, too.
        stopped: also where it said itself that it was stopped, without knowing why.
    """
    from mlflow.exceptions import MlflowException

    # nothing can be written: the lock says that the run is dead, and so do all who read it
    with contextlib.suppress(MlflowException, OSError):
        states = ("running", "stopped") if stopped else ("running",)
        mine = (run for run in search(store, of_key(key)) if run.data.tags.get("lenet.locks") == store.domain)
        run = next((run for run in mine if run.data.tags.get("lenet.state") in states), None)
        lock = RunLock(store, key)
        if run is None or not lock.acquire():
            return
        try:
            _deliver_left(store, run.info.run_id)
            if store.client.get_run(run.info.run_id).data.tags.get("lenet.state") in states:
                close(store, run.info.run_id, why)
                if log is not None and log.exists():
                    tail = log.read_bytes()[-LOG_BYTES:].decode(errors="replace")
                    store.client.log_text(run.info.run_id, redact_text(tail), "job.log")
        finally:
            lock.release()


def deliver_pending(store: Store) -> int:
    """Deliver what earlier launches could not; returns the number of spools that were behind.

    What cannot be delivered now either stays where it is.
    """
    behind = 0
    for path in sorted(store.folder("spool").glob("*.jsonl")):
        if acknowledged(path) == path.stat().st_size:
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
    """Deliver what a process that is gone left in its spool; True when it had said how it ended.

    Of a damaged spool nothing is delivered: the run is dead then, and can be resumed.
    """
    path = store.folder("spool") / f"{run_id}.jsonl"
    ended = False

    def send(events: list[dict[str, Any]]) -> None:
        nonlocal ended
        Sender(store, run_id, None).send(events)
        ended = any("status" in event for event in events)

    with contextlib.suppress(StopDelivery, DamagedSpool):
        deliver(path, send)
    return ended
