"""Every run of a database at once: MLflow's tables as plain rows, of which its search makes objects one by one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator
from sys import intern
from types import SimpleNamespace
from typing import Any

from lenet_lab.tracking.store import Store


def all_runs(store: Store, only: Collection[str] = ()) -> Iterator[Any] | None:
    """What MLflow's search gives, newest first, as far as a record needs it; None where a server keeps the runs.

    Args:
        only: the keys of params, tags and metrics to read; none: all.
    """
    session = getattr(store.client._tracking_client.store, "ManagedSessionMaker", None)
    return None if session is None else _runs(session, int(store.experiment_id), only)


def _runs(maker: Any, experiment: int, only: Collection[str]) -> Iterator[Any]:
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlParam, SqlRun, SqlTag
    from sqlalchemy import select

    params, tags, metrics = (defaultdict[str, dict[str, Any]](dict) for _ in range(3))
    with maker() as session:
        # rows of the connection: those of the session's queries took four times as long
        connection = session.connection()
        ours = (SqlRun.experiment_id == experiment, SqlRun.lifecycle_stage == "active")
        ids: Any = select(SqlRun.run_uuid).where(*ours)

        def rows(table: Any, *columns: Any) -> Any:
            wanted: Any = select(table.run_uuid, table.key, table.value, *columns).where(table.run_uuid.in_(ids))
            wanted = wanted.where(table.key.in_(only)) if only else wanted
            return connection.execute(wanted.execution_options(yield_per=10_000))

        for table, found in ((SqlParam, params), (SqlTag, tags)):
            for run, key, value in rows(table):
                found[run][intern(key)] = intern(value)
        for run, key, value, is_nan in rows(SqlLatestMetric, SqlLatestMetric.is_nan):
            metrics[run][intern(key)] = math.nan if is_nan else value
        plain = (SqlRun.run_uuid, SqlRun.name, SqlRun.start_time, SqlRun.end_time, SqlRun.artifact_uri)
        newest: Any = select(*plain).where(*ours).order_by(SqlRun.start_time.desc(), SqlRun.run_uuid)
        heads = connection.execute(newest).all()
    for run, name, start, end, artifacts in heads:
        info = SimpleNamespace(run_id=run, run_name=name, start_time=start, end_time=end, artifact_uri=artifacts)
        data = SimpleNamespace(params=params.pop(run, {}), tags=tags.pop(run, {}), metrics=metrics.pop(run, {}))
        yield SimpleNamespace(info=info, data=data)
