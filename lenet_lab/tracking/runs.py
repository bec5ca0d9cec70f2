"""One tracked run: claimed by its key, written through its spool, complete only by its last tag."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

from lenet_lab.records import LabError
from lenet_lab.tracking.locks import RunLock
from lenet_lab.tracking.rivals import close, enter
from lenet_lab.tracking.sender import Sender
from lenet_lab.tracking.spool import Courier, Event, Spool
from lenet_lab.tracking.store import Store, patiently

HEARTBEAT_S = 15.0
LEASE_S = 60.0
OUTCOMES = ("complete", "diverged")
RERUN = "rerun"  # the outcome of a run that only repeats another, and counts for nothing
STATUS = {RERUN: "FINISHED", "complete": "FINISHED", "diverged": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class Busy(LabError):
    """Another process is training this cell."""


class TakenOver(RuntimeError):
    """This run belongs to another process now; nothing written from here counts."""


class TrackedRun:
    """A claimed run. `finish` must be the last call."""

    def __init__(self, store: Store, key: str, lock: RunLock, run_id: str, before: Mapping[str, str]) -> None:
        """`before` are the tags of the run when it was claimed: empty for a new one."""
        self.store, self.key, self.run_id, self.before = store, key, run_id, before
        self.digests: dict[str, str] = {}
        self.hurry = threading.Event()  # set: do not wait for the store at the end
        self.note: Mapping[str, str] = {}  # tags to begin with
        self.rerun = False  # whatever its outcome, it does not count
        self._lock = lock
        self.token = uuid.uuid4().hex
        self.outbox = store.folder("outbox", run_id)
        self.checkpoints = store.folder("checkpoints", key)
        self._spool = Spool(store.folder("spool") / f"{run_id}.jsonl", lambda: _held(store, run_id))
        sender = Sender(store, run_id, self.token)
        self._courier = Courier(self._spool.path, sender.send, sender.beat, HEARTBEAT_S)

    def begin(self, tags: Mapping[str, str]) -> None:
        """Take the run: from here on it is this process's, and says so.

        Raises:
            TakenOver: another machine trains the cell.
            LabError: the store does not answer.
        """
        host = {"lenet.host": socket.gethostname(), "lenet.pid": str(os.getpid()), "lenet.locks": self.store.domain}
        now = {"lenet.owner": self.token, "lenet.state": "running", "lenet.heartbeat": f"{time.time():.0f}"}
        busy = patiently(self.store, lambda: self._take({**host, **now}))
        if busy is not None:
            raise TakenOver(f"{busy} is training it")
        self._courier.start()
        again = {"lenet.error": ""} if self.before.get("lenet.error") else {}
        self.tags({**tags, **again})

    def _take(self, tags: Mapping[str, str]) -> str | None:
        from mlflow.entities import RunTag

        client = self.store.client
        client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        busy = enter(self.store, self.key, self.run_id, self.token, LEASE_S)
        if busy is not None and self.before:
            close(self.store, self.run_id, f"{busy} is training it")
        elif busy is not None:
            client.delete_run(self.run_id)  # nothing is in it
        elif self.before:
            client.update_run(self.run_id, status="RUNNING")
        return busy

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
        """A file or folder that the caller has put under `outbox`, as an artifact of the same relative path.

        Its SHA-256 goes on the run at the end, so that what is read back can be checked.
        """
        path = self.outbox / relative
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            self.digests[file.relative_to(self.outbox).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
        self._put({"artifact": relative})

    def dataset(self, name: str, digest: str, source: str, context: str, profile: Mapping[str, Any]) -> None:
        """The data a run used, as MLflow shows it."""
        self._put({"dataset": [name, digest, source, context, json.dumps(profile)]})

    def finish(self, state: str, timeout: float = 60.0) -> bool:
        """Say how the run ended, after everything before it; True when the store has it all.

        What has not arrived by `timeout` seconds, or when `hurry` is set, stays in the spool and is delivered at
        the next launch.

        Raises:
            TakenOver: the run belongs to another process now, and what this one found does not count.
        """
        state = RERUN if self.rerun and state in OUTCOMES else state
        digests = json.dumps(self.digests, sort_keys=True, separators=(",", ":"))
        tags = {"lenet.sha256": digests, "lenet.state": state, "lenet.ended_by": self.token}
        try:
            self._put({"tags": tags, "status": STATUS[state], "end": int(time.time() * 1000)}, sync=True)
            if state == "stopped" and self._courier.ident is None:  # while it was about to begin
                self._courier.start()
            arrived = self._courier.flush(timeout, self.hurry)
        finally:
            self._courier.stop()
            self._spool.close()
            self._lock.release()
        if self._courier.fatal is not None:
            raise TakenOver(str(self._courier.fatal))
        if arrived:
            shutil.rmtree(self.outbox, ignore_errors=True)
        if arrived and state in (*OUTCOMES, RERUN):
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            for left in (self._spool.path, self._spool.path.with_suffix(".ack")):
                left.unlink(missing_ok=True)
        return arrived

    def abandon(self) -> None:
        """Let go without a word: the run belongs to somebody else, or is not to be touched."""
        self._courier.stop()
        self._spool.close()
        self._lock.release()

    def _put(self, event: Event, sync: bool = False) -> None:
        if self._courier.fatal is not None:
            raise TakenOver(str(self._courier.fatal))
        self._spool.append(event, sync)
        self._courier.nudge()


def _held(store: Store, run_id: str) -> set[tuple[str, int]]:
    """Key and step of every metric point that the store holds of a run."""
    keys = store.client.get_run(run_id).data.metrics
    return {(key, point.step) for key in keys for point in store.client.get_metric_history(run_id, key)}
