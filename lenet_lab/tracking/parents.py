"""The parent run of a sweep: it holds the list of cells and the table, and its children nest under it."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lenet_lab.records import LabError
from lenet_lab.study import Study, loads
from lenet_lab.tracking.artifacts import SUMS, read_checked
from lenet_lab.tracking.claims import search
from lenet_lab.tracking.locks import RunLock
from lenet_lab.tracking.read import trained_as
from lenet_lab.tracking.store import Store

CELLS, STUDY = "cells.json", "lenet.study"


def open_parent(
    store: Store, sweep: str, name: str, cells: Sequence[dict[str, Any]], study: Study | None = None
) -> str:
    """The parent's run id; a relaunch of the same sweep gets the same parent.

    Args:
        cells: for each cell its `key`, `arm`, `name` and `overrides`.
        study: what the sweep was launched to answer.
    """
    lock = RunLock(store, sweep)  # two launches at once must not make two parents
    lock.acquire(patience=30.0)
    try:
        run_id = _open_parent(store, sweep, name, cells)
        if study is not None:
            store.client.set_tag(run_id, STUDY, study.dumps())
        return run_id
    finally:
        lock.release()


def _open_parent(store: Store, sweep: str, name: str, cells: Sequence[dict[str, Any]]) -> str:
    found = search(store, f"tags.`lenet.sweep` = '{sweep}' AND tags.`lenet.kind` = 'sweep'")
    if found:
        run_id = str(found[0].info.run_id)
        store.client.update_run(run_id, status="RUNNING")
    else:
        tags = {"lenet.sweep": sweep, "lenet.kind": "sweep", "lenet.cells": str(len(cells))}
        run_id = str(store.client.create_run(store.experiment_id, run_name=name[:250], tags=tags).info.run_id)
    if not found or not _readable(store, found[0]):
        log_cells(store, run_id, cells)
    return run_id


def log_cells(store: Store, run_id: str, cells: Sequence[dict[str, Any]]) -> None:
    """Store a sweep's cells on its parent, with their digest."""
    content = json.dumps(list(cells), indent=1).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CELLS
        path.write_bytes(content)
        store.client.log_artifact(run_id, str(path))
    store.client.set_tag(run_id, SUMS, json.dumps({CELLS: hashlib.sha256(content).hexdigest()}))


def _readable(store: Store, parent: Any) -> bool:
    try:
        return bool(cells_of(store, parent))
    except LabError:
        return False


def close_parent(store: Store, run_id: str, note: str, ok: bool) -> None:
    """Write the sweep's table into its description and end it.

    Where two launches of one sweep end at once, both see no description and insert one; MLflow refuses the later, for
    which there is then one to be replaced.
    """
    from mlflow.exceptions import MlflowException

    try:
        store.client.set_tag(run_id, "mlflow.note.content", note)
    except MlflowException:
        store.client.set_tag(run_id, "mlflow.note.content", note)
    store.client.set_terminated(run_id, "FINISHED" if ok else "FAILED", int(time.time() * 1000))


def attach(store: Store, run_id: str, page: Path, note: str, own: Mapping[str, str]) -> None:
    """Put a report on a sweep's page, its tables into the notes of the sweep and of its runs (by run id)."""
    store.client.log_artifact(run_id, str(page))
    store.client.set_tag(run_id, "mlflow.note.content", note)
    for run in search(store, f"tags.`mlflow.parentRunId` = '{run_id}'"):
        if text := own.get(trained_as(run)):
            store.client.set_tag(run.info.run_id, "mlflow.note.content", text)


def parents(store: Store) -> list[Any]:
    """All sweeps, newest first."""
    return search(store, "tags.`lenet.kind` = 'sweep'")


def find_parent(store: Store, prefix: str) -> Any:
    """The sweep whose id or run id begins with `prefix`, or whose study has that name.

    Raises:
        LabError: none or several do.
    """
    found = [
        p
        for p in parents(store)
        if p.data.tags["lenet.sweep"].startswith(prefix) or p.info.run_id.startswith(prefix) or _asks(p, prefix)
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(p.data.tags["lenet.sweep"][:8] for p in (found or parents(store))[:8]) or "none"
    raise LabError(f"sweep {prefix!r}: {'several' if found else 'no'} sweeps begin so; there are: {known}")


def find_parents(store: Store, word: str) -> list[Any]:
    """All sweeps of the study of that name; else the one that `find_parent` finds.

    Raises:
        LabError: it finds none or several.
    """
    return [p for p in parents(store) if _asks(p, word)] or [find_parent(store, word)]


def cells_of(store: Store, parent: Any) -> list[dict[str, Any]]:
    """The cells a sweep's parent lists.

    Raises:
        LabError: the list is missing or damaged; the same sweep launched again writes it anew.
    """
    cells = json.loads(read_checked(store, parent, CELLS))
    assert isinstance(cells, list)
    return cells


def _asks(parent: Any, name: str) -> bool:
    try:
        study = study_of(parent)
    except LabError:  # a tag that is no study: the sweep has no name
        return False
    return study is not None and study.name == name


def study_of(parent: Any) -> Study | None:
    """The study that a sweep was launched for.

    Raises:
        LabError: its tag cannot be read.
    """
    text = parent.data.tags.get(STUDY)
    return None if text is None else loads(text)
