"""From a run in the store to a line of an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lenet_lab.tracking.artifacts import SUMS, digests
from lenet_lab.tracking.portable import Input, Portable, number, portable_cells, portable_tags, portable_words
from lenet_lab.tracking.read import trained_as
from lenet_lab.tracking.store import Store


def sweep_line(parent: Any, cells: Sequence[Mapping[str, Any]]) -> Portable:
    """The parent of a sweep; its list of cells is part of the line."""
    name = " ".join(portable_words((parent.info.run_name or "").split(" ")))
    tags = portable_tags(parent.data.tags)
    tags.pop(SUMS, None)
    return Portable(
        kind="sweep",
        name=name,
        parent=None,
        points={},
        inputs=[],
        artifacts=[],
        cells=portable_cells(cells),
        tags=tags,
        **_plain(parent),
    )


def run_line(store: Store, run: Any, parents: Mapping[str, str], artifacts: str) -> Portable:
    """A run that counts.

    Args:
        parents: for the parents that are exported too, their id in the store and the one they bear in the file.
        artifacts: `none`, `predictions` or `all`.
    """
    tags, files = run.data.tags, digests(run.info.run_id, run.data.tags)
    points: dict[str, list[Any]] = {}
    for metric in sorted(run.data.metrics):
        history = store.client.get_metric_history(run.info.run_id, metric)
        points[metric] = [(p.step, p.timestamp, number(p.value)) for p in history]
        points[metric].sort(key=lambda point: (*point[:2], str(point[2])))
    return Portable(
        kind="run",
        name=run.info.run_name or "",
        parent=parents.get(tags.get("mlflow.parentRunId", "")),
        points=points,
        inputs=sorted((_input(used) for used in run.inputs.dataset_inputs), key=lambda used: used.name),
        artifacts=sorted(f for f in files if artifacts == "all" or f == f"{artifacts}.npz"),
        cells=[],
        tags=portable_tags(tags),
        **_plain(run),
    )


def _plain(run: Any) -> dict[str, Any]:
    info = run.info
    return {
        "run_id": trained_as(run),
        "status": info.status if info.status in ("FINISHED", "FAILED") else "KILLED",
        "start_ms": info.start_time,
        "end_ms": info.end_time or info.start_time,
        "params": dict(run.data.params),
    }


def _input(used: Any) -> Input:
    data = used.dataset
    tags = {tag.key: tag.value for tag in used.tags}
    return Input(data.name, data.digest, data.source_type, data.source or "", data.profile or "", tags)
