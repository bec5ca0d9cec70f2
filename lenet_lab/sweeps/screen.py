"""What a person sees while runs train: a live picture on a terminal, one line an event elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text


def figures_text(figures: Mapping[str, float]) -> str:
    """The newest losses and accuracies, short."""
    parts = []
    for split in ("train", "val"):
        if f"{split}/loss" in figures:
            parts.append(f"{split} {figures[f'{split}/loss']:.4f} {100 * figures[f'{split}/acc']:.2f}%")
    return "  ".join(parts)


class RunScreen:
    """Progress of one run: epoch, losses, accuracies, images a second, time left; nothing when not on a terminal."""

    def __init__(self, ready: Any) -> None:
        config = ready.config
        self.epochs = config.rounds
        self.images = config.data.counts()[0]
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("epoch {task.fields[epoch]}", markup=False),
            TextColumn("{task.fields[figures]}", markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.name = ready.name
        self._last = (time.perf_counter(), 0.0)

    def __enter__(self) -> RunScreen:
        self.progress.start()
        self.task = self.progress.add_task(self.name, total=self.epochs, epoch=f"0/{self.epochs}", figures="", rate="")
        return self

    def watch(self, epoch: int, fraction: float, figures: Mapping[str, float]) -> None:
        """The engine's report."""
        now, before = time.perf_counter(), self._last
        done = epoch + fraction
        if now - before[0] > 0.5 and done > before[1]:
            rate = (done - before[1]) * self.images / (now - before[0])
            self._last = (now, done)
            self.progress.update(self.task, rate=f"{rate:,.0f} images/s")
        running = min(epoch + 1, self.epochs)
        self.progress.update(self.task, completed=done, epoch=f"{running}/{self.epochs}", figures=figures_text(figures))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()


def say_outcome(outcome: Any, store: Any) -> None:
    """One run's end, in a few lines."""
    from lenet_lab.tracking.store import public

    figures = outcome.figures or {}
    if outcome.state in ("complete", "done") and "test/acc" in figures:
        verb = "complete" if outcome.state == "complete" else "was complete already, nothing trained"
        errors, n = int(figures["test/errors"]), int(figures["test/n"])
        print(f"{outcome.name}: {verb}; test accuracy {100 * figures['test/acc']:.2f}% ({errors} errors of {n})")
    else:
        print(f"{outcome.name}: {outcome.state}{': ' + outcome.error if outcome.error else ''}", file=sys.stderr)
    if not outcome.delivered:
        print(
            "the store does not answer; what is left is kept and delivered at the next launch",
            file=sys.stderr,
        )
    if outcome.run_id:
        print(f"run {outcome.run_id} in {public(store.uri)}; browse it: python -m lenet_lab ui")


@dataclass(frozen=True)
class Line:
    """What is shown of a worker: its job, of so many cells, and how many of its epochs are done."""

    name: str
    epochs: int
    cells: int
    done: float = 0.0
    figures: str = ""

    @property
    def share(self) -> float:
        """Of the job that is done."""
        return min(self.done / self.epochs, 1.0)


class SweepScreen:
    """One live line a worker, and what is done, what is left, when it will end."""

    def __init__(self, total: int, done: int) -> None:
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, refresh_per_second=4, transient=True, auto_refresh=True)
        self.total, self.done_before, self.finished, self.failed = total, done, 0, 0
        self.running: dict[int, Line] = {}
        self.started = time.perf_counter()

    def __enter__(self) -> SweepScreen:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def start(self, slot: int, name: str, epochs: int, cells: int = 1) -> None:
        """A job of so many cells begins in a worker's slot."""
        self.running[slot] = Line(name, epochs, cells)
        self._draw()

    def report(self, slot: int, epoch: int, fraction: float, figures: Mapping[str, float]) -> None:
        """A job's figures."""
        self.running[slot] = replace(self.running[slot], done=epoch + fraction, figures=figures_text(figures))
        self._draw()

    def end(self, slot: int, outcome: Any) -> None:
        """A cell ended, and with its last one the job: one line that stays."""
        job = self.running.pop(slot, None)
        if job is not None and job.cells > 1:
            self.running[slot] = replace(job, cells=job.cells - 1)
        self.finished += 1
        self.failed += outcome.state not in ("complete", "done")
        figures = outcome.figures or {}
        what = f"{100 * figures['test/acc']:.2f}%" if "test/acc" in figures else outcome.error or ""
        done = f"[{self.done_before + self.finished}/{self.total}]"
        line = Text(f"{done} {outcome.state:9} {outcome.seconds:6.1f} s  {outcome.name}  {what}")
        style = "" if outcome.state in ("complete", "done") else "bold red"
        self.console.print(line, style=style, highlight=False, soft_wrap=True)
        self._draw()

    def remaining(self) -> float | None:
        """Seconds until the sweep's end, if cells go on as they did; None while too little is done to say."""
        ahead = self.finished + sum(job.cells * job.share for job in self.running.values())
        if ahead <= 0.02:
            return None
        return (time.perf_counter() - self.started) / ahead * (self.total - self.done_before - ahead)

    def _draw(self) -> None:
        if not self.console.is_terminal:
            return
        table = Table.grid(padding=(0, 2))
        for _, job in sorted(self.running.items()):
            full = int(20 * job.share)
            table.add_row(Text(job.name), "█" * full + "░" * (20 - full), f"{job.done:.1f}/{job.epochs}", job.figures)
        left = self.total - self.done_before - self.finished
        seconds = self.remaining()
        eta = f", about {_clock(seconds)} to go" if seconds is not None else ""
        failed = f", {self.failed} not complete" if self.failed else ""
        table.add_row(
            Text(
                f"{self.done_before + self.finished} of {self.total} done{failed}, {left} left{eta}",
                style="bold",
            )
        )
        self.live.update(table)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"


__all__ = ["RunScreen", "SweepScreen", "figures_text", "say_outcome"]
