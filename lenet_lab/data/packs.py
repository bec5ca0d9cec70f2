"""Feeding several replicas at once: the same images, each replica in its own order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from lenet_lab.blocks.streams import key
from lenet_lab.data.arrays import Arrays, Split
from lenet_lab.data.augment import NONE, Augmentation, Levels, NoAugmentation
from lenet_lab.data.batches import order
from lenet_lab.data.module import CHUNK_IMAGES, EVAL_IMAGES, ArraysModule, moved

LEAST_EVAL = 100
# On a GPU a chunk of all replicas' images is gathered at once. What is held for a moment is that much times the images:
# twice to cut them; to distort them 5.3 times by an affine map, 11.3 by an elastic field (measured on the CPU).
HELD, HELD_DISTORTED = 2, 12
GPU_FEED_BYTES = 8 << 30  # held at most, or an eighth of what is free
GPU_CHUNK_STEPS = 100  # after each chunk people who watch hear of it


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
        self.together = split.images.device.type != "cpu"
        chunk = CHUNK_IMAGES
        if self.together:
            held = HELD if isinstance(augment, NoAugmentation) else HELD_DISTORTED
            most = _feed_bytes(split.images.device) // (split.images[:1].numel() * split.images.element_size()) // held
            chunk = max(chunk, min(most, GPU_CHUNK_STEPS * batch_size * len(self.seeds)))
        # fixed for the life of a pack, whoever leaves it: Lightning asks for the number of chunks once
        self.per_chunk = max(1, chunk // batch_size // len(self.seeds))
        self.epoch = 0
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Lightning's word for the epoch about to start, counted from 0 in this process."""
        self.epoch = epoch + self.first_epoch

    def __len__(self) -> int:
        return -(-self.steps // self.per_chunk)

    def __iter__(self) -> Iterator[PackChunk]:
        n, size, device = len(self.split), self.batch_size, self.split.images.device
        asked = self.epoch if self.how == "shuffle" else 0
        orders = moved(torch.stack([order(n, seed, asked) for seed in self.seeds]), device)
        draws = moved(torch.stack([key(seed, "augment", self.epoch) for seed in self.seeds]), device)
        for first in range(0, self.steps, self.per_chunk):
            last = min(first + self.per_chunk, self.steps)
            rows = orders[:, first * size : min(last * size, n)]
            yield PackChunk(tuple(self._batches(rows, draws, first * size)))

    def _batches(self, rows: Tensor, draws: Tensor, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Gather every replica's rows (R, n), distort them by its draws, and cut them into batches."""
        places = torch.arange(start, start + rows.shape[1], device=rows.device)
        augment = self.augment.during(self.epoch, self.epochs)
        batches = (
            self._together(augment, rows, draws, places)
            if self.together
            else self._in_turn(augment, rows, draws, places)
        )
        for batch, truth in zip(batches, self.split.labels[rows].split(self.batch_size, dim=1), strict=True):
            yield batch, _own(truth)

    def _in_turn(self, augment: Augmentation, rows: Tensor, draws: Tensor, places: Tensor) -> Iterator[Tensor]:
        """A replica's images at a time: what they are gathered from and distorted in stays in the CPU's cache."""
        several = [
            augment.apply(self.split.images[mine], own, places, self.levels)
            for mine, own in zip(rows, draws, strict=True)
        ]
        for batch in zip(*(one.split(self.batch_size) for one in several), strict=True):
            yield torch.stack(batch)

    def _together(self, augment: Augmentation, rows: Tensor, draws: Tensor, places: Tensor) -> Iterator[Tensor]:
        """All replicas' images at once: a GPU waits for as few calls as there can be."""
        images = self.split.images[rows]
        if not isinstance(augment, NoAugmentation):
            images = torch.func.vmap(lambda one, own: augment.apply(one, own, places, self.levels))(images, draws)
        for batch in images.split(self.batch_size, dim=1):
            yield _own(batch)


def _feed_bytes(device: torch.device) -> int:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 8 * GPU_FEED_BYTES
    return min(GPU_FEED_BYTES, free // 8)


def _own(cut: Tensor) -> Tensor:
    """A slice laid out by itself: a compiled pack knows one layout, and a slice has the strides of its whole."""
    return cut.clone(memory_format=torch.contiguous_format)


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
