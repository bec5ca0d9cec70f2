"""The process of one job."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Order:
    """What a worker is told: a pickled (context, configurations, singletons), its environment and its log."""

    payload: bytes
    environment: dict[str, str]
    log: str


def work_in_process(order: Order, pipe: Connection) -> None:
    """Run a Hydra job, or several as a pack, and send what becomes of them: ("watch", ...), ("end", outcomes) last."""
    os.environ.update(order.environment)
    _log_to(Path(order.log))
    import cloudpickle
    from hydra.core.singleton import Singleton
    from hydra.core.utils import run_job, setup_globals

    from lenet_lab.config.paths import prepare
    from lenet_lab.provenance import redact_text
    from lenet_lab.sweeps import job

    prepare()
    context, configs, state = cloudpickle.loads(order.payload)
    config = configs[0]
    setup_globals()
    Singleton.set_state(state)
    sys.argv = ["lenet_lab", *config.hydra.overrides.task]

    def watch(epoch: int, fraction: float, figures: Mapping[str, float]) -> None:
        pipe.send(("watch", epoch, fraction, dict(figures)))

    job.watch = watch

    def task(cfg: Any) -> Any:
        return job.work(cfg) if len(configs) == 1 else job.work_together(configs)

    try:
        result = run_job(
            task_function=task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=context,
            configure_logging=True,
        )
        value: Any = result.return_value
        outcomes = [value] if len(configs) == 1 else value
    except Exception as error:
        print(redact_text(traceback.format_exc()), file=sys.stderr)
        what = redact_text(f"{type(error).__name__}: {error}".splitlines()[0])
        outcomes = [{"state": "failed", "error": what} for _ in configs]
    pipe.send(("end", outcomes))
    pipe.close()


def _log_to(path: Path) -> None:
    """Everything a job prints, however it dies, goes to its log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
