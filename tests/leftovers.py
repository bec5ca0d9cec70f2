"""Stores with runs in every state and what such runs leave behind, made by hand in milliseconds."""

import contextlib
import hashlib
import os
import shutil
import sqlite3
import time

from sharing import shared

from lenet_lab.tracking import open_store
from lenet_lab.tracking.locks import RunLock
from lenet_lab.tracking.spool import encoded


def empty_store(tmp_path_factory, folder):
    """A store in `folder`, copied from one that MLflow has made: a copy takes no seconds."""
    made, _ = shared(tmp_path_factory, "empty_store", _make)
    file = folder / "mlflow.db"
    file.touch(mode=0o600)
    (folder / "mlartifacts").mkdir(mode=0o700)
    (folder / "mlflow.lab").mkdir(mode=0o700)
    shutil.copy(made / "mlflow.lab" / "made", folder / "mlflow.lab" / "made")
    source, target = sqlite3.connect(made / "mlflow.db"), sqlite3.connect(file)
    with contextlib.closing(source), contextlib.closing(target):
        source.backup(target)
        location = (folder / "mlartifacts").as_uri()
        target.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'lenet_lab'", (location,))
        target.commit()
        target.execute("PRAGMA journal_mode=WAL")
    return open_store(f"sqlite:///{file}")


def _make(folder):
    return open_store(f"sqlite:///{folder / 'mlflow.db'}").experiment_id


class Left:
    """A run and everything that it has left: artifacts, checkpoints, outbox, a spool, a lock file."""

    def __init__(self, store, number, state, *, deleted=False, delivered=True, old=True, sweep="", **tags):
        self.store, self.key, self.state, self.deleted = store, f"{number:064x}", state, deleted
        said = {"lenet.key": self.key, "lenet.locks": store.domain, "lenet.owner": "me", "lenet.sweep": sweep, **tags}
        said["lenet.state"] = "running" if state == "dead" else state
        if state in ("complete", "diverged"):
            said["lenet.ended_by"] = "me"
        run = store.client.create_run(store.experiment_id, run_name=f"cell {number}", tags=said)
        self.run_id = run.info.run_id
        self.artifacts = store.state.parent / "mlartifacts" / self.run_id
        self.checkpoints = store.folder("checkpoints", self.key)
        self.outbox = store.folder("outbox", self.run_id)
        self.spool = store.folder("spool") / f"{self.run_id}.jsonl"
        (self.artifacts / "artifacts").mkdir(parents=True)
        (self.artifacts / "artifacts" / "config.yaml").write_text("seed: 0\n")
        checkpoint(self.checkpoints / "epoch-00001.ckpt")
        (self.outbox / "config.yaml").write_text("seed: 0\n")
        self.spool.write_bytes(encoded('{"tags":{"a":"1"}}'))
        if delivered:
            self.spool.with_suffix(".ack").write_bytes(encoded(str(self.spool.stat().st_size)))
        if deleted:
            store.client.delete_run(self.run_id)
        self.lock = RunLock(store, self.key)
        self.lock.acquire()
        if state != "running":
            self.lock.release()
        if old:
            age(self.checkpoints, self.outbox, self.spool)

    @property
    def pieces(self):
        """What is there of it now."""
        paths = {name: getattr(self, name) for name in ("artifacts", "checkpoints", "outbox", "spool")}
        return {name for name, path in paths.items() if path.exists()}


EVERYTHING = {"artifacts", "checkpoints", "outbox", "spool"}


def checkpoint(path, content=b"weights", digest=None):
    """A checkpoint with its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_name(path.name + ".sha256").write_text(digest or hashlib.sha256(content).hexdigest())


def age(*paths, seconds=7200):
    """Make files look that old."""
    then = time.time() - seconds
    for path in paths:
        for file in [*path.rglob("*"), path] if path.is_dir() else [path]:
            os.utime(file, (then, then))


def tree(folder):
    """Every path under a folder with its kind, mode and content; SQLite's files aside, which `rows` looks into."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
        if not path.name.startswith("mlflow.db")
    }


def rows(folder):
    """Everything that the database says."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return list(connection.iterdump())
