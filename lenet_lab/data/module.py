"""Feeding Lightning: many batches at a time, by index, from tensors in memory.

Lightning spends about a millisecond on every batch it is handed, as much as a small network's whole step. So one
Lightning batch here is a *chunk* of many training batches; the engine makes one update for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from lenet_lab.blocks.streams import key
from lenet_lab.data.arrays import Arrays, Split
from lenet_lab.data.augment import NONE, Augmentation, Levels
from lenet_lab.data.batches import order

CHUNK_IMAGES = 4096
EVAL_IMAGES = 2000  # on an accelerator, and of a pack
CACHED_EVAL_IMAGES = 250  # on the CPU: what they become between layers stays in its cache


@dataclass(frozen=True)
class Batch:
    """One update's share of one process: images (n, 1, H, W), labels (n,), where it stands in the whole batch."""

    images: Tensor
    labels: Tensor
    first_row: int
    whole: int


class Chunk:
    """Consecutive training batches; no dataclass, so that Lightning does not look inside."""

    def __init__(self, batches: tuple[Batch, ...]) -> None:
        self.batches = batches


def moved(value: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, without waiting for what the device still has to do.

    Copies to a GPU do not wait where they start in page-locked memory alone.
    """
    if device.type == "cuda":
        value = value.pin_memory()
    return value.to(device, non_blocking=True)


def in_precision(split: Split, precision: str | None) -> Split:
    """The split with images in double precision where the whole run is."""
    return replace(split, images=split.images.double()) if precision == "64-true" else split


class TrainingChunks:
    """The training split in the order of (seed, epoch), in chunks; each process gets its rows of every batch.

    Lightning calls `sampler.set_epoch` before each epoch, also after a resumption.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        rank: int,
        world: int,
        limit: int | None,
        layout: torch.memory_format,
        augment: Augmentation,
        levels: Levels,
        how: Literal["shuffle", "fixed"],
        epochs: int = 1,
    ) -> None:
        self.split, self.batch_size, self.seed, self.rank, self.world = split, batch_size, seed, rank, world
        full = -(-len(split.labels) // batch_size)
        self.steps = full if limit is None else min(full, limit)
        self.per_chunk = max(1, CHUNK_IMAGES // batch_size)
        self.epoch = 0
        self.sampler = self
        self.layout, self.augment, self.levels, self.how = layout, augment, levels, how
        self.epochs = epochs

    def set_epoch(self, epoch: int) -> None:
        """Lightning's word for the epoch about to start, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.steps // self.per_chunk)

    def __iter__(self) -> Iterator[Chunk]:
        permutation = order(len(self.split.labels), self.seed, self.epoch if self.how == "shuffle" else 0)
        draws = moved(key(self.seed, "augment", self.epoch), self.split.images.device)
        for first in range(0, self.steps, self.per_chunk):
            last = min(first + self.per_chunk, self.steps)
            start = first * self.batch_size
            yield Chunk(tuple(self._batches(permutation[start : last * self.batch_size], start, draws)))

    def _batches(self, rows: Tensor, first: int, draws: Tensor) -> Iterator[Batch]:
        """Gather and distort a chunk's rows at once, then cut: slices of one tensor cost nothing.

        `first` is where the rows start in the epoch's order, `draws` the key of the epoch's distortions.
        """
        device = self.split.images.device
        bounds = [(start, min(start + self.batch_size, len(rows))) for start in range(0, len(rows), self.batch_size)]
        shares = [self._share(start, stop) for start, stop in bounds]
        places = torch.arange(len(rows))
        if self.world > 1:
            places = torch.cat([places[start:stop] for start, stop in shares])
        mine = moved(rows[places], device)
        images, labels = self.split.images[mine], self.split.labels[mine]
        augment = self.augment.during(self.epoch, self.epochs)
        images = augment.apply(images, draws, moved(places + first, device), self.levels)
        images = images.contiguous(memory_format=self.layout)
        position = 0
        for (start, stop), (low, high) in zip(bounds, shares, strict=True):
            taken = slice(position, position + high - low)
            yield Batch(images[taken], labels[taken], low - start, stop - start)
            position += high - low

    def _share(self, start: int, stop: int) -> tuple[int, int]:
        per_rank = -(-(stop - start) // self.world)
        low = min(start + self.rank * per_rank, stop)
        return low, min(low + per_rank, stop)


def evaluation_images(device: torch.device) -> int:
    """How many images go through a network at once where nothing is learned.

    On the CPU 250 take 0.77 to 0.96 of the time of 2,000 (one thread, 28x28 and 32x32, alone and side by side).
    """
    return CACHED_EVAL_IMAGES if device.type == "cpu" else EVAL_IMAGES


class EvaluationBatches:
    """A split in large batches, in its own order, whole on every process."""

    def __init__(self, split: Split) -> None:
        self.split, self.size = split, evaluation_images(split.images.device)

    def __len__(self) -> int:
        return -(-len(self.split.labels) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.split.images.split(self.size), self.split.labels.split(self.size), strict=True)


class ArraysModule(pl.LightningDataModule):
    """The splits of one run, on the run's device."""

    def __init__(
        self,
        arrays: Arrays,
        batch_size: int,
        seed: int,
        limit: int | None = None,
        layout: torch.memory_format = torch.contiguous_format,
        augment: Augmentation = NONE,
        how: Literal["shuffle", "fixed"] = "shuffle",
        epochs: int = 1,
    ) -> None:
        """`epochs` is the planned length of the run."""
        super().__init__()
        self.arrays, self.batch_size, self.seed, self.limit = arrays, batch_size, seed, limit
        self.layout, self.augment, self.how, self.epochs = layout, augment, how, epochs

    def setup(self, stage: str) -> None:
        """Move the splits to the device once: a batch is then a gather, not a transfer."""
        trainer = self.trainer
        assert trainer is not None
        device = trainer.strategy.root_device
        self.train = in_precision(self.arrays.train.to(device), trainer.precision)
        self.val = None if self.arrays.val is None else in_precision(self.arrays.val.to(device), trainer.precision)
        self.rank, self.world = trainer.global_rank, trainer.world_size

    def train_dataloader(self) -> TrainingChunks:
        """Lightning's hook."""
        return TrainingChunks(
            self.train,
            self.batch_size,
            self.seed,
            self.rank,
            self.world,
            self.limit,
            self.layout,
            self.augment,
            self.arrays.levels,
            self.how,
            self.epochs,
        )

    def val_dataloader(self) -> EvaluationBatches | list[EvaluationBatches]:
        """Lightning's hook; no validation split, no validation loop."""
        return [] if self.val is None else EvaluationBatches(self.val)

    def transfer_batch_to_device(self, batch: object, device: torch.device, dataloader_idx: int) -> object:
        """The splits are on the device already."""
        return batch
