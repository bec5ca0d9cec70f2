"""One tracked run: claimed by its key, written through its spool, complete only by its last tag."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lenet_lab.records import LabError
from lenet_lab.tracking.locks import RunLock
from lenet_lab.tracking.spool import Courier, Event, Spool, StopDelivery
from lenet_lab.tracking.store import Store

HEARTBEAT_S = 15.0
LEASE_S = 60.0
OUTCOMES = ("complete", "diverged")
STATUS = {"complete": "FINISHED", "diverged": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class Busy(LabError):
    """Another process is training this cell."""


class TakenOver(RuntimeError):
    """This run belongs to another process now; nothing written from here counts."""


class TrackedRun:
    """A claimed run. `finish` must be the last call."""

    def __init__(self, store: Store, key: str, lock: RunLock, run_id: str, resumed: bool) -> None:
        self.store, self.key, self.run_id, self.resumed = store, key, run_id, resumed
        self._lock = lock
        self.token = uuid.uuid4().hex
        self.outbox = store.folder("outbox", run_id)
        self.checkpoints = store.folder("checkpoints", key)
        store.client.set_tag(run_id, "lenet.owner", self.token)
        self._spool = Spool(store.folder("spool") / f"{run_id}.jsonl")
        sender = Sender(store, run_id, self.token)
        self._courier = Courier(self._spool.path, sender.send, sender.beat, HEARTBEAT_S)
        self._courier.start()

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Points of one step, all with one time.

        Raises:
            TakenOver: the run belongs to another process now.
        """
        now = int(time.time() * 1000)
        self._put({"metrics": [[key, float(value), now, step] for key, value in values.items()]})

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters; MLflow keeps the first value of each."""
        self._put({"params": {key: str(value) for key, value in values.items()}})

    def tags(self, values: Mapping[str, str]) -> None:
        """Tags; the last value of each counts."""
        self._put({"tags": dict(values)})

    def artifact(self, relative: str) -> None:
        """A file or folder that the caller has put under `outbox`, as an artifact of the same relative path."""
        self._put({"artifact": relative})

    def dataset(self, name: str, digest: str, source: str, context: str, profile: Mapping[str, Any]) -> None:
        """The data a run used, as MLflow shows it."""
        self._put({"dataset": [name, digest, source, context, json.dumps(profile)]})

    def finish(self, state: str, timeout: float = 60.0) -> bool:
        """Say how the run ended, after everything before it; True when the store has it all.

        What has not arrived by `timeout` seconds stays in the spool and is delivered at the next launch.
        """
        tags = {"lenet.state": state, "lenet.ended_by": self.token}
        self._put({"tags": tags, "status": STATUS[state], "end": int(time.time() * 1000)}, sync=True)
        arrived = self._courier.flush(timeout)
        self._courier.stop()
        self._spool.close()
        if arrived:
            shutil.rmtree(self.outbox, ignore_errors=True)
            if state in OUTCOMES:
                shutil.rmtree(self.checkpoints, ignore_errors=True)
        self._lock.release()
        return arrived

    def abandon(self) -> None:
        """Let go without a word: the run belongs to somebody else."""
        self._courier.stop()
        self._spool.close()
        self._lock.release()

    def _put(self, event: Event, sync: bool = False) -> None:
        if self._courier.fatal is not None:
            raise TakenOver(f"run {self.run_id} was taken over by another process")
        self._spool.append(event, sync)
        self._courier.nudge()


class Sender:
    """Turns spooled events into calls of MLflow's client, after making sure that the run is still ours."""

    def __init__(self, store: Store, run_id: str, token: str | None) -> None:
        self.store, self.run_id, self.token = store, run_id, token

    def send(self, events: list[Event]) -> None:
        """Deliver in order; raises what the client raises."""
        from mlflow.entities import Metric, Param, RunTag

        client = self.store.client
        self._check_owner()
        metrics = [Metric(*point) for event in events for point in event.get("metrics", ())]
        params = [Param(k, v[:6000]) for event in events for k, v in event.get("params", {}).items()]
        for start in range(0, max(len(metrics), len(params)), 100):
            client.log_batch(self.run_id, metrics[start : start + 100], params[start : start + 100], [])
        for event in events:
            if "artifact" in event:
                self._artifact(event["artifact"])
            if "dataset" in event:
                self._dataset(*event["dataset"])
        tags = {k: v for event in events for k, v in event.get("tags", {}).items()}
        if tags:
            self._check_owner()
            client.log_batch(self.run_id, [], [], [RunTag(k, v) for k, v in tags.items()])
        for event in events:
            if "status" in event:
                client.set_terminated(self.run_id, event["status"], event["end"])

    def beat(self) -> None:
        """The sign of life for other machines; on this one the lock says it."""
        self._check_owner()
        self.store.client.set_tag(self.run_id, "lenet.heartbeat", f"{time.time():.0f}")

    def _check_owner(self) -> None:
        if self.token is None:
            return
        if self.store.client.get_run(self.run_id).data.tags.get("lenet.owner") != self.token:
            raise StopDelivery(self.run_id)

    def _artifact(self, relative: str) -> None:
        source = self.store.state / "outbox" / self.run_id / relative
        if source.is_dir():
            self.store.client.log_artifacts(self.run_id, str(source), relative)
        elif source.exists():
            parent = str(Path(relative).parent)
            self.store.client.log_artifact(self.run_id, str(source), None if parent == "." else parent)

    def _dataset(self, name: str, digest: str, source: str, context: str, profile: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name=name, digest=digest[:36], source_type="local", source=source, profile=profile)
        tags = [InputTag("mlflow.data.context", context)]
        self.store.client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])


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
    return tags.get("lenet.state") in OUTCOMES and tags.get("lenet.ended_by") == tags.get("lenet.owner")


