"""What belongs to a run, and how much room it takes."""

from __future__ import annotations

import re
import time
from collections.abc import Container
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lenet_lab.tracking.read import trained_as
from lenet_lab.tracking.store import Store, database

YOUNG_S = 3600.0
ID = re.compile(r"[0-9a-f]{32,64}")


def every_run(store: Store) -> list[Any]:
    """All runs, the deleted ones among them, newest first."""
    from mlflow.entities import ViewType

    runs: list[Any] = []
    token = None
    while True:
        page = store.client.search_runs([store.experiment_id], "", ViewType.ALL, 1000, None, token)
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def artifact_root(store: Store) -> Path | None:
    """Where an SQLite store keeps artifacts; a server's artifacts are the server's."""
    if database(store.uri) is None:
        return None
    return _local(store.client.get_experiment(store.experiment_id).artifact_location)


def artifact_folder(root: Path | None, run: Any) -> Path | None:
    """The folder of a run's artifacts, where it is what and where this store would have made it."""
    given = _local(run.info.artifact_uri or "")
    if root is None or not ID.fullmatch(run.info.run_id) or given != root / run.info.run_id / "artifacts":
        return None
    folder = root / run.info.run_id
    return folder if folder.is_dir() and not folder.is_symlink() else None


def cites(cited: Container[str], run: Any) -> str:
    """The id by which a run is cited, its own or the one that it was imported with; "" where it is not."""
    return next((run_id for run_id in (run.info.run_id, trained_as(run)) if run_id in cited), "")


def key_of(run: Any) -> str:
    """The run key, fit to be a file's name; "" for what is no run of a cell."""
    key = str(run.data.tags.get("lenet.key", ""))
    return key if ID.fullmatch(key) else ""


def size_of(path: Path) -> int:
    """The bytes that a file or a folder takes on disk."""
    files = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    total = 0
    for file in files:
        try:
            total += file.lstat().st_blocks * 512
        except FileNotFoundError:  # gone meanwhile
            continue
    return total


def active(run: Any) -> bool:
    return bool(run.info.lifecycle_stage == "active")


def young(path: Path) -> bool:
    """Whether a file, or anything in a folder, was written within the hour."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return any(time.time() - file.lstat().st_mtime < YOUNG_S for file in files)


def _local(uri: str) -> Path | None:
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(uri) if not parts.scheme and uri.startswith("/") else None
