"""LeNet-5 as today's code has it: every map sees all maps of the layer before, pools without parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, MinLen
from torch import Tensor, nn

from lenet_lab.models.parts import Model, Parts
from lenet_lab.records import LabError

Positive = Annotated[int, Gt(0)]
Width = Annotated[int, Ge(0)]
Order = Literal[
    "conv-norm-act-pool",
    "conv-norm-pool-act",
    "conv-act-norm-pool",
    "conv-act-pool-norm",
    "conv-pool-norm-act",
    "conv-pool-act-norm",
]


@dataclass(frozen=True)
class LeNet5(Model):
    """Convolution stages, hidden fully connected layers, head.

    44,426 parameters on 28x28 images, 61,706 with `padding=2` or on 32x32 images.

    Fields: `maps` of each convolution; `units` of each hidden layer; `kernel`, the side of every convolution;
    `padding` by zeros on every side: one number is the input's (the first convolution's alone), a list has one
    a convolution; `order` of a stage's parts, of which the norm may be none.
    """

    maps: Annotated[tuple[Positive, ...], MinLen(1)] = (6, 16)
    units: Annotated[tuple[Positive, ...], MinLen(1)] = (120, 84)
    kernel: Positive = 5
    padding: Width | tuple[Width, ...] = 0
    order: Order = "conv-norm-act-pool"

    def __post_init__(self) -> None:
        if isinstance(self.padding, tuple) and len(self.padding) != len(self.maps):
            raise LabError(
                f"model.padding={list(self.padding)}: a list has one a convolution; allowed: {len(self.maps)} numbers, "
                "or one for the input alone"
            )

    def build(self, parts: Parts) -> nn.Sequential:
        """A `Sequential` of named layers: conv1, conv1_act, conv1_pool, ..., flatten, fc1, ..., head.

        A layer's name does not depend on which other layers there are.
        """
        parts.norm.check(self.maps)
        net = nn.Sequential()
        image = torch.zeros(1, *parts.in_shape)
        paddings = self.padding if isinstance(self.padding, tuple) else (self.padding, *(0 for _ in self.maps[1:]))
        for number, (maps, padding) in enumerate(zip(self.maps, paddings, strict=True), start=1):
            image = self._add_stage(net, f"conv{number}", image, maps, padding, parts)
        add_classifier(net, image.numel(), self.units, parts)
        return net

    def _add_stage(self, net: nn.Sequential, name: str, image: Tensor, maps: int, padding: int, parts: Parts) -> Tensor:
        """Append one stage to `net`; the image that went through it tells the next layer's size."""
        height, width = image.shape[2:]
        if self.kernel > min(height, width) + 2 * padding:
            raise LabError(
                f"model.kernel={self.kernel} does not fit the {height}x{width} maps that {name} sees; "
                f"allowed: at most {min(height, width) + 2 * padding}"
            )
        conv = nn.Conv2d(image.shape[1], maps, self.kernel, padding=padding)
        with torch.no_grad():
            image = conv(image)
            net.add_module(name, conv)
            for part in self.order.split("-")[1:]:
                layer = self._part(part, name, image, parts)
                if layer is not None:
                    net.add_module(f"{name}_{part}", layer)
                    image = layer.eval()(image)
        _add(net, f"{name}_drop", parts.dropout.build("conv"))
        return image

    def _part(self, part: str, name: str, image: Tensor, parts: Parts) -> nn.Module | None:
        """The layer that `part` of the order stands for, None for a norm that is none."""
        channels, *size = image.shape[1:]
        if part == "act":
            return parts.activation.build()
        if part == "norm":
            return parts.norm.conv(channels, size)
        if min(size) < 2:
            raise LabError(
                f"model.maps has too many stages: {name} leaves {size[0]}x{size[1]} maps, none to pool; "
                "allowed: larger images or fewer stages"
            )
        return parts.pool.build(channels)


def add_classifier(net: nn.Sequential, features: int, units: tuple[int, ...], parts: Parts) -> None:
    """Append what follows the convolutions: flatten, the hidden layers fc1, fc2, ..., head."""
    net.add_module("flatten", nn.Flatten())
    _add(net, "flatten_drop", parts.dropout.build("flatten"))
    for number, width in enumerate(units, start=1):
        net.add_module(f"fc{number}", nn.Linear(features, width))
        _add(net, f"fc{number}_norm", parts.norm.fc(width))
        net.add_module(f"fc{number}_act", parts.activation.build())
        _add(net, f"fc{number}_drop", parts.dropout.build("fc"))
        features = width
    net.add_module("head", parts.head.build(features, parts.classes))


def _add(net: nn.Sequential, name: str, layer: nn.Module | None) -> None:
    if layer is not None:
        net.add_module(name, layer)
