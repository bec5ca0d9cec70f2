"""What Hydra calls for one job: a cell, run once."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lenet_lab.cell import make_ready
from lenet_lab.config.compose import cell_of
from lenet_lab.outcome import Outcome
from lenet_lab.records import LabError

Watch = Callable[[int, float, Mapping[str, float]], None]
EXIT = {"complete": 0, "done": 0, "busy": 3, "diverged": 1, "failed": 1}

# set by a worker process: where its figures go
watch: Watch | None = None


def work(cfg: DictConfig) -> dict[str, Any]:
    """Run the composed cell; in a sweep failures are returned, in a single run they end the process.

    Raises:
        SystemExit: in a single run, any end but a complete one; a mistake of the user's is status 2.
    """
    hydra = HydraConfig.get()
    cell = cell_of(cfg, hydra.runtime.choices, list(hydra.overrides.task))
    if _rank() > 0:
        from lenet_lab.rank import participate

        participate(cell.resolved)
        return {}
    if hydra.mode == RunMode.RUN:
        try:
            return _alone(make_ready(cell))
        except LabError as error:  # leaves as an exit: Hydra would print a line of its own
            print(f"lenet_lab: {error}", file=sys.stderr)
            sys.exit(2)
    from lenet_lab.run import run
    from lenet_lab.signals import Stopped

    try:
        return run(make_ready(cell), watch).as_dict()
    except LabError as error:
        return Outcome("", " ".join(cell.overrides), "failed", error=str(error)).as_dict()
    except Stopped as stop:
        sys.exit(128 + stop.number)


def work_together(configs: Sequence[DictConfig]) -> list[dict[str, Any]]:
    """Train several composed cells as one pack; their outcomes in the same order.

    Raises:
        SystemExit: a signal has stopped them.
    """
    from lenet_lab.packs import run_pack
    from lenet_lab.signals import Stopped

    cells = [cell_of(cfg, cfg.hydra.runtime.choices, list(cfg.hydra.overrides.task)) for cfg in configs]
    try:
        return [outcome.as_dict() for outcome in run_pack([make_ready(cell) for cell in cells], watch)]
    except LabError as error:
        return [Outcome("", " ".join(cell.overrides), "failed", error=str(error)).as_dict() for cell in cells]
    except Stopped as stop:
        sys.exit(128 + stop.number)


def _alone(ready: Any) -> dict[str, Any]:
    from lenet_lab.cell import load
    from lenet_lab.run import run
    from lenet_lab.signals import Stopped
    from lenet_lab.sweeps.screen import RunScreen, say_outcome
    from lenet_lab.tracking import deliver_pending, open_store

    gc.freeze()  # what imports have left is not rubbish: looking at it all once more took a tenth of a start
    atexit.register(gc.unfreeze)  # in the end it is: a library complains of what is left
    gc.set_threshold(700, 10, 10)  # Python's own
    load(ready.config.data)  # data that cannot be had leaves no store behind
    store = open_store(ready.config.tracking.uri)
    deliver_pending(store)
    try:
        with RunScreen(ready) as screen:
            outcome = run(ready, screen.watch)
    except Stopped as stop:
        print(f"{ready.name}: stopped by {stop}; the same command goes on", file=sys.stderr)
        sys.exit(128 + stop.number)
    say_outcome(outcome, store)
    if EXIT[outcome.state]:
        sys.exit(EXIT[outcome.state])
    return outcome.as_dict()


def _rank() -> int:
    """This process's rank where torchrun or SLURM started it."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
