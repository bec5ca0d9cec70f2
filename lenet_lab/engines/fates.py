"""What becomes of each replica of a pack: its figures, best weights, patience, checkpoints, and its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lenet_lab.engines.checkpoints import VerifiedCheckpointIO, newest_valid, prune
from lenet_lab.engines.fit import Sink, Trained
from lenet_lab.engines.single import Diverged
from lenet_lab.optim import EarlyStopping

PREFIX = "pack"
State = Mapping[str, Tensor]


class Fate:
    """One replica from its first epoch to its end."""

    def __init__(self, stopping: EarlyStopping, folder: Path | None, sink: Sink | None) -> None:
        self.stopping, self.folder, self.sink = stopping, folder, sink
        self.sign = 1 if stopping.monitor.endswith("acc") else -1
        self.log_book: list[dict[str, float]] = []
        self.best: State = {}
        self.best_epoch, self.best_score = 0, -math.inf
        self.patience_score, self.waited = -math.inf, 0
        self.seconds, self.resumed_from = 0.0, 0
        self.end: Trained | Exception | None = None

    def judge(self, epoch: int, figures: Mapping[str, float], share: float, state: Callable[[], State]) -> bool:
        """Take in an epoch's figures; False where the replica ends here, before its time or diverged."""
        self.seconds += share
        losses = [figures[name] for name in ("train/loss", "val/loss") if name in figures]
        if not all(math.isfinite(loss) for loss in losses):
            self.end = Diverged(epoch)
            return False
        self.log_book.append({"epoch": float(epoch), **figures})
        if self.sink is not None:
            self.sink(figures, epoch)
        if self.stopping.monitor not in figures:
            return True
        score = self.sign * figures[self.stopping.monitor]
        if score > self.best_score:
            self.best_score, self.best_epoch, self.best = score, epoch, state()
        if self.stopping.value is None:
            return True
        self._wait(score)
        return self.waited < self.stopping.value

    def _wait(self, score: float) -> None:
        """As Lightning does with a run alone: in 32 bits, whatever the run's precision, which decides near ties."""
        seen, best = (torch.tensor(value, dtype=torch.float32) for value in (score, self.patience_score))
        if seen - self.stopping.min_delta > best:
            self.patience_score, self.waited = seen.item(), 0
        else:
            self.waited += 1

    def finish(self, last: State) -> None:
        """The replica has trained to its end with these weights."""
        self.end = Trained(
            last, self.best or last, self.best_epoch, tuple(self.log_book), self.seconds, self.resumed_from
        )

    def save(self, epoch: int, weights: State, optimizer: State, ended: bool) -> None:
        """A checkpoint of this replica alone in its folder, two generations kept."""
        assert self.folder is not None
        own = {
            "log_book": self.log_book,
            "best": dict(self.best),
            "scores": [self.best_epoch, self.best_score, self.patience_score, self.waited, self.seconds],
            "weights": dict(weights),
            "optimizer": dict(optimizer),
            "ended": ended,
        }
        VerifiedCheckpointIO().save_checkpoint(own, self.folder / f"{PREFIX}-{epoch:05d}.ckpt")
        prune(self.folder, keep=2, prefix=PREFIX)

    def load(self) -> Mapping[str, Any] | None:
        """The newest valid checkpoint of this replica, taken over; None where there is none, or none can be read."""
        try:
            return self._load()
        except Exception as failure:
            self.end = failure
            return None

    def _load(self) -> Mapping[str, Any] | None:
        path = None if self.folder is None else newest_valid(self.folder, PREFIX)
        if path is None:
            return None
        saved = VerifiedCheckpointIO().load_checkpoint(path)
        self.log_book, self.best = list(saved["log_book"]), saved["best"]
        self.best_epoch, self.best_score, self.patience_score, self.waited, self.seconds = saved["scores"]
        self.resumed_from = len(self.log_book)
        if saved["ended"]:
            self.finish(saved["weights"])
        return saved


class Fates:
    """The replicas of a pack; `living` are the positions in it of those that still train, in the stack's order."""

    def __init__(self, several: Sequence[Fate], epochs: int, validates: bool) -> None:
        self.several, self.epochs, self.validates = list(several), epochs, validates
        self.living = [position for position, fate in enumerate(several) if fate.end is None]

    def epoch(
        self,
        epoch: int,
        figures: Sequence[Mapping[str, float]],
        state: Callable[[int], State],
        optimizer: Callable[[int], State],
    ) -> list[int]:
        """Take in an epoch's figures, a row a living replica; returns the rows that go on."""
        share = figures[0]["time/epoch_s"] / len(figures)
        kept = []
        for row, position in enumerate(self.living):
            try:
                self._one(
                    self.several[position], epoch, figures[row], share, partial(state, row), partial(optimizer, row)
                )
            except Exception as failure:  # of its sink or its checkpoint: the others have nothing to do with it
                self.several[position].end = failure
            if self.several[position].end is None:
                kept.append(row)
        self.living = [self.living[row] for row in kept]
        return kept

    def _one(
        self,
        fate: Fate,
        epoch: int,
        figures: Mapping[str, float],
        share: float,
        state: Callable[[], State],
        optimizer: Callable[[], State],
    ) -> None:
        goes_on = fate.judge(epoch, figures, share, state)
        if isinstance(fate.end, Diverged):
            return
        ended = not goes_on or epoch == self.epochs
        if fate.folder is not None:
            fate.save(epoch, state(), {} if ended else optimizer(), ended)
        if ended:
            fate.finish(state())

    def middle(self) -> Mapping[str, float]:
        """The newest figures, averaged over the living replicas, for people who watch."""
        books = [self.several[position].log_book[-1] for position in self.living if self.several[position].log_book]
        names = books[0].keys() if books else ()
        return {name: sum(book[name] for book in books) / len(books) for name in names}
