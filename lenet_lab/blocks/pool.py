"""Pooling: what halves the maps of a convolution stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from lenet_lab.blocks.average import AvgPool2x2, mean
from lenet_lab.blocks.init import Drawn, Fans, Generators, Initialization
from lenet_lab.blocks.maximum import MaxPool2x2
from lenet_lab.blocks.rows import row


class Pooling(ABC):
    """A way to bring maps (n, C, H, W) to half their height and width."""

    @abstractmethod
    def build(self, channels: int) -> nn.Module:
        """The layer for `channels` maps."""


# Fixed pools: 2x2 windows side by side; a last odd row or column is dropped.
POOLS: dict[str, Callable[[], nn.Module]] = {
    "avg": AvgPool2x2,
    "max": MaxPool2x2,
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


class Sum2x2(nn.Module, Drawn):
    """The sum of each 2x2 window times one coefficient a map, plus one bias a map (LeCun et al. 1998, section II.B).

    `weight` and `bias` have the shape (C,). The squash after it is a layer of its own.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.view(-1, 1, 1), self.bias.view(-1, 1, 1)
        if x.device.type == "cpu":  # the faster one there; four times a mean is exactly the sum
            return torch.addcmul(bias, mean(x), 4 * weight)
        return torch.addcmul(bias, functional.avg_pool2d(x, 2, divisor_override=1), weight)

    def draw(self, init: Initialization, generators: Generators) -> None:
        """A unit has four inputs, which share the coefficient."""
        weight, fans = self.weight.data.view(-1, 1), Fans(4, 1)
        init.fill_weight(weight, generators("weight"), fans)
        init.fill_bias(self.bias.data, weight, generators("bias"), fans)


@dataclass(frozen=True)
class Subsample(Pooling):
    """The trainable subsampling of LeNet-5 (LeCun et al. 1998): two parameters a map."""

    def build(self, channels: int) -> nn.Module:
        return Sum2x2(channels)
