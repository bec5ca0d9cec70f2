"""Free space: what runs have left behind and nothing needs any more. First a plan, then, if it is wanted, the deed.

Nothing of a run that is cited, whose lock is held, or that is running is ever part of a plan; nor, unless asked
for, what a dead, stopped or failed run would be resumed from.
"""

from __future__ import annotations

import shutil
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_lab.tracking.belongings import (
    ID,
    active,
    artifact_folder,
    artifact_root,
    cites,
    every_run,
    key_of,
    size_of,
    young,
)
from lenet_lab.tracking.claims import counts
from lenet_lab.tracking.glance import behind
from lenet_lab.tracking.locks import RunLock, alive
from lenet_lab.tracking.read import state_of
from lenet_lab.tracking.runs import OUTCOMES
from lenet_lab.tracking.store import Store

PATIENCE_S = 0.1
ARTIFACTS = "artifacts"
PURGED = "lenet.purged"


@dataclass(frozen=True)
class Piece:
    """Something that can go, or with `keep` the reason why it stays.

    Attributes:
        key: the run key whose lock must be had to remove it; "" where there is none.
        run_id: the run whose artifacts these are; "" otherwise.
    """

    kind: str
    path: Path
    size: int
    why: str
    key: str = ""
    run_id: str = ""
    keep: str = ""


def plan(store: Store, cited: Container[str], dead: bool = False) -> list[Piece]:
    """Everything that could go, with what stays and why.

    Args:
        cited: ids of runs that a report or an export cites.
        dead: what dead, stopped and failed runs would be resumed from goes too; they start afresh then.
    """
    return list(_Plan(store, cited, dead))


def remove(store: Store, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, str]]:
    """Remove what `plan` found; yields each piece with "" or with the reason why it is still there."""
    for piece in pieces:
        if not piece.keep:
            yield piece, _remove(store, piece)


