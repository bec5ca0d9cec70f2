"""What a network is assembled from, and the one place where it is built and initialised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from lenet_lab.blocks.activation import Nonlinearity
from lenet_lab.blocks.dropout import DropoutRate
from lenet_lab.blocks.head import Head
from lenet_lab.blocks.init import Initialization
from lenet_lab.blocks.norm import Normalization
from lenet_lab.blocks.pool import Pooling


@dataclass(frozen=True)
class Parts:
    """The variants that every architecture shares, the input (channels, height, width) and the run's seed."""

    pool: Pooling
    norm: Normalization
    activation: Nonlinearity
    dropout: DropoutRate
    head: Head
    init: Initialization
    in_shape: tuple[int, int, int]
    classes: int
    seed: int


class Model(ABC):
    """An architecture: the nets it builds map float32 (n, C, H, W) to (n, classes).

    `unused` names the config groups, their keys and plain keys that it has no use for: one that differs from the
    baseline's is refused, never ignored. `engine` says who trains it, a row of `train.ENGINES`.
    """

    unused: ClassVar[tuple[str, ...]] = ()
    engine: ClassVar[str] = "gradient"

    @abstractmethod
    def build(self, parts: Parts) -> nn.Module:
        """The net with any weights; `models.build` draws them. Raises `LabError` where parts do not fit."""


def build(model: Model, parts: Parts) -> nn.Module:
    """The net on the CPU in training mode, every weight drawn from `parts.seed`.

    torch's global generator is left as it was. Raises `LabError` where the parts do not fit the architecture.
    """
    with torch.random.fork_rng(devices=[]):
        net = model.build(parts)
    parts.init.apply(net, parts.seed)
    return net.train()
