"""Augmentation: batched tensor operations on training images, drawn from the run's own stream.

An image's draws are a function of (seed, epoch, its position in the epoch's order): arms of one seed see the same
distortions, a resumed run those of an uninterrupted one, and a slice of a batch its slice of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Levels(NamedTuple):
    """What a network's input holds for grey 0, for grey 255 (both after inversion), and on empty ground."""

    zero: float
    one: float
    ground: float


UNIT = Levels(0.0, 1.0, 0.0)


class Augmentation(ABC):
    """Distorts training images; evaluation never sees it."""

    @abstractmethod
    def apply(self, images: Tensor, key: Tensor, positions: Tensor, levels: Levels) -> Tensor:
        """Images float32 (n, C, H, W) distorted, same shape and device; the argument is left as it was.

        Pure, and without host synchronisation; `torch.func.vmap` may batch images, and with them key and positions.

        Args:
            key: int64 (2,) on the images' device, `streams.key(seed, "augment", epoch)`, epochs counted from 0.
            positions: int64 (n,), where each image stands in the epoch's order, on the images' device.
            levels: of the normalisation in force.
        """

    def during(self, epoch: int, epochs: int) -> Augmentation:
        """What is in force in one epoch, counted from 0, of a run planned for so many."""
        return self


@dataclass(frozen=True)
class NoAugmentation(Augmentation):
    """The images as they are."""

    def apply(self, images: Tensor, key: Tensor, positions: Tensor, levels: Levels) -> Tensor:
        return images


NONE = NoAugmentation()

# Config group: the dataclass of a node without `_target_`, and the class a `_target_` must descend from.
DEFAULTS: dict[str, type] = {"augment": NoAugmentation}
BASES: dict[str, type] = {"augment": Augmentation}
