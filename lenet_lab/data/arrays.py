"""What a loaded data set is: plain immutable containers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lenet_lab.data.augment import UNIT, Levels

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Examples ready for a network.

    Attributes:
        images: float32 (n, 1, H, W), normalised, contiguous.
        labels: int64 (n,), class ids.
        index: int64 (n,), each example's row in the source's files; it stays on the CPU.
    """

    images: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same split with images and labels on `device`."""
        return Split(self.images.to(device), self.labels.to(device), self.index)


@dataclass(frozen=True, eq=False)
class Arrays:
    """The splits of one run.

    Attributes:
        train, test: disjoint in the source's files.
        val: taken out of the training images; None where `data.val_size` is 0.
        classes: name of class 0, 1, ...
        digest: SHA-256 (hex) of the source's content; the splits follow from it and the configuration.
        name: the option of the group `data`.
        levels: what the images hold for grey 0, grey 255 and empty ground.
        moments: mean and standard deviation of x/255 that the images are normalised by.
    """

    train: Split
    val: Split | None
    test: Split
    classes: tuple[str, ...]
    digest: str
    name: str
    levels: Levels = UNIT
    moments: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Rows:
    """Examples as the source has them: images uint8 (n, 28, 28), labels uint8 (n,), index int64 (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    index: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """These rows, copied."""
        return Rows(self.images[rows], self.labels[rows], self.index[rows])


@dataclass(frozen=True, eq=False)
class Tables:
    """A whole source: its own training and test parts, and the digest of its content."""

    train: Rows
    test: Rows
    digest: str
