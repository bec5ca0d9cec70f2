"""The parent run of a sweep: it holds the list of cells and the table, and its children nest under it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lenet_lab.records import LabError
from lenet_lab.tracking.claims import search
from lenet_lab.tracking.store import Store


def open_parent(store: Store, sweep: str, name: str, cells: Sequence[dict[str, Any]]) -> str:
    """The parent's run id; a relaunch of the same sweep gets the same parent.

    Args:
        cells: for each cell its `key`, `arm`, `name` and `overrides`.
    """
    found = search(store, f"tags.`lenet.sweep` = '{sweep}' AND tags.`lenet.kind` = 'sweep'")
    if found:
        run_id = str(found[0].info.run_id)
        store.client.update_run(run_id, status="RUNNING")
    else:
        tags = {"lenet.sweep": sweep, "lenet.kind": "sweep", "lenet.cells": str(len(cells))}
        run_id = str(store.client.create_run(store.experiment_id, run_name=name[:250], tags=tags).info.run_id)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cells.json"
            path.write_text(json.dumps(list(cells), indent=1))
            store.client.log_artifact(run_id, str(path))
    return run_id


def close_parent(store: Store, run_id: str, note: str, ok: bool) -> None:
    """Write the sweep's table into its description and end it."""
    store.client.set_tag(run_id, "mlflow.note.content", note)
    store.client.set_terminated(run_id, "FINISHED" if ok else "FAILED", int(time.time() * 1000))


def parents(store: Store) -> list[Any]:
    """All sweeps, newest first."""
    return search(store, "tags.`lenet.kind` = 'sweep'")


def find_parent(store: Store, prefix: str) -> Any:
    """The sweep whose id or run id begins with `prefix`.

    Raises:
        LabError: none or several do.
    """
    found = [
        p for p in parents(store) if p.data.tags["lenet.sweep"].startswith(prefix) or p.info.run_id.startswith(prefix)
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(p.data.tags["lenet.sweep"][:8] for p in parents(store)[:8]) or "none"
    raise LabError(f"sweep {prefix!r}: {'several' if found else 'no'} sweeps begin so; there are: {known}")


def cells_of(store: Store, parent: Any) -> list[dict[str, Any]]:
    """The cells a sweep's parent lists."""
    with tempfile.TemporaryDirectory() as folder:
        path = store.client.download_artifacts(parent.info.run_id, "cells.json", folder)
        cells = json.loads(Path(path).read_text())
    assert isinstance(cells, list)
    return cells
