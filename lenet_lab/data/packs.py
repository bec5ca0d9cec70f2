"""Feeding several replicas at once: the same images, each replica in its own order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from lenet_lab.blocks.streams import key
from lenet_lab.data.arrays import Arrays, Split
from lenet_lab.data.augment import NONE, Augmentation, Levels
from lenet_lab.data.batches import order
from lenet_lab.data.module import CHUNK_IMAGES, EVAL_IMAGES, ArraysModule

LEAST_EVAL = 100


class PackChunk:
    """Consecutive training batches of every replica: images (R, n, C, H, W), labels (R, n)."""

    def __init__(self, batches: tuple[tuple[Tensor, Tensor], ...]) -> None:
        self.batches = batches


class PackChunks:
    """The training split in the order of (seed, epoch) of every replica, in chunks of whole batches."""

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seeds: Sequence[int],
        first_epoch: int,
        limit: int | None,
        augment: Augmentation,
        levels: Levels,
        how: Literal["shuffle", "fixed"],
        epochs: int = 1,
    ) -> None:
        self.split, self.batch_size, self.seeds, self.first_epoch = split, batch_size, list(seeds), first_epoch
        self.augment, self.levels, self.how, self.epochs = augment, levels, how, epochs
        full = -(-len(split) // batch_size)
        self.steps = full if limit is None else min(full, limit)
        # fixed for the life of a pack, whoever leaves it: Lightning asks for the number of chunks once
        self.per_chunk = max(1, CHUNK_IMAGES // batch_size // len(self.seeds))
        self.epoch = 0
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Lightning's word for the epoch about to start, counted from 0 in this process."""
        self.epoch = epoch + self.first_epoch

    def __len__(self) -> int:
        return -(-self.steps // self.per_chunk)

    def __iter__(self) -> Iterator[PackChunk]:
        n, size = len(self.split), self.batch_size
        asked = self.epoch if self.how == "shuffle" else 0
        orders = torch.stack([order(n, seed, asked) for seed in self.seeds])
        for first in range(0, self.steps, self.per_chunk):
            last = min(first + self.per_chunk, self.steps)
            rows = orders[:, first * size : min(last * size, n)]
            yield PackChunk(tuple(self._batches(rows, first * size)))

    def _batches(self, rows: Tensor, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Gather every replica's rows (R, n), distort them, and cut them into batches."""
        device = self.split.images.device
        places = torch.arange(start, start + rows.shape[1], device=device)
        rows = rows.to(device)
        labels = self.split.labels[rows]
        augment, several = self.augment.during(self.epoch, self.epochs), []
        for mine, seed in zip(rows, self.seeds, strict=True):
            draws = key(seed, "augment", self.epoch).to(device)
            several.append(augment.apply(self.split.images[mine], draws, places, self.levels))
        cuts = zip(*(one.split(self.batch_size) for one in several), strict=True)
        for batch, truth in zip(cuts, labels.split(self.batch_size, dim=1), strict=True):
            yield torch.stack(batch), truth


def eval_batches(split: Split, replicas: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A split in batches that are smaller the more replicas look at them."""
    size = max(LEAST_EVAL, EVAL_IMAGES // replicas)
    return zip(split.images.split(size), split.labels.split(size), strict=True)


class _Evaluation:
    def __init__(self, split: Split, replicas: int) -> None:
        self.split, self.replicas = split, replicas

    def __len__(self) -> int:
        return -(-len(self.split) // max(LEAST_EVAL, EVAL_IMAGES // self.replicas))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from eval_batches(self.split, self.replicas)


class PackModule(ArraysModule):
    """The splits of one pack, on its device; the replicas of `seeds` share them."""

    def __init__(
        self,
        arrays: Arrays,
        batch_size: int,
        seeds: Sequence[int],
        first_epoch: int = 0,
        limit: int | None = None,
        augment: Augmentation = NONE,
        how: Literal["shuffle", "fixed"] = "shuffle",
        epochs: int = 1,
    ) -> None:
        super().__init__(arrays, batch_size, seeds[0], limit, augment=augment, how=how, epochs=epochs)
        self.seeds, self.first_epoch = list(seeds), first_epoch

    def keep(self, seeds: Sequence[int]) -> None:
        """Go on with the replicas of these seeds."""
        self.seeds = list(seeds)
        self._chunks.seeds = list(seeds)

    def train_dataloader(self) -> PackChunks:  # type: ignore[override]
        """Lightning's hook."""
        self._chunks = PackChunks(
            self.train,
            self.batch_size,
            self.seeds,
            self.first_epoch,
            self.limit,
            self.augment,
            self.arrays.levels,
            self.how,
            self.epochs,
        )
        return self._chunks

    def val_dataloader(self) -> _Evaluation | list[_Evaluation]:  # type: ignore[override]
        """Lightning's hook; no validation split, no validation loop."""
        return [] if self.val is None else _Evaluation(self.val, len(self.seeds))
