"""Artifacts read back: every byte checked against the digest that its run recorded at the end."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lenet_lab.records import LabError
from lenet_lab.tracking.store import Store

SUMS = "lenet.sha256"


def digests(run_id: str, tags: Mapping[str, str]) -> dict[str, str]:
    """The files that a run recorded: relative path -> SHA-256 (hex).

    Raises:
        LabError: it recorded none, or what it recorded cannot be read.
    """
    try:
        found = json.loads(tags[SUMS])
        if isinstance(found, dict) and all(isinstance(digest, str) for digest in found.values()):
            return found
    except (KeyError, ValueError):
        pass
    raise LabError(f"run {run_id}: has no readable list of its files' digests (tag {SUMS})")


def read_artifact(store: Store, run_id: str, relative: str) -> bytes:
    """A file of a run, as the run wrote it.

    Args:
        run_id: as the store has it, or that of an imported run where it was trained.

    Raises:
        LabError: it is not among the run's files, is missing, or its digest does not hold; names run and file.
    """
    return read_checked(store, find_run(store, run_id), relative)


def read_checked(store: Store, run: Any, relative: str) -> bytes:
    """The same for an MLflow run at hand."""
    from mlflow.exceptions import MlflowException

    run_id = run.info.run_id
    expected = digests(run_id, run.data.tags).get(relative)
    if expected is None:
        raise LabError(f"run {run_id}: {relative}: is not among the files of the run")
    with tempfile.TemporaryDirectory() as folder:
        try:
            content = Path(store.client.download_artifacts(run_id, relative, folder)).read_bytes()
        except (OSError, MlflowException):
            raise LabError(f"run {run_id}: {relative}: is missing from the store, or cannot be read") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise LabError(f"run {run_id}: {relative}: is damaged: its digest does not hold")
    return content


def find_run(store: Store, run_id: str) -> Any:
    """The MLflow run of this id, or the one imported under it.

    Raises:
        LabError: there is none.
    """
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_run(run_id)
    except MlflowException:
        pass
    if run_id.isalnum():
        page = store.client.search_runs([store.experiment_id], f"tags.`lenet.run_id` = '{run_id}'", max_results=1)
        if page:
            return page[0]
    raise LabError(f"run {run_id[:64]!r}: is not in the store")
