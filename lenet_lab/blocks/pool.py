"""Pooling: what halves the maps of a convolution stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import nn

from lenet_lab.blocks.rows import row


class Pooling(ABC):
    """A way to bring maps (n, C, H, W) to half their height and width."""

    @abstractmethod
    def build(self, channels: int) -> nn.Module:
        """The layer for `channels` maps."""


# Fixed pools: 2x2 windows side by side; a last odd row or column is dropped.
POOLS: dict[str, Callable[[], nn.Module]] = {
    "avg": lambda: nn.AvgPool2d(2),
    "max": lambda: nn.MaxPool2d(2),
}


@dataclass(frozen=True)
class Pool(Pooling):
    """A pool without parameters, a row of `POOLS`."""

    name: str

    def __post_init__(self) -> None:
        row(POOLS, "pool.name", self.name)

    def build(self, channels: int) -> nn.Module:
        return POOLS[self.name]()


@dataclass(frozen=True)
class StridedConvolution(Pooling):
    """A learned pool: a full convolution with stride 2 that keeps the number of maps.

    Zero padding of (kernel - 1) // 2 makes even sizes exactly half, whatever the kernel.
    """

    kernel: Annotated[int, Ge(2)] = 2

    def build(self, channels: int) -> nn.Module:
        return nn.Conv2d(channels, channels, self.kernel, stride=2, padding=(self.kernel - 1) // 2)
