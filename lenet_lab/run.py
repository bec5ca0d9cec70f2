"""One run's life: claim the cell, train, test once, log, and say last of all that it is complete."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any

import yaml

from lenet_lab import provenance
from lenet_lab.cell import Ready, device_of, load, params
from lenet_lab.config.schema import Config
from lenet_lab.data import Arrays
from lenet_lab.distributed import Ranks
from lenet_lab.engines import Diverged, Execution, recorded
from lenet_lab.engines.compiling import why_not
from lenet_lab.fitted import Fitted
from lenet_lab.outcome import Outcome
from lenet_lab.outputs import write_outputs
from lenet_lab.records import PACKED, LabError
from lenet_lab.signals import Signals, Stopped
from lenet_lab.tracking import Busy, Store, TakenOver, TrackedRun, begun_by, claim, execution_record, open_store
from lenet_lab.tracking.system import system_metrics
from lenet_lab.train import ENGINES, execution_of, learn, learn_packed

Watch = Callable[[int, float, Mapping[str, float]], None]


def run(ready: Ready, watch: Watch | None = None) -> Outcome:
    """Train a cell and track it, unless it is complete already.

    Raises:
        LabError: the store or the data cannot be had, or the run may not be gone on with; nothing is changed then.
        Stopped: SIGTERM or SIGINT; the run says so and can be resumed.
    """
    started = time.perf_counter()
    with Signals() as signals:
        arrays = load(ready.config.data)
        store = open_store(ready.config.tracking.uri)
        try:
            tracked = claim_run(store, ready, ENGINES[ready.config.model.engine].name, PACKED)
        except Busy as busy:
            return Outcome(ready.key, ready.name, "busy", error=str(busy))
        if not isinstance(tracked, TrackedRun):
            return Outcome(ready.key, ready.name, "done", tracked.info.run_id, figures=dict(tracked.data.metrics))
        return _live(ready, arrays, tracked, watch, started, signals)


def rerun(ready: Ready, of: str, key: str, execution: str, watch: Watch | None = None) -> Outcome:
    """Train a cell again as a run of its own, which never counts.

    Args:
        of: the run that it repeats; key: a lock's name that is no run key; execution: the record to train by.

    Raises:
        LabError, Stopped: as `run`.
        Busy: it is being repeated already.
    """
    started = time.perf_counter()
    with Signals() as signals:
        arrays = load(ready.config.data)
        tracked = claim(open_store(ready.config.tracking.uri), key, f"rerun of {of[:8]}: {ready.name}", fresh=True)
        tracked.rerun, tracked.note = True, {"lenet.rerun_of": of}
        tracked.before = {**tracked.before, "lenet.execution": execution}
        return _live(ready, arrays, tracked, watch, started, signals)


def _live(
    ready: Ready, arrays: Arrays, tracked: TrackedRun, watch: Watch | None, started: float, signals: Signals
) -> Outcome:
    """The life of a claimed run, to whatever end it comes."""
    packed = begun_by(tracked.store, tracked.key, tracked.before) == PACKED  # which goes on as a pack of one
    life = Life(ready, arrays, tracked, started, packed)
    with life.part():
        life.begin()
        with life.monitored():
            life.test(_train(life, watch))
        signals.only_hurry(tracked.hurry)
    signals.only_hurry(tracked.hurry)
    return life.end()


class Life:
    """A claimed run on its way to whatever end it comes to; the end is said last."""

    def __init__(
        self,
        ready: Ready,
        arrays: Arrays,
        tracked: TrackedRun,
        started: float,
        packed: bool = False,
        one_rate: bool = False,
    ) -> None:
        """`one_rate`: so have all runs of its pack, where it has only now been begun."""
        self.ready, self.arrays, self.tracked, self.started, self.packed = ready, arrays, tracked, started, packed
        self.state, self.error = "complete", ""
        self.stop: Stopped | None = None
        self.lost: TakenOver | None = None
        self.figures: dict[str, float] | None = None
        self.execution = _execution(ready.config, tracked, packed, one_rate)

    @property
    def goes_on(self) -> bool:
        """Nothing has ended it yet."""
        return self.state == "complete" and self.lost is None

    @contextmanager
    def part(self) -> Iterator[None]:
        """Whatever goes wrong inside is how the run ends."""
        try:
            yield
        except Diverged as diverged:
            self.state, self.error = "diverged", str(diverged)
        except Stopped as stopped:
            self.state, self.error, self.stop = "stopped", f"stopped by {stopped}", stopped
        except TakenOver as lost:
            self.lost = lost
        except (Exception, SystemExit) as failure:
            self.state = "failed"
            self.error = provenance.redact_text(f"{type(failure).__name__}: {failure}".splitlines()[0])
            trace = provenance.redact_text(traceback.format_exc())
            with suppress(OSError, TakenOver):  # a full disk: the outcome says what went wrong all the same
                print(trace, file=sys.stderr)
                _write(self.tracked, "error.txt", trace)

    def monitored(self) -> AbstractContextManager[None]:
        """How busy the machine is meanwhile is tracked, too, where `tracking.system_metrics` says so."""
        wanted = self.ready.config.tracking.system_metrics
        return system_metrics(self.tracked.store, self.tracked.run_id, wanted)

    def begin(self) -> None:
        """Take the run and say what it is."""
        ready, tracked = self.ready, self.tracked
        timing = {"lenet.timing": "packed"} if self.packed else {}
        tracked.begin({**_tags(ready), **timing, **tracked.note})
        own = ENGINES[ready.config.model.engine]
        device = own.device_of(ready.config.trainer).type
        record = provenance.execution(self.execution.as_dict(), device, PACKED if self.packed else own.name)
        tracked.params({**provenance.redact(params(ready))})
        tracked.tags({"lenet.execution": json.dumps(record, sort_keys=True)})
        _log_inputs(ready, self.arrays, tracked)

    def test(self, fitted: Fitted) -> None:
        """The one reading of the test set, with the tested weights, and everything that is made of it."""
        ready, arrays, tracked = self.ready, self.arrays, self.tracked
        if fitted.remark:
            print(fitted.remark, file=sys.stderr)
            tracked.tags({"lenet.remark": fitted.remark})
        with self.execution.exact():
            train_eval, test = fitted.evaluate(fitted.learned), fitted.evaluate(arrays.test)
        figures = {
            "train_eval/loss": float(train_eval.losses.double().mean()),
            "train_eval/acc": float((train_eval.predicted == train_eval.labels).double().mean()),
            **fitted.figures,
            **write_outputs(tracked.outbox, ready.name, fitted, arrays, test, ready.config),
        }
        figures["time/total_s"] = time.perf_counter() - self.started
        for path in sorted(tracked.outbox.iterdir()):
            if path.name not in ("config.yaml", "environment.txt", "data.json", "git.diff"):
                tracked.artifact(path.name)
        tracked.metrics(figures, step=max(len(fitted.log_book), 1))
        self.figures = figures

    def end(self, patience: float = 60.0) -> Outcome:
        """Say how it ended, waiting `patience` seconds for the store.

        Raises:
            Stopped: what has stopped the run, after it has been said.
        """
        ready, tracked, delivered = self.ready, self.tracked, False
        if self.lost is None:
            try:
                if self.error:
                    tracked.tags({"lenet.error": self.error[:500]})
                delivered = tracked.finish(self.state, timeout=min(patience, 5.0) if self.stop else patience)
            except TakenOver as lost:
                self.lost = lost
            except OSError as full:  # the end could not even be written: the run counts as dead, and can be resumed
                tracked.abandon()
                if self.state == "complete":
                    self.state, self.error = "failed", f"{full.strerror}: {full.filename or tracked.outbox}"
        if self.lost is not None:
            tracked.abandon()
            return Outcome(ready.key, ready.name, "busy", tracked.run_id, str(self.lost))
        if self.stop is not None:
            raise self.stop
        seconds = time.perf_counter() - self.started
        error = self.error or None
        return Outcome(ready.key, ready.name, self.state, tracked.run_id, error, seconds, delivered, self.figures)


def claim_run(store: Store, ready: Ready, *engines: str) -> Any:
    """The run to train, or the finished MLflow run; one that an engine has begun which is none of these is begun anew.

    Raises:
        Busy: another process trains it.
        LabError: it was begun by another version of the code, and the user has not said what to do about that.
    """
    found, now = claim(store, ready.key, ready.name), provenance.code_digest()
    sweep = ready.config.sweep
    if not isinstance(found, TrackedRun):
        same = sweep.redo != "code" or found.data.tags.get("lenet.code") == now
        return found if same else claim(store, ready.key, ready.name, fresh=True)
    if not any(found.checkpoints.iterdir()):
        return found
    by = begun_by(store, ready.key, found.before)
    if by is not None and by not in engines:
        what = f"{ready.name}: begun by the engine `{by}`, from whose checkpoints `{engines[0]}` cannot go on"
        print(f"{what}: begun anew", file=sys.stderr)
        found.abandon()
        return claim(store, ready.key, ready.name, fresh=True)
    begun = found.before.get("lenet.code", now)
    if begun == now:
        return found
    if sweep.changed_code == "continue":
        found.note = {"lenet.changed_code": f"{begun} -> {now}"}
        return found
    found.abandon()
    if sweep.changed_code == "restart":
        return claim(store, ready.key, ready.name, fresh=True)
    raise LabError(
        f"{ready.name}: begun by another version of the code; sweep.changed_code=continue goes on all the same, "
        "sweep.changed_code=restart trains it from the start"
    )


def _train(life: Life, watch: Watch | None) -> Fitted:
    config, tracked = life.ready.config, life.tracked
    sources = config, life.arrays, life.execution, tracked.checkpoints, tracked.metrics, watch
    if life.packed:
        return learn_packed(*sources)
    with Ranks(life.ready.cell.resolved, config.trainer, life.execution) as ranks:
        fitted = learn(*sources)
        ranks.join()
    return fitted


def _execution(config: Config, tracked: TrackedRun, packed: bool, one_rate: bool = False) -> Execution:
    """A resumed run goes on as it was begun: other threads or another memory format would change its last bits.

    Where it was compiled and cannot be any more, or `trainer.compile=false` asks for that, it goes on as it is.
    """
    try:
        found = recorded(execution_record(tracked.before))
    except KeyError:
        return replace(execution_of(config, packed), one_rate=one_rate)
    if found.compiled and (config.trainer.compile is False or why_not(device_of(config.trainer).type) is not None):
        return replace(found, compiled=False)
    return found


def _tags(ready: Ready) -> dict[str, str]:
    sweep, parent = os.environ.get("LENET_LAB_SWEEP", ""), os.environ.get("LENET_LAB_PARENT", "")
    commit, diff = provenance.git()
    tags = {
        "lenet.arm": ready.arm,
        "lenet.data_digest": ready.data_digest,
        "lenet.code": provenance.code_digest(),
        "lenet.timing": os.environ.get("LENET_LAB_TIMING", "alone"),
        "lenet.test_curve": str(ready.config.test_curve).lower(),
        "mlflow.note.content": f"`{ready.name}`",
        "mlflow.source.name": "python -m lenet_lab",
        "mlflow.source.type": "LOCAL",
        "lenet.overrides": json.dumps([provenance.redact_text(o) for o in ready.cell.overrides]),
    }
    optional = {
        "lenet.sweep": sweep,
        "mlflow.parentRunId": parent,
        "mlflow.source.git.commit": commit,
        "lenet.note": ready.config.name or "",
    }
    tags.update({key: value for key, value in optional.items() if value})
    if diff:
        tags["lenet.dirty"] = "true"
    return tags


def _log_inputs(ready: Ready, arrays: Arrays, tracked: TrackedRun) -> None:
    _write(tracked, "config.yaml", provenance.redact_text(yaml.safe_dump(ready.cell.resolved, sort_keys=False)))
    _write(tracked, "environment.txt", provenance.environment())
    about = {"name": arrays.name, "digest": arrays.digest, "classes": arrays.classes, "moments": arrays.moments}
    _write(tracked, "data.json", json.dumps(about))
    diff = provenance.git()[1]
    if diff:
        _write(tracked, "git.diff", provenance.redact_text(diff))
    for context, split in (("training", arrays.train), ("validation", arrays.val), ("test", arrays.test)):
        if split is not None:
            profile = {
                "examples": len(split),
                "classes": len(arrays.classes),
                "shape": list(split.images.shape[1:]),
            }
            tracked.dataset(f"{arrays.name} {context}", arrays.digest, arrays.name, context, profile)


def _write(tracked: TrackedRun, name: str, text: str) -> None:
    (tracked.outbox / name).write_text(text)
    tracked.artifact(name)
