"""A spatial transformer in front of LeNet-5 (Jaderberg, Simonyan, Zisserman, Kavukcuoglu 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import MinLen
from torch import Tensor, nn
from torch.nn import functional

from lenet_lab.blocks.init import Drawn, Generators, Initialization
from lenet_lab.blocks.maximum import MaxPool2x2
from lenet_lab.models.lenet5 import LeNet5, Positive
from lenet_lab.models.parts import Parts
from lenet_lab.records import LabError


class Theta(nn.Linear, Drawn):
    """The six numbers of an affine map of the plane, (n, 6), from (n, features); the identity at the start."""

    def __init__(self, features: int) -> None:
        super().__init__(features, 6)

    def draw(self, init: Initialization, generators: Generators) -> None:
        """No weights, and the identity as bias, whatever the rule."""
        self.weight.zero_()
        self.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))


class SpatialTransformer(nn.Module):
    """Looks at images (n, C, H, W), and hands them on seen through an affine map of its own choice.

    The map takes places of the output to places of the input, both from -1 to 1 over the image (eq. 1); what
    is read there is interpolated bilinearly (eq. 5), and outside of the image its nearest edge is read.
    """

    def __init__(self, localisation: nn.Sequential) -> None:
        super().__init__()
        self.localisation = localisation

    def forward(self, images: Tensor) -> Tensor:
        theta = self.localisation(images).view(-1, 2, 3, 1, 1)
        y, x = (_centres(size, images) for size in images.shape[2:])
        grid = theta[:, :, 0] * x + theta[:, :, 1] * y.unsqueeze(1) + theta[:, :, 2]  # (n, 2, H, W): x and y to read at
        return functional.grid_sample(images, grid.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)


def _centres(size: int, like: Tensor) -> Tensor:
    """Where the middles of `size` pixels lie on a line from -1 to 1, (size,)."""
    return (2 * torch.arange(size, device=like.device, dtype=like.dtype) + 1) / size - 1


@dataclass(frozen=True)
class SpatialTransformerLeNet5(LeNet5):
    """LeNet-5 whose input goes through a spatial transformer first; the fields of LeNet-5 are its own.

    The localisation net has stages of convolution, 2x2 max pooling and ReLU and one hidden layer, whatever the
    factors are: those are LeNet-5's. `loc_maps`, `loc_kernels`: of each convolution; `loc_units`: of the hidden layer.
    """

    loc_maps: Annotated[tuple[Positive, ...], MinLen(1)] = (8, 10)
    loc_kernels: Annotated[tuple[Positive, ...], MinLen(1)] = (7, 5)
    loc_units: Positive = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.loc_kernels) != len(self.loc_maps):
            raise LabError(
                f"model.loc_kernels={list(self.loc_kernels)}: one a convolution; allowed: {len(self.loc_maps)} numbers"
            )

    def build(self, parts: Parts) -> nn.Sequential:
        """The layers of LeNet-5 by the same names, so with the same initial weights, after the layer `stn`."""
        net = nn.Sequential()
        net.add_module("stn", SpatialTransformer(self._localisation(parts)))
        for name, layer in super().build(parts).named_children():
            net.add_module(name, layer)
        return net

    def _localisation(self, parts: Parts) -> nn.Sequential:
        net, (channels, height, width) = nn.Sequential(), parts.in_shape
        for number, (maps, kernel) in enumerate(zip(self.loc_maps, self.loc_kernels, strict=True), start=1):
            side = min(height, width)
            if side < kernel + 1:
                raise LabError(
                    f"model.loc_kernels={list(self.loc_kernels)} leaves nothing to pool of the {height}x{width} maps "
                    f"that convolution {number} sees; allowed there: at most {side - 1}"
                )
            net.add_module(f"conv{number}", nn.Conv2d(channels, maps, kernel))
            net.add_module(f"conv{number}_pool", MaxPool2x2())
            net.add_module(f"conv{number}_act", nn.ReLU())
            channels, height, width = maps, (height - kernel + 1) // 2, (width - kernel + 1) // 2
        net.add_module("flatten", nn.Flatten())
        net.add_module("fc1", nn.Linear(channels * height * width, self.loc_units))
        net.add_module("fc1_act", nn.ReLU())
        net.add_module("theta", Theta(self.loc_units))
        return net
