"""Normalisation of maps and of hidden units; affine parameters start at 1 and 0."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Le
from torch import nn

from lenet_lab.records import LabError

Place = Literal["conv", "fc", "all"]
Epsilon = Annotated[float, Gt(0)]


class Normalization(ABC):
    """A norm and the layers that get it: convolutions, hidden fully connected layers, or both."""

    def check(self, maps: Sequence[int]) -> None:
        """Raise `LabError` where the norm does not suit convolutions with these numbers of maps."""
        return

    @abstractmethod
    def conv(self, channels: int, size: Sequence[int]) -> nn.Module | None:
        """The layer for maps (n, channels, *size), None where convolutions are left alone."""

    @abstractmethod
    def fc(self, units: int) -> nn.Module | None:
        """The layer for hidden units (n, units), None where they are left alone."""


@dataclass(frozen=True)
class NoNorm(Normalization):
    """No normalisation anywhere."""

    def conv(self, channels: int, size: Sequence[int]) -> None:
        return None

    def fc(self, units: int) -> None:
        return None


@dataclass(frozen=True)
class BatchNorm(Normalization):
    """Batch normalisation (Ioffe and Szegedy 2015), each map or unit by itself.

    `momentum` is the weight of the newest batch in the running statistics that evaluation uses.
    """

    place: Place = "conv"
    momentum: Annotated[float, Gt(0), Le(1)] = 0.1
    eps: Epsilon = 1e-5

    def conv(self, channels: int, size: Sequence[int]) -> nn.Module | None:
        if self.place == "fc":
            return None
        return nn.BatchNorm2d(channels, eps=self.eps, momentum=self.momentum)

    def fc(self, units: int) -> nn.Module | None:
        if self.place == "conv":
            return None
        return nn.BatchNorm1d(units, eps=self.eps, momentum=self.momentum)


@dataclass(frozen=True)
class GroupNorm(Normalization):
    """Group normalisation (Wu and He 2018) of maps; `groups` divides the maps of every convolution."""

    groups: Annotated[int, Gt(0)] = 2
    place: Place = "conv"
    eps: Epsilon = 1e-5

    def __post_init__(self) -> None:
        _maps_only("group norm", self.place)

    def check(self, maps: Sequence[int]) -> None:
        common = math.gcd(*maps)
        if common % self.groups:
            allowed = ", ".join(str(g) for g in range(1, common + 1) if common % g == 0)
            shown = " and ".join(str(m) for m in maps)
            raise LabError(
                f"norm.groups={self.groups} does not divide the {shown} maps of the convolutions; allowed: {allowed}"
            )

    def conv(self, channels: int, size: Sequence[int]) -> nn.Module:
        return nn.GroupNorm(self.groups, channels, eps=self.eps)

    def fc(self, units: int) -> None:
        return None


@dataclass(frozen=True)
class LayerNorm(Normalization):
    """Layer normalisation (Ba, Kiros, Hinton 2016): one mean and variance an example.

    On maps it runs over channels, height and width with one gain and bias a map: group norm with one group,
    as Wu and He 2018 put it. On hidden units each unit has its own gain and bias.
    """

    place: Place = "conv"
    eps: Epsilon = 1e-5

    def conv(self, channels: int, size: Sequence[int]) -> nn.Module | None:
        return None if self.place == "fc" else nn.GroupNorm(1, channels, eps=self.eps)

    def fc(self, units: int) -> nn.Module | None:
        return None if self.place == "conv" else nn.LayerNorm(units, eps=self.eps)


@dataclass(frozen=True)
class InstanceNorm(Normalization):
    """Instance normalisation (Ulyanov et al. 2016): each map of each example, with a gain and bias a map."""

    place: Place = "conv"
    eps: Epsilon = 1e-5

    def __post_init__(self) -> None:
        _maps_only("instance norm", self.place)

    def conv(self, channels: int, size: Sequence[int]) -> nn.Module:
        if math.prod(size) == 1:
            raise LabError("norm=in: instance norm of a 1x1 map is always 0; allowed: larger maps or another norm")
        return nn.InstanceNorm2d(channels, eps=self.eps, affine=True)

    def fc(self, units: int) -> None:
        return None


def _maps_only(name: str, place: Place) -> None:
    if place != "conv":
        raise LabError(f"norm.place={place}: {name} works on maps only; allowed: conv")