def claim(store: Store, key: str, name: str, tags: Mapping[str, str], redo: bool = False) -> TrackedRun | Any:
    """Claim a cell: a new run, the dead one of the same key to go on with, or the MLflow run that has finished it.

    Raises:
        Busy: another process trains it.
    """
    lock = RunLock(store, key)
    if not lock.acquire():
        raise Busy(f"{name}: another process on this machine is training it")
    try:
        run = find(store, [key]).get(key)
        if run is not None and counts(run.data.tags) and not redo:
            lock.release()
            return run
        if run is not None and not counts(run.data.tags):
            _check_lease(run, name)
            client = store.client
            client.update_run(run.info.run_id, status="RUNNING")
            tracked = TrackedRun(store, key, lock, run.info.run_id, resumed=True)
        else:
            created = store.client.create_run(
                store.experiment_id, run_name=name, tags={"lenet.key": key, "lenet.state": "running"}
            )
            tracked = TrackedRun(store, key, lock, created.info.run_id, resumed=False)
    except BaseException:
        lock.release()
        raise
    host = {"lenet.host": socket.gethostname(), "lenet.pid": str(os.getpid()), "lenet.state": "running"}
    tracked.tags({**tags, **host, "lenet.heartbeat": f"{time.time():.0f}"})
    return tracked


def _check_lease(run: Any, name: str) -> None:
    """A run of another machine whose heart beat lately is alive."""
    tags = run.data.tags
    if tags.get("lenet.state") != "running" or tags.get("lenet.host") == socket.gethostname():
        return
    age = time.time() - float(tags.get("lenet.heartbeat", 0))
    if -LEASE_S < age < LEASE_S:
        raise Busy(f"{name}: {tags.get('lenet.host')} is training it (last sign of life {age:.0f} s ago)")


def deliver_pending(store: Store) -> int:
    """Deliver what earlier launches could not; returns the number of spools that were behind."""
    from lenet_lab.tracking.spool import acknowledged, deliver

    behind = 0
    for path in sorted(store.folder("spool").glob("*.jsonl")):
        if acknowledged(path) >= path.stat().st_size:
            continue
        run = store.client.get_run(path.stem)
        lock = RunLock(store, run.data.tags["lenet.key"])
        if not lock.acquire(patience=0.0):
            continue
        try:
            behind += 1
            deliver(path, Sender(store, path.stem, None).send)
        finally:
            lock.release()
    return behind


def bury(store: Store, key: str, why: str) -> None:
    """Say on a run whose process is gone how it ended; does nothing while it lives or where it has ended itself."""
    run = find(store, [key]).get(key)
    if run is None or run.data.tags.get("lenet.state") != "running":
        return
    lock = RunLock(store, key)
    if not lock.acquire():
        return
    try:
        store.client.set_tag(run.info.run_id, "lenet.error", why)
        store.client.set_tag(run.info.run_id, "lenet.state", "failed")
        store.client.set_terminated(run.info.run_id, "KILLED")
    finally:
        lock.release()
