"""Several runs in one process, trained as one: each with its own life, run and end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from lenet_lab.cell import Ready, build, load
from lenet_lab.engines import Execution
from lenet_lab.outcome import Outcome
from lenet_lab.records import PACKED, LabError
from lenet_lab.run import Life, claim_run
from lenet_lab.signals import Signals, Stopped
from lenet_lab.tracking import Busy, TrackedRun, open_store
from lenet_lab.train import network, train_packed

Watch = Callable[[int, float, Mapping[str, float]], None]
END_S = 6.0  # for the ends of all runs together, when a signal has stopped them


def run_pack(several: Sequence[Ready], watch: Watch | None = None) -> list[Outcome]:
    """Train cells of one shape together and track each, unless it is complete already; each fails by itself.

    Raises:
        LabError: the store or the data cannot be had; nothing is changed then.
        Stopped: SIGTERM or SIGINT; every run says so and can be resumed.
    """
    started = time.perf_counter()
    outcomes: dict[str, Outcome] = {}
    lives: list[Life] = []
    with Signals() as signals:
        arrays = load(several[0].config.data)
        store = open_store(several[0].config.tracking.uri)
        one_rate = len({ready.config.lr.value for ready in several}) == 1
        for ready in several:
            try:
                tracked = claim_run(store, ready, PACKED)
            except Busy as busy:
                outcomes[ready.key] = Outcome(ready.key, ready.name, "busy", error=str(busy))
                continue
            except LabError as error:  # of this run alone
                outcomes[ready.key] = Outcome(ready.key, ready.name, "failed", error=str(error))
                continue
            if isinstance(tracked, TrackedRun):
                lives.append(Life(ready, arrays, tracked, started, packed=True, one_rate=one_rate))
            else:
                done = Outcome(ready.key, ready.name, "done", tracked.info.run_id, figures=dict(tracked.data.metrics))
                outcomes[ready.key] = done
        stop = _train(lives, watch)
        for life in lives:
            signals.only_hurry(life.tracked.hurry)
        end = time.monotonic() + END_S
        for life in lives:
            try:
                outcomes[life.ready.key] = life.end(max(0.1, end - time.monotonic()) if stop else 60.0)
            except Stopped:
                continue
    if stop is not None:
        raise stop
    return [outcomes[ready.key] for ready in several]


def _train(lives: Sequence[Life], watch: Watch | None) -> Stopped | None:
    """From the beginning of every life to its test; what has stopped them all, if anything has."""
    with ExitStack() as monitors:
        for life in lives:
            with life.part():
                life.begin()
                monitors.enter_context(life.monitored())
            if life.stop is not None:
                return _stop(lives, life.stop)
        living = [life for life in lives if life.goes_on]
        for way in dict.fromkeys(_way(life) for life in living):  # several where some go on from before
            stop = _train_alike([life for life in living if _way(life) == way], watch)
            if stop is not None:
                return _stop(lives, stop)
    return None


def _way(life: Life) -> tuple[Execution, float | None]:
    """What lives have in common that are trained as one: the rate, too, where the optimizer takes it."""
    return life.execution, life.ready.config.lr.value if life.execution.one_rate else None


def _train_alike(living: Sequence[Life], watch: Watch | None) -> Stopped | None:
    """From the first epoch to the test of lives that are trained in one way; what has stopped them, if anything has."""
    arrays, results = living[0].arrays, []
    try:
        results = train_packed(
            [life.ready.config for life in living],
            arrays,
            living[0].execution,
            [life.tracked.checkpoints for life in living],
            [life.tracked.metrics for life in living],
            watch,
        )
    except Stopped as stop:
        return stop
    except Exception as failure:
        for life in living:
            with life.part():
                raise failure
        return None
    for life, result in zip(living, results, strict=True):
        with life.part():
            if isinstance(result, Exception):
                raise result
            life.test(network(life.ready.config, arrays, build(life.ready.config), result))
        if life.stop is not None:
            return life.stop
    return None


def _stop(lives: Sequence[Life], stop: Stopped) -> Stopped:
    """The signal that has reached one of them is meant for all that still go on."""
    for life in lives:
        if life.goes_on and life.figures is None:
            life.state, life.error, life.stop = "stopped", f"stopped by {stop}", stop
    return stop
