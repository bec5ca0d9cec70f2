"""Runs from an export into a store: checked whole before the first write, each counted only when it is all there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lenet_lab.records import LabError
from lenet_lab.tracking.artifacts import find_run
from lenet_lab.tracking.claims import counts, search
from lenet_lab.tracking.exports import member, read_lines
from lenet_lab.tracking.locks import RunLock
from lenet_lab.tracking.parents import log_cells
from lenet_lab.tracking.portable import Portable
from lenet_lab.tracking.read import trained_as
from lenet_lab.tracking.sealed import Sealed, opened
from lenet_lab.tracking.store import Store, open_store

_OWNER = "imported"
_BATCH = 100


@dataclass
class Imported:
    """What an import did; `skipped` says of each run that was left out why."""

    runs: int = 0
    sweeps: int = 0
    present: int = 0
    skipped: list[str] = field(default_factory=list)


def import_runs(path: Path, uri: str | None = None) -> Imported:
    """Bring an export's runs and sweeps into the store at `uri`; the store is opened when the file has been checked.

    A run is the same as one in the store when key and run id are: it is not written twice. A run of a cell that
    another run of the store has finished is left out, since a cell counts once. Whatever stops this, a run that is
    not all there bears no run key and counts for nothing; the next import goes on with it.

    Raises:
        LabError: the file is damaged or no export, the store cannot be had, or another import into it is at work.
    """
    from mlflow.exceptions import MlflowException

    with opened(path) as file:
        lines = read_lines(file)[1]
        store = open_store(uri)
        with _held(store, "import") as alone:
            if not alone:
                raise LabError(f"{path}: another import into this store is at work; try again when it has ended")
            try:
                return _bring(store, file, lines)
            except MlflowException as error:
                why = " ".join(str(error).split())[:200]
                raise LabError(f"{path}: the store stopped answering: {why}; the same command goes on") from None


def _bring(store: Store, file: Sealed, lines: Sequence[Portable]) -> Imported:
    done = Imported()
    parents: dict[str, str] = {}
    siblings: dict[str, set[str]] = {}
    for line in lines:
        siblings.setdefault(line.key, set()).add(line.run_id)
    for line in (line for line in lines if line.kind == "sweep"):
        found = search(store, f"tags.`lenet.kind` = 'sweep' AND tags.`lenet.sweep` = '{line.tags['lenet.sweep']}'")
        if found:
            parents[line.run_id] = found[0].info.run_id
        elif not (why := _taken(store, line)):
            parents[line.run_id] = _write(store, file, line, None)
            done.sweeps += 1
        else:
            done.skipped.append(f"sweep {line.tags['lenet.sweep'][:8]}: left out: {why}")
    for line in (line for line in lines if line.kind == "run"):
        with _held(store, line.key) as free:
            runs = search(store, f"tags.`lenet.key` = '{line.key}'")
            finished = {trained_as(run) for run in runs if counts(run.data.tags)}
            if line.run_id in finished:
                done.present += 1
            elif others := sorted(finished - siblings[line.key]):
                done.skipped.append(f"{line.name}: left out: run {others[0]} of the store has finished this cell")
            elif not free:
                done.skipped.append(f"{line.name}: left out: a process on this machine is training this cell")
            elif why := _taken(store, line):
                done.skipped.append(f"{line.name}: left out: {why}")
            else:
                _write(store, file, line, parents.get(line.parent or ""))
                done.runs += 1
    return done


def _taken(store: Store, line: Portable) -> str | None:
    """Why the line's run id is not free in the store; what an interrupted import left does not take it."""
    try:
        run = find_run(store, line.run_id)
    except LabError:
        return None
    left = "lenet.run_id" in run.data.tags and not {"lenet.key", "lenet.kind"} & set(run.data.tags)
    return None if left else f"its run id {line.run_id} is that of another run of the store"


@contextmanager
def _held(store: Store, key: str) -> Iterator[bool]:
    lock = RunLock(store, key)
    try:
        yield lock.acquire(patience=0.0)
    finally:
        lock.release()


def _write(store: Store, file: Sealed, line: Portable, parent: str | None) -> str:
    """Write a run: what makes it count goes last, in one piece. What an interrupted import left is gone on with."""
    from mlflow.entities import Metric, Param, RunTag

    client = store.client
    left = search(store, f"tags.`lenet.run_id` = '{line.run_id}'")
    if left:
        run_id = left[0].info.run_id
    else:
        origin = {"lenet.run_id": line.run_id}
        run_id = client.create_run(store.experiment_id, line.start_ms, origin, line.name).info.run_id
    metrics = [Metric(name, value, at, step) for name in line.points for step, at, value in line.values(name)]
    params = [Param(name, value) for name, value in line.params.items()]
    last: dict[str, str] = {}
    last |= {name: line.tags[name] for name in ("lenet.kind", "lenet.key", "lenet.state") if name in line.tags}
    first = {name: value for name, value in line.tags.items() if name not in last}
    if parent:
        first["mlflow.parentRunId"] = parent
    tags = [RunTag(name, value) for name, value in first.items()]
    for start in range(0, max(len(metrics), len(params), len(tags)), _BATCH):
        client.log_batch(run_id, *(rows[start : start + _BATCH] for rows in (metrics, params, tags)))
    _inputs(store, run_id, line)
    if line.cells:
        log_cells(store, run_id, [asdict(cell) for cell in line.cells])
    if line.artifacts:
        _artifacts(store, file, run_id, line)
    client.set_terminated(run_id, line.status, line.end_ms)
    if line.kind == "run":
        last |= {"lenet.owner": _OWNER, "lenet.ended_by": _OWNER}
    client.log_batch(run_id, [], [], [RunTag(name, value) for name, value in last.items()])
    return str(run_id)


def _inputs(store: Store, run_id: str, line: Portable) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    used = []
    for given in line.inputs:
        dataset: Any = Dataset(given.name, given.digest, given.source_type, given.source, None, given.profile or None)
        used.append(DatasetInput(dataset, [InputTag(name, value) for name, value in given.tags.items()]))
    if used:
        store.client.log_inputs(run_id, used)


def _artifacts(store: Store, file: Sealed, run_id: str, line: Portable) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for relative in line.artifacts:
            path = Path(folder) / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.read(member(line.run_id, relative)))
        store.client.log_artifacts(run_id, folder)
