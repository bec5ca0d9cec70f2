"""Jobs side by side: a clean process each, forked from a server that has paid the imports."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from lenet_lab.outcome import Outcome
from lenet_lab.sweeps.forks import context, kill_for_good
from lenet_lab.sweeps.plan import Planned, current
from lenet_lab.sweeps.screen import SweepScreen
from lenet_lab.sweeps.shapes import together
from lenet_lab.sweeps.worker import Order, work_in_process

GRACE_S = 10.0


@dataclass
class Job:
    """One process waiting or running: one cell, or the cells of a pack, each with its place in the sweep."""

    members: list[tuple[int, Planned]]
    compose: Callable[[], Order]  # composing takes Hydra a tenth of a second a cell: done while others run
    log: Path
    order: Order | None = None  # composed ahead
    tries: int = 0
    slot: int = -1
    process: Any = None
    pipe: Any = None
    started: float = 0.0
    ending: float | None = None  # when it was asked to end
    why: str | None = None

    @property
    def planned(self) -> Planned:
        """The first of its cells."""
        return self.members[0][1]

    @property
    def name(self) -> str:
        """For people."""
        more = f"{len(self.members)} together: " if len(self.members) > 1 else ""
        return more + self.planned.name


def launch(
    hydra_context: HydraContext, config: DictConfig, overrides: Sequence[list[str]], first: int, packed: bool = False
) -> list[JobReturn]:
    """Run the jobs and return how each ended, in their order; `packed` trains cells of one shape together."""
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    plan = current()
    outcomes: dict[int, Outcome] = {}
    workers, threads = width(config, [plan.of(words) for words in overrides])
    returns = [JobReturn(overrides=words, status=JobStatus.COMPLETED) for words in overrides]

    @cache
    def composed(index: int) -> DictConfig:
        cfg = hydra_context.config_loader.load_sweep_config(config, list(overrides[index]))
        with open_dict(cfg):
            cfg.hydra.job.id = cfg.hydra.job.num = first + index
        returns[index].cfg = cfg
        return cfg

    folder, waiting = Path(str(config.hydra.sweep.dir)).absolute(), []
    for index, words in enumerate(overrides):
        planned = plan.of(words)
        if planned.finished is not None:
            outcomes[index] = planned.finished
        else:
            waiting.append((index, planned))
    groups = together(config, waiting, composed, workers) if packed else [[one] for one in waiting]
    workers, threads = narrowed(config, workers, threads, len(groups))
    queue: deque[Job] = deque()
    for members in groups:
        log = folder / str(first + members[0][0]) / "job.log"

        def order(members: list[tuple[int, Planned]] = members, log: Path = log) -> Order:
            return _order(hydra_context, [composed(index) for index, _ in members], log, threads, workers)

        queue.append(Job(members, order, log))
    pool = Pool(config.sweep, workers, outcomes, plan.bury, len(overrides))
    pool.run(queue)
    for index, result in enumerate(returns):
        result.return_value = outcomes[index].as_dict() if index in outcomes else None
    plan.outcomes.update({plan.of(words).key: outcomes[i] for i, words in enumerate(overrides) if i in outcomes})
    plan.stopped_by = pool.stopped_by
    return returns


def width(config: Any, planned: Sequence[Planned]) -> tuple[int, int]:
    """Workers side by side and threads a process: one process a GPU or a core, the cores divided among them."""
    import torch

    cores = len(os.sched_getaffinity(0))
    gpus = torch.cuda.device_count() if config.trainer.accelerator != "cpu" else 0
    most = max((p.world_size for p in planned), default=1)
    todo = sum(p.finished is None for p in planned)
    workers = config.sweep.workers or max(1, (gpus or cores) // most)
    workers = max(1, min(workers, todo))
    return workers, config.sweep.threads or max(1, cores // (workers * most))


def narrowed(config: Any, workers: int, threads: int, packs: int) -> tuple[int, int]:
    """The same for fewer packs than workers, which divide the cores anew."""
    busy = min(workers, max(1, packs))
    return busy, config.sweep.threads or threads * workers // busy


def _order(hydra_context: HydraContext, configs: Sequence[DictConfig], log: Path, threads: int, workers: int) -> Order:
    import cloudpickle

    environment = {
        "LENET_LAB_THREADS": str(threads),
        "LENET_LAB_TIMING": "shared" if workers > 1 else "alone",
        "OMP_NUM_THREADS": str(threads),
    }
    return Order(cloudpickle.dumps((hydra_context, list(configs), Singleton.get_state())), environment, str(log))


class Pool:
    """Starts, watches and ends the processes of a sweep."""

    def __init__(
        self,
        sweep: DictConfig,
        workers: int,
        outcomes: dict[int, Outcome],
        bury: Callable[..., None],
        total: int,
    ) -> None:
        self.sweep, self.workers, self.outcomes, self.bury = sweep, workers, outcomes, bury
        self.running: list[Job] = []
        self.starting: Job | None = None
        self.stopped_by: int | None = None
        self.screen = SweepScreen(total, len(outcomes))
        self.context = context()

    def run(self, queue: deque[Job]) -> None:
        """Work through the queue; a first SIGINT or SIGTERM lets jobs end in order, a second kills them."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with self.screen:
                while queue or self.running:
                    while queue and len(self.running) < self.workers and not self._halted():
                        self._start(queue.popleft())
                    if not self.running:
                        break
                    if queue and queue[0].order is None and not self._halted():
                        queue[0].order = queue[0].compose()
                    self._listen()
                    for job in [job for job in self.running if self._ended(job)]:
                        self._reap(job, queue)
        finally:
            for job in self.running:
                job.process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _halted(self) -> bool:
        failed = self.sweep.fail_fast and any(o.state not in ("complete", "done") for o in self.outcomes.values())
        return self.stopped_by is not None or failed

    def _start(self, job: Job) -> None:
        job.slot = min(set(range(self.workers)) - {other.slot for other in self.running})
        order, job.order = job.order or job.compose(), None
        order.environment.update(_gpus_of(job.slot, job.planned.world_size, self.workers), LENET_LAB_SLOT=str(job.slot))
        if self.stopped_by is not None:  # while it was composed
            return
        job.pipe, far = self.context.Pipe(duplex=False)
        job.process = self.context.Process(target=work_in_process, args=(order, far), name=job.name)
        self.starting = job
        try:
            job.process.start()
        except (EOFError, OSError):
            if self.stopped_by is None:
                raise
            return  # the server was still importing when the sweep was stopped: the job has not begun
        finally:
            far.close()
        job.started, job.ending, job.why, job.tries = time.perf_counter(), None, None, job.tries + 1
        self.running.append(job)
        self.starting = None
        self.screen.start(job.slot, job.name, job.planned.epochs, len(job.members))
        if self.stopped_by is not None:  # while it was started
            self._end(job)

    def _listen(self) -> None:
        """Take in what jobs say, and end those whose time is up."""
        ready = wait(
            [j.pipe for j in self.running if not j.pipe.closed] + [j.process.sentinel for j in self.running],
            timeout=0.25,
        )
        for job in self.running:
            while job.pipe in ready and not job.pipe.closed:
                try:
                    kind, *rest = job.pipe.recv()
                except (EOFError, OSError):
                    job.pipe.close()
                    break
                if kind == "watch":
                    self.screen.report(job.slot, *rest)
                else:
                    for (index, planned), fields in zip(job.members, rest[0], strict=True):
                        self.outcomes[index] = _outcome(job, planned, fields)
                if not job.pipe.poll():
                    break
            limit = self.sweep.time_limit
            if limit is not None and job.ending is None and time.perf_counter() - job.started > limit:
                job.why = f"time limit of {limit:g} s"
                self._end(job)
            if job.ending is not None and time.perf_counter() - job.ending > GRACE_S:
                job.process.kill()

    def _end(self, job: Job) -> None:
        job.ending = time.perf_counter()
        if job.process.pid and job.process.is_alive():
            os.kill(job.process.pid, signal.SIGTERM)

    def _ended(self, job: Job) -> bool:
        return not job.process.is_alive() and (job.pipe.closed or not job.pipe.poll())

    def _reap(self, job: Job, queue: deque[Job]) -> None:
        job.process.join()
        self.running.remove(job)
        code = job.process.exitcode
        lost = [(index, planned) for index, planned in job.members if index not in self.outcomes]
        if lost:
            halted = f"stopped by {signal.Signals(self.stopped_by).name}" if self.stopped_by is not None else None
            why = job.why or halted or _why(code)
            stopped = self.stopped_by is not None or code in (128 + signal.SIGTERM, 128 + signal.SIGINT)
            for _, planned in lost:
                self.bury(planned.key, why, log=job.log, stopped=job.why is not None)
            if not stopped and job.why is None and job.tries <= self.sweep.retries:
                queue.appendleft(job)
                return
            state, seconds = "stopped" if stopped and not job.why else "failed", time.perf_counter() - job.started
            for index, planned in lost:
                self.outcomes[index] = Outcome(planned.key, planned.name, state, error=why, seconds=seconds)
        for index, _ in job.members:
            self.screen.end(job.slot, self.outcomes[index])

    def _forked(self) -> bool:
        """Whether the job that is being started has a process."""
        return self.starting is not None and self.starting.process is not None and bool(self.starting.process.pid)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.stopped_by is not None:
            for job in self.running:
                job.process.kill()
        else:
            self.stopped_by = number
            for job in self.running:
                self._end(job)
            if not self.running and not self._forked():
                kill_for_good()


def _outcome(job: Job, planned: Planned, fields: dict[str, Any]) -> Outcome:
    known = {"key": planned.key, "name": planned.name}
    return Outcome(**{**fields, **known, "seconds": time.perf_counter() - job.started})


def _why(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with status {code} without having finished"


def _gpus_of(slot: int, processes: int, workers: int) -> dict[str, str]:
    """The GPUs of a job of so many processes: as long as there are enough, no other worker's."""
    import torch

    count = torch.cuda.device_count()
    if count < 2 or processes > count:
        return {}
    visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(",")
    first = slot * max(1, count // workers)
    return {"CUDA_VISIBLE_DEVICES": ",".join(visible[(first + one) % count] for one in range(processes))}
