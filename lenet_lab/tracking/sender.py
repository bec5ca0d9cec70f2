"""From spooled events to calls of MLflow's client, after making sure that the run is still ours."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lenet_lab.tracking.spool import Event, StopDelivery
from lenet_lab.tracking.store import Store


class Sender:
    """Delivers the events of one run, in order.

    Args:
        token: of the process that owns the run; None delivers for whoever wrote the spool.
    """

    def __init__(self, store: Store, run_id: str, token: str | None) -> None:
        self.store, self.run_id, self.token = store, run_id, token

    def send(self, events: list[Event]) -> None:
        """Deliver; raises what the client raises.

        Raises:
            StopDelivery: the run belongs to another process now, or is no more.
        """
        from mlflow.entities import Metric, Param, RunTag

        client = self.store.client
        self._check_owner()
        metrics = [Metric(*point) for event in events for point in event.get("metrics", ())]
        params = [Param(k, v[:6000]) for event in events for k, v in event.get("params", {}).items()]
        for start in range(0, max(len(metrics), len(params)), 100):
            client.log_batch(self.run_id, metrics[start : start + 100], params[start : start + 100], [])
        for event in events:
            if "artifact" in event:
                self._artifact(event["artifact"])
            if "dataset" in event:
                self._dataset(*event["dataset"])
        tags = {k: v for event in events for k, v in event.get("tags", {}).items()}
        if tags:
            self._check_owner()
            client.log_batch(self.run_id, [], [], [RunTag(k, v[:5000]) for k, v in tags.items()])
        ends = [event for event in events if "status" in event]
        if ends:
            client.set_terminated(self.run_id, ends[-1]["status"], ends[-1]["end"])

    def beat(self) -> None:
        """The sign of life for other machines; on this one the lock says it."""
        self._check_owner()
        self.store.client.set_tag(self.run_id, "lenet.heartbeat", f"{time.time():.0f}")

    def _check_owner(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            run = self.store.client.get_run(self.run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise StopDelivery(f"run {self.run_id} is no more in the store") from error
            raise
        if self.token is not None and run.data.tags.get("lenet.owner") != self.token:
            raise StopDelivery(f"run {self.run_id} was taken over by another process")

    def _artifact(self, relative: str) -> None:
        source = self.store.state / "outbox" / self.run_id / relative
        if source.is_dir():
            self.store.client.log_artifacts(self.run_id, str(source), relative)
        elif source.exists():
            parent = str(Path(relative).parent)
            self.store.client.log_artifact(self.run_id, str(source), None if parent == "." else parent)

    def _dataset(self, name: str, digest: str, source: str, context: str, profile: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset: Any = Dataset(name=name, digest=digest[:36], source_type="local", source=source, profile=profile)
        tags = [InputTag("mlflow.data.context", context)]
        self.store.client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])
