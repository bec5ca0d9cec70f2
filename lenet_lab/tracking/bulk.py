"""Every run of a database at once: MLflow's tables as plain rows, of which its search makes objects one by one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from sys import intern
from types import SimpleNamespace
from typing import Any

from lenet_lab.tracking.store import Store


def all_runs(store: Store) -> Iterator[Any] | None:
    """What MLflow's search gives, newest first, as far as a record needs it; None where a server keeps the runs."""
    session = getattr(store.client._tracking_client.store, "ManagedSessionMaker", None)
    return None if session is None else _runs(session, int(store.experiment_id))


def _runs(maker: Any, experiment: int) -> Iterator[Any]:
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlParam, SqlRun, SqlTag

    params, tags, metrics = (defaultdict[str, dict[str, Any]](dict) for _ in range(3))
    with maker() as session:
        ours = (SqlRun.experiment_id == experiment, SqlRun.lifecycle_stage == "active")
        ids = session.query(SqlRun.run_uuid).filter(*ours).scalar_subquery()
        for table, found in ((SqlParam, params), (SqlTag, tags)):
            rows = session.query(table.run_uuid, table.key, table.value).filter(table.run_uuid.in_(ids))
            for run, key, value in rows.yield_per(10_000):
                found[run][intern(key)] = intern(value)
        table = SqlLatestMetric
        numbers = session.query(table.run_uuid, table.key, table.value, table.is_nan)
        for run, key, value, is_nan in numbers.filter(table.run_uuid.in_(ids)).yield_per(10_000):
            metrics[run][intern(key)] = math.nan if is_nan else value
        plain = (SqlRun.run_uuid, SqlRun.name, SqlRun.start_time, SqlRun.end_time, SqlRun.artifact_uri)
        heads = session.query(*plain).filter(*ours).order_by(SqlRun.start_time.desc(), SqlRun.run_uuid).all()
    for run, name, start, end, artifacts in heads:
        info = SimpleNamespace(run_id=run, run_name=name, start_time=start, end_time=end, artifact_uri=artifacts)
        data = SimpleNamespace(params=params.pop(run, {}), tags=tags.pop(run, {}), metrics=metrics.pop(run, {}))
        yield SimpleNamespace(info=info, data=data)
