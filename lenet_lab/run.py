"""One run's life: claim the cell, train, test once, log, and say last of all that it is complete."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import yaml

from lenet_lab import provenance
from lenet_lab.cell import Ready, load, params, threads
from lenet_lab.data import Arrays
from lenet_lab.distributed import Ranks
from lenet_lab.engines import Diverged, Trained, evaluate
from lenet_lab.outcome import Outcome
from lenet_lab.outputs import write_outputs
from lenet_lab.tracking import Busy, Store, TakenOver, TrackedRun, claim, open_store
from lenet_lab.train import FUSED, device_of, images_per_epoch, train

Watch = Callable[[int, float, Mapping[str, float]], None]


class Stopped(BaseException):
    """A signal asked the run to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def run(ready: Ready, watch: Watch | None = None) -> Outcome:
    """Train a cell and track it, unless it is complete already. Only a signal leaves by an exception.

    Raises:
        LabError: the store or the data cannot be had; no run is open then.
        Stopped: SIGTERM or SIGINT; the run says so and can be resumed.
    """
    started = time.perf_counter()
    arrays = load(ready.config.data)
    store = open_store(ready.config.tracking.uri)
    sweep, parent = os.environ.get("LENET_LAB_SWEEP", ""), os.environ.get("LENET_LAB_PARENT", "")
    tags = _tags(ready, sweep, parent)
    try:
        tracked = _claim(store, ready, tags)
    except Busy as busy:
        return Outcome(ready.key, ready.name, "busy", error=str(busy))
    if not isinstance(tracked, TrackedRun):
        return Outcome(ready.key, ready.name, "done", tracked.info.run_id, figures=dict(tracked.data.metrics))

    def ended(state: str, error: str | None = None, figures: Mapping[str, float] | None = None) -> Outcome:
        if error:
            tracked.tags({"lenet.error": provenance.redact_text(error)[:500]})
        delivered = tracked.finish(state)
        seconds = time.perf_counter() - started
        return Outcome(ready.key, ready.name, state, tracked.run_id, error, seconds, delivered, figures)

    try:
        with _signals():
            figures = _train_and_test(ready, arrays, tracked, watch, started)
            return ended("complete", figures=figures)
    except Diverged as error:
        return ended("diverged", str(error))
    except TakenOver as error:
        tracked.abandon()
        return Outcome(ready.key, ready.name, "busy", tracked.run_id, str(error))
    except Stopped as stop:
        ended("stopped", f"stopped by {stop}")
        raise
    except (Exception, SystemExit) as error:
        _write(tracked, "error.txt", provenance.redact_text(traceback.format_exc()))
        return ended("failed", f"{type(error).__name__}: {error}".splitlines()[0])


def _claim(store: Store, ready: Ready, tags: Mapping[str, str]) -> Any:
    found = claim(store, ready.key, ready.name, tags)
    if isinstance(found, TrackedRun) or ready.config.sweep.redo != "code":
        return found
    if found.data.tags.get("lenet.code") == provenance.code_digest():
        return found
    return claim(store, ready.key, ready.name, tags, redo=True)


def _train_and_test(
    ready: Ready, arrays: Arrays, tracked: TrackedRun, watch: Watch | None, started: float
) -> dict[str, float]:
    config = ready.config
    device = device_of(config.trainer)
    record = provenance.execution(device.type, threads(config), fused=FUSED)
    torch.set_num_threads(record["threads"])
    tracked.params({**provenance.redact(params(ready))})
    tracked.tags({"lenet.execution": json.dumps(record, sort_keys=True)})
    _log_inputs(ready, arrays, tracked)

    with Ranks(ready.cell.resolved, config.trainer) as ranks:
        net, trained = train(config, arrays, tracked.checkpoints, sink=tracked.metrics, watch=watch)
        ranks.join()
    return _test(ready, arrays, tracked, net, trained, device, started)


def _test(
    ready: Ready,
    arrays: Arrays,
    tracked: TrackedRun,
    net: torch.nn.Module,
    trained: Trained,
    device: torch.device,
    started: float,
) -> dict[str, float]:
    """The one reading of the test set, with the tested weights, and everything that is made of it."""
    config = ready.config
    best = config.checkpoint == "best" and arrays.val is not None
    net.to("cpu")
    net.load_state_dict(trained.best if best else trained.last)
    net.to(device)
    train_eval = evaluate(net, config.loss, arrays.train.to(device))
    test = evaluate(net, config.loss, arrays.test)
    epochs = len(trained.log_book)
    images = epochs * images_per_epoch(config, len(arrays.train))
    figures = {
        "train_eval/loss": float(train_eval.losses.double().mean()),
        "train_eval/acc": float((train_eval.predicted == train_eval.labels).double().mean()),
        "epochs": float(epochs),
        "epochs/best": float(trained.best_epoch or epochs),
        "params/total": float(sum(p.numel() for p in net.parameters() if p.requires_grad)),
        "time/train_s": trained.train_seconds,
        "images_per_s": images / max(trained.train_seconds, 1e-9),
    }
    figures.update(
        write_outputs(tracked.outbox, ready.name, net.to("cpu").eval(), arrays, test, trained.log_book, config)
    )
    figures["time/total_s"] = time.perf_counter() - started
    for path in sorted(tracked.outbox.iterdir()):
        if path.name not in ("config.yaml", "environment.txt", "git.diff"):
            tracked.artifact(path.name)
    tracked.metrics(figures, step=epochs)
    return figures


def _tags(ready: Ready, sweep: str, parent: str) -> dict[str, str]:
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
    _write(tracked, "config.yaml", yaml.safe_dump(ready.cell.resolved, sort_keys=False))
    _write(tracked, "environment.txt", provenance.environment())
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


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGINT become `Stopped`, once; while it is handled further ones are ignored by it."""

    def stop(number: int, frame: Any) -> None:
        for other in (signal.SIGTERM, signal.SIGINT):
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
