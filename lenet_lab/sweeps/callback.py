"""A sweep's parent and its closing table, as a Hydra callback: so that any launcher keeps them."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lenet_lab.records import LabError


class SweepCallback(Callback):
    """Checks every cell and opens the parent before the first job; says what happened after the last."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra's hook, before it writes anything of a single run."""
        from lenet_lab.config.compose import cell_of
        from lenet_lab.config.schema import parse
        from lenet_lab.config.secrets import refuse_secrets

        try:
            refuse_secrets(config)
            parse(cell_of(config, config.hydra.runtime.choices, list(config.hydra.overrides.task)).resolved)
        except LabError as error:
            print(f"lenet_lab: {error}", file=sys.stderr)
            sys.exit(2)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra's hook. It swallows exceptions of callbacks, so a refusal leaves as SystemExit."""
        from lenet_lab.sweeps.forks import cool_down
        from lenet_lab.sweeps.plan import current

        idle = True
        try:
            _begin(config)
            idle = all(cell.finished is not None for cell in current().cells)
        except LabError as error:
            print(f"lenet_lab: {error}", file=sys.stderr)
            sys.exit(2)
        except (HydraException, OmegaConfBaseException) as error:
            from lenet_lab.config.wording import one_line

            print(f"lenet_lab: {one_line(error)}", file=sys.stderr)
            sys.exit(2)
        except Exception:
            traceback.print_exc()
            sys.exit(1)
        finally:
            if idle:
                cool_down()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra's hook."""
        status = _finish()
        if status:
            sys.exit(status)


def _begin(config: DictConfig) -> None:
    from lenet_lab.cell import load
    from lenet_lab.config.secrets import refuse_secrets
    from lenet_lab.sweeps.forks import warm_up
    from lenet_lab.sweeps.others import check, fit
    from lenet_lab.sweeps.plan import cells_of, make_plan, set_current, study
    from lenet_lab.tracking import bury, deliver_pending, open_store
    from lenet_lab.tracking.parents import open_parent

    refuse_secrets(config)
    check(config)
    warm_up(config)
    cells = cells_of(config)
    if cells is None:
        raise LabError("hydra/sweeper: only Hydra's own grid is understood; allowed: hydra/sweeper=basic")
    for data in dict.fromkeys(ready.config.data for ready in cells):
        load(data)
    store = open_store(cells[0].config.tracking.uri)
    deliver_pending(store)
    plan = make_plan(cells, store)
    unique = plan.unique()
    rows = [{"key": c.key, "arm": c.arm, "name": c.name, "overrides": list(c.overrides)} for c in unique]
    plan.parent = open_parent(store, plan.sweep, _name(config), rows, study(cells))
    plan.bury = lambda key, why, **how: bury(store, key, why, **how)
    os.environ.update(LENET_LAB_SWEEP=plan.sweep, LENET_LAB_PARENT=plan.parent)
    fit(config)
    done = sum(c.finished is not None for c in unique)
    others = sum(c.other_code for c in unique)
    note = (
        f"; {others} of the done by another version of the code (sweep.redo=code trains them again)" if others else ""
    )
    print(
        f"sweep {plan.sweep[:8]}: {len(unique)} cells, {done} done already, {len(unique) - done} to train{note}",
        file=sys.stderr,
    )
    set_current(plan)


def _name(config: DictConfig) -> str:
    experiment = config.hydra.runtime.choices.get("experiment")
    words = [word for word in config.hydra.overrides.task if not word.startswith(("tracking", "sweep.", "hydra"))]
    return " ".join(words).replace("'", "") or str(experiment or "baseline")


def _finish() -> int:
    """The closing table, on the terminal and in the parent's description; the exit status of the sweep."""
    from lenet_lab.sweeps.plan import current
    from lenet_lab.sweeps.table import closing, markdown
    from lenet_lab.tracking import find, record
    from lenet_lab.tracking.parents import close_parent

    plan = current()
    assert plan.store is not None
    assert plan.parent is not None
    found = find(plan.store, [cell.key for cell in plan.cells])
    records = {key: record(plan.store, run) for key, run in found.items()}
    rows = closing(plan, records)
    bad = [row for row in rows if row.outcome not in ("complete", "done")]
    try:
        close_parent(plan.store, plan.parent, markdown(rows), ok=not bad)
    except Exception as error:  # the exit status speaks of the runs; Hydra would swallow this, and the status with it
        why = " ".join(str(error).split())[:200]
        print(f"lenet_lab: the sweep's own page could not be written: {why}; the same command does", file=sys.stderr)
    if plan.stopped_by is not None:
        print("stopped; the same command goes on where it stopped", file=sys.stderr)
        return 128 + signal.Signals(plan.stopped_by).value
    return 1 if bad else 0


__all__: Sequence[str] = ["SweepCallback"]