class _Plan:
    """What a store and its state folder hold, piece by piece."""

    def __init__(self, store: Store, cited: Container[str], dead: bool) -> None:
        self.store, self.state, self.cited, self.dead = store, store.state, cited, dead
        self.by_id = {run.info.run_id: run for run in every_run(store)}
        self.by_key: dict[str, list[Any]] = {}
        for run in self.by_id.values():
            self.by_key.setdefault(key_of(run), []).append(run)

    def __iter__(self) -> Iterator[Piece]:
        pieces = [*self._checkpoints(), *self._left("outbox"), *self._left("spool"), *self._artifacts()]
        going = [piece.path for piece in pieces if not piece.keep]
        yield from pieces
        yield from (part for part in self._partial() if not any(path in part.path.parents for path in going))
        yield from self._locks()

    def _checkpoints(self) -> Iterator[Piece]:
        for folder in self._named("checkpoints"):
            key, runs = folder.name, self.by_key.get(folder.name, [])
            states = {state_of(self.store, run.data.tags) for run in runs if active(run)}
            keep = self._held(key, runs)
            resumable = "dead" in states or (states and not states & set(OUTCOMES))
            if not keep and resumable and not self.dead:
                keep = f"{', '.join(sorted(states))}: can be resumed (--dead removes it)"
            if not keep and not runs and young(folder):
                keep = "younger than an hour"
            gone = "its run is deleted" if runs else "its run is no more"
            why = "its run can be resumed" if resumable else "complete" if states else gone
            yield Piece("checkpoints", folder, size_of(folder), why, key, keep=keep)

    def _left(self, kind: str) -> Iterator[Piece]:
        """What is left in `outbox` or `spool` of runs that need it no more."""
        for path in self._named(kind):
            run = self.by_id.get(path.stem)
            key = key_of(run) if run is not None else ""
            pending = behind(self.state / "spool" / f"{path.stem}.jsonl")
            if run is None:
                keep, why = "younger than an hour" if young(path) else "", "its run is no more"
            elif self._held(key, [run]):
                keep, why = self._held(key, [run]), ""
            elif not active(run):
                keep, why = "", "its run is deleted"
            elif pending:
                keep, why = "not delivered yet (the next launch delivers it)", ""
            elif counts(run.data.tags):
                keep, why = "", "complete"
            else:
                keep, why = "" if self.dead and kind == "outbox" else "its run can be resumed", "its run can be resumed"
            yield Piece(kind, path, self._size(path), why, key, keep=keep)

    def _artifacts(self) -> Iterator[Piece]:
        root = artifact_root(self.store)
        for run in self.by_id.values():
            folder = None if active(run) else artifact_folder(root, run)
            if folder is not None:
                key = key_of(run)
                keep = self._held(key, [run])
                yield Piece(ARTIFACTS, folder, size_of(folder), "its run is deleted", key, run.info.run_id, keep)

    def _partial(self) -> Iterator[Piece]:
        for path in sorted(self.state.rglob("*.part")):
            key = path.parent.name if path.parent.parent.name == "checkpoints" else ""
            keep = "its run is running" if key and alive(self.store, key) else ""
            if path.is_file() and not young(path):
                yield Piece("partial file", path, size_of(path), "a write that was cut short", key, keep=keep)

    def _locks(self) -> Iterator[Piece]:
        for path in sorted((self.state / "locks").glob("*/*.lock")):
            if path.parent.name == path.stem[:2] and not alive(self.store, path.stem):
                yield Piece("lock", path, size_of(path), "nobody holds it", path.stem)

    def _held(self, key: str, runs: Sequence[Any]) -> str:
        """Why nothing of these runs of a key may be touched, whatever was asked for; "" where it may."""
        if any(cites(self.cited, run) for run in runs):
            return "cited"
        states = [state_of(self.store, run.data.tags) for run in runs if active(run)]
        if key and (alive(self.store, key) or "running" in states):
            return "its run is running"
        return ""

    def _named(self, kind: str) -> list[Path]:
        """What lies in a folder of the state, foreign things and links left out; of spools, the event files."""
        found = sorted((self.state / kind).glob("*.jsonl" if kind == "spool" else "*"))
        return [path for path in found if ID.fullmatch(path.stem) and not path.is_symlink()]

    def _size(self, path: Path) -> int:
        return size_of(path) + (size_of(path.with_suffix(".ack")) if path.suffix == ".jsonl" else 0)


def _remove(store: Store, piece: Piece) -> str:
    lock = RunLock(store, piece.key) if piece.key else None
    if lock is not None and not lock.acquire(patience=PATIENCE_S):
        return "its run is running"
    from mlflow.exceptions import MlflowException

    try:
        if piece.run_id and not _purge(store, piece.run_id):
            return "restored meanwhile"
        if piece.path.is_dir():
            shutil.rmtree(piece.path)
        elif piece.kind != "lock":
            piece.path.unlink(missing_ok=True)
            if piece.kind == "spool":
                piece.path.with_suffix(".ack").unlink(missing_ok=True)
    except OSError as error:
        return f"{error.strerror}: {error.filename}"
    except MlflowException as error:
        return " ".join(str(error).split())[:200]
    finally:
        if lock is not None:
            lock.release(remove=True)
    return ""


def _purge(store: Store, run_id: str) -> bool:
    """Say on a deleted run that its files are gone, so that it never counts again, whoever restores it.

    MLflow writes no tags on deleted runs, so it comes back for an instant, whole until it says so.
    """
    run = store.client.get_run(run_id)
    if active(run):
        return False
    if "lenet.key" in run.data.tags and PURGED not in run.data.tags:
        from mlflow.entities import RunTag

        said = {
            PURGED: "true",
            "lenet.owner": "nobody",
            "lenet.locks": "",
            "lenet.state": "failed",
            "lenet.error": "its files were removed by gc",
        }
        store.client.restore_run(run_id)
        store.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in said.items()])
        store.client.delete_run(run_id)
    return True
