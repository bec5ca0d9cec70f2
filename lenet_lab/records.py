"""What a tracked run is to the rest of the package: plain immutable records, no tracking library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

PACKED = "replicas"  # the engine that an execution record names where the run was trained in a pack


class LabError(ValueError):
    """A mistake the user can mend: one line that says what, where and what is allowed."""


@dataclass(frozen=True)
class RunRecord:
    """One tracked run as the store held it when it was read.

    `arm` names the cell without its seed: runs of one arm differ by seed alone. `state` is "complete" or
    "diverged" for a run that ended, anything else ("running", "failed", "dead", ...) for one that does
    not count. `metrics` holds the last value of each metric, `link` an address to look at the run.
    """

    run_id: str
    name: str
    key: str
    arm: str
    seed: int | None
    state: str
    sweep: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    start_ms: int | None
    end_ms: int | None
    artifact_uri: str
    link: str | None = None


Curves = Mapping[str, Mapping[str, tuple[tuple[int, float], ...]]]
"""Learning curves: run id -> metric -> ((step, value), ...)."""


def order(record: RunRecord) -> tuple[str, bool, int, str]:
    """Sort key of records: arm, then seed (runs without one last), then run id."""
    return record.arm, record.seed is None, record.seed or 0, record.run_id


def frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """The comparison table: one row a run, sorted by arm, seed and run id.

    Columns: the plain fields of `RunRecord`, then `params.<name>`, `metrics.<name>` and `tags.<name>` (the
    naming of `mlflow.search_runs`), each block in alphabetical order. What a run does not have is missing.
    """
    import pandas as pd

    rows = sorted(records, key=order)
    plain = (
        "run_id",
        "name",
        "key",
        "arm",
        "seed",
        "state",
        "sweep",
        "start_ms",
        "end_ms",
        "artifact_uri",
        "link",
    )
    columns: dict[str, Any] = {field: [getattr(row, field) for row in rows] for field in plain}
    for field in ("seed", "start_ms", "end_ms"):
        columns[field] = pd.array(columns[field], dtype="Int64")
    for block in ("params", "metrics", "tags"):
        names = sorted({name for row in rows for name in getattr(row, block)})
        for name in names:
            values = [getattr(row, block).get(name) for row in rows]
            columns[f"{block}.{name}"] = pd.array(values, dtype="float64") if block == "metrics" else values
    return pd.DataFrame(columns)
