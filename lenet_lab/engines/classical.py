"""Fitting and asking a classical model: no epochs, no checkpoints; a run that is stopped starts afresh."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from lenet_lab.blocks.streams import derive
from lenet_lab.data import splits
from lenet_lab.data.arrays import Split
from lenet_lab.engines.single import Evaluation
from lenet_lab.models.classical import Classical, Labels, Learned, Pixels, Progress

T = TypeVar("T")
SCORED_AT_ONCE = 5000
LEAST = 1e-7  # a score of 0 has no logarithm: losses end at 16.1 nats


@dataclass(frozen=True)
class Taught:
    """What fitting leaves: the model's state, the images it has learned from, seconds of fitting alone."""

    learned: Learned
    split: Split
    seconds: float


def teach(model: Classical, split: Split, classes: int, seed: int, threads: int, progress: Progress) -> Taught:
    """Fit `model` to a split, or to the stratified draw of it that `max_train` allows.

    Args:
        progress: told the share of the work that is done.
    """
    drawn = drawn_from(split, classes, model.max_train, seed)
    pixels, labels = _table(drawn)
    state = derive(seed, "classical") % 2**32
    started = time.perf_counter()
    learned = _aside(lambda tell: model.fit(pixels, labels, classes, state, threads, tell), threads, progress)
    return Taught(learned, drawn, time.perf_counter() - started)


def drawn_from(split: Split, classes: int, limit: int | None, seed: int) -> Split:
    """The split, or `limit` images of it in proportion to the classes, drawn from the stream `subset`."""
    if limit is None or limit >= len(split):
        return split
    labels = split.labels.cpu().numpy().astype(np.uint8)
    rows = torch.from_numpy(splits.subset(labels, classes, limit, derive(seed, "subset") % 2**32))
    return Split(split.images[rows], split.labels[rows], split.index[rows])


def ask(model: Classical, learned: Learned, split: Split, classes: int, threads: int, progress: Progress) -> Evaluation:
    """One pass over a split; the loss is minus the logarithm of the right class's score, in nats."""
    pixels, labels = _table(split)

    def score(tell: Progress) -> list[Any]:
        parts = []
        for start in range(0, len(pixels), SCORED_AT_ONCE):
            parts.append(model.scores(learned, pixels[start : start + SCORED_AT_ONCE], classes))
            tell(min(start + SCORED_AT_ONCE, len(pixels)) / len(pixels))
        return parts

    scores = np.concatenate(_aside(score, threads, progress))
    losses = -np.log(np.maximum(scores[np.arange(len(labels)), labels], LEAST))
    return Evaluation(
        torch.from_numpy(scores.astype(np.float32)),
        torch.from_numpy(losses.astype(np.float32)),
        torch.from_numpy(scores.argmax(axis=1)),
        torch.from_numpy(labels),
    )


def _table(split: Split) -> tuple[Pixels, Labels]:
    """Pixels (n, C*H*W) and labels (n,), as scikit-learn wants them."""
    return split.images.cpu().flatten(1).contiguous().numpy(), split.labels.cpu().numpy()


def _aside(work: Callable[[Progress], T], threads: int, progress: Progress) -> T:
    """Do `work` in a thread of its own with so many threads of BLAS and OpenMP; here, signals are heard meanwhile.

    A library's one long call would hold them back for minutes.
    """
    from threadpoolctl import threadpool_limits

    done = [0.0]
    result: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            with threadpool_limits(threads), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that L-BFGS came to max_iter first: a setting, as epochs are
                result.append((work(lambda share: done.__setitem__(0, share)), None))
        except BaseException as error:
            result.append((None, error))

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(0.2)
        progress(done[0])
    value, error = result[0]
    if error is not None:
        raise error
    return value
