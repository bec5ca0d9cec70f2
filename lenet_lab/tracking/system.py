"""MLflow's own monitor of the machine while a run trains: metrics `system/...` of its run, every ten seconds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from lenet_lab.tracking.store import Store


@contextmanager
def system_metrics(store: Store, run_id: str, wanted: bool) -> Iterator[None]:
    """Watch processors, memory, disk, network and, with pynvml, GPUs, if `wanted`."""
    if not wanted:
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=store.uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
