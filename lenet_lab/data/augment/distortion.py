"""The distortions: one class, whose numbers say which of them are on; all geometry is one warp."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from lenet_lab.blocks.streams import uniform_rows
from lenet_lab.data.augment import NONE, Augmentation, Levels
from lenet_lab.data.augment.warp import inverse_affine, look, looks_at, smooth

NUMBERS = 10  # draws of an image before those of its displacement field
CPU_BLOCK = 256  # images at a time on a CPU: what is in between stays in its cache


class Drawn(NamedTuple):
    """The parameters of n images.

    Attributes:
        angle, slant: of rotation in radians (n,), clockwise as seen; tangent of the shear's angle (n,).
        shift: pixels (n, 2), x and y.
        wide, high: factors (n,).
        flip: whether left and right are exchanged (n,).
        brightness, contrast: factors (n,).
        contrast_first: which of them comes first (n,).
        noise: (n, 2, H, W) in (-1, 1), x and y; None where nothing is elastic.
    """

    angle: Tensor
    slant: Tensor
    shift: Tensor
    wide: Tensor
    high: Tensor
    flip: Tensor
    brightness: Tensor
    contrast: Tensor
    contrast_first: Tensor
    noise: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Distortion(Augmentation):
    """Flip, then one warp (affine map and elastic displacement together), then brightness and contrast.

    Every number is drawn uniformly for each image; 0 turns a distortion off. What a warp brings in from outside
    is empty ground.

    Milliseconds for 4096 images of 28x28 on one CPU thread (2-core virtual machine, torch 2.15): any affine warp 45,
    elastic 125 to 160, flip 14, brightness and contrast 25.

    Attributes:
        rotate: degrees, in +-rotate.
        shift: in +-shift of the width and of the height, not rounded to pixels.
        scale: a factor in 1 +- scale.
        squeeze: a factor q in 1 +- squeeze: q times as wide, 1/q times as high (LeCun et al. 1998, section III.A).
        shear: degrees, horizontal, in +-shear.
        flip: the probability that left and right are exchanged.
        alpha, sigma: elastic: a field uniform in (-1, 1) for each axis, smoothed by a Gaussian of `sigma` pixels,
            times `alpha` pixels; noise is 0 beyond the border. Source: Simard, Steinkraus, Platt, "Best practices for
            convolutional neural networks applied to visual document analysis", ICDAR 2003, doi
            10.1109/ICDAR.2003.1227801; theirs on 29x29 digits: sigma 4, alpha 34. torchvision's alpha is twice this.
        brightness, contrast: factors in max(0, 1 - b) to 1 + b, in random order, as torchvision's ColorJitter: of
            grey in [0, 1], clipped to it. Its hue and saturation mean nothing on grey.
        interpolation: of the warp; torchvision's random rotations and affine maps take the nearest pixel by default.
        clean_epochs: so many epochs at the end of the run see the images as they are, as those that are tested (Ge et
            al., "YOLOX", 2021, arXiv 2107.08430, end theirs so).
    """

    rotate: Annotated[float, Ge(0), Le(180)] = 0.0
    shift: Annotated[float, Ge(0), Le(1)] = 0.0
    scale: Annotated[float, Ge(0), Lt(1)] = 0.0
    squeeze: Annotated[float, Ge(0), Lt(1)] = 0.0
    shear: Annotated[float, Ge(0), Le(80)] = 0.0
    flip: Annotated[float, Ge(0), Le(1)] = 0.0
    alpha: Annotated[float, Ge(0)] = 0.0
    sigma: Annotated[float, Gt(0)] = 4.0
    brightness: Annotated[float, Ge(0)] = 0.0
    contrast: Annotated[float, Ge(0)] = 0.0
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    clean_epochs: Annotated[int, Ge(0)] = 0

    def during(self, epoch: int, epochs: int) -> Augmentation:
        """See `Augmentation.during`."""
        return NONE if epoch >= epochs - self.clean_epochs else self

    def apply(self, images: Tensor, key: Tensor, positions: Tensor, levels: Levels) -> Tensor:
        """See `Augmentation.apply`."""
        size = CPU_BLOCK if images.device.type == "cpu" else max(1, len(images))
        seen = torch.empty_like(images)  # joining blocks that are kept takes half as long again: memory is paged in
        for target, block, where in zip(seen.split(size), images.split(size), positions.split(size), strict=True):
            target.copy_(self._block(block.float(), key, where, levels))
        return seen

    def draw(self, key: Tensor, positions: Tensor, size: tuple[int, int]) -> Drawn:
        """The parameters of the images at `positions` (n,), of `size` (height, width).

        Number j of the image at position p is the element p * d + j of `streams.uniform`, d draws an image.
        """
        height, width = size
        count = NUMBERS + (height * width if self.alpha else 0)
        draws = uniform_rows(key, positions, count)
        u = draws[:, :NUMBERS]
        either = 2 * u - 1  # in [-1, 1)
        grow, squeeze = 1 + self.scale * either[:, 3], 1 + self.squeeze * either[:, 4]
        return Drawn(
            angle=math.radians(self.rotate) * either[:, 0],
            slant=torch.tan(math.radians(self.shear) * either[:, 5]),
            shift=torch.stack([self.shift * width * either[:, 1], self.shift * height * either[:, 2]], -1),
            wide=grow * squeeze,
            high=grow / squeeze,
            flip=u[:, 6] < self.flip,
            brightness=_factor(self.brightness, u[:, 7]),
            contrast=_factor(self.contrast, u[:, 8]),
            contrast_first=u[:, 9] < 0.5,
            noise=_two(draws[:, NUMBERS:].unflatten(1, size)) if self.alpha else None,
        )

    def _block(self, images: Tensor, key: Tensor, positions: Tensor, levels: Levels) -> Tensor:
        height, width = images.shape[-2:]
        drawn = self.draw(key, positions, (height, width))
        if self.flip:
            images = torch.where(drawn.flip[:, None, None, None], images.flip(-1), images)
        if self.rotate or self.shift or self.scale or self.squeeze or self.shear or self.alpha:
            images = look(images, self._grid(drawn, images), levels.ground, self.interpolation)
        if self.brightness or self.contrast:
            images = jitter(images, drawn, levels)
        return images

    def _grid(self, drawn: Drawn, images: Tensor) -> Tensor:
        """Where each output pixel looks (n, H, W, 2): the displacement is added where the affine map looks."""
        height, width = images.shape[-2:]
        matrix = inverse_affine(drawn.angle, drawn.shift, drawn.wide, drawn.high, drawn.slant, (height, width))
        grid = looks_at(matrix, (height, width))
        if drawn.noise is None:
            return grid
        field = self.alpha * smooth(drawn.noise, self.sigma)
        return grid + torch.stack([field[:, 0] * (2 / width), field[:, 1] * (2 / height)], -1)


def jitter(images: Tensor, drawn: Drawn, levels: Levels) -> Tensor:
    """Brightness and contrast of images (n, C, H, W), each clipped to the greys there are.

    Brightness blends with black, contrast with the image's mean grey; torchvision's `adjust_brightness` and
    `adjust_contrast` on grey in [0, 1].
    """
    span = levels.one - levels.zero
    grey = (images - levels.zero) / span
    first = torch.where(drawn.contrast_first, drawn.contrast, drawn.brightness)
    second = torch.where(drawn.contrast_first, drawn.brightness, drawn.contrast)
    grey = _blend(grey, first, drawn.contrast_first)
    grey = _blend(grey, second, ~drawn.contrast_first)
    return grey * span + levels.zero


def _blend(grey: Tensor, factor: Tensor, with_mean: Tensor) -> Tensor:
    other = (1 - factor) * with_mean * grey.mean(dim=(-3, -2, -1))
    return (grey * factor[:, None, None, None] + other[:, None, None, None]).clamp(0, 1)


def _factor(reach: float, u: Tensor) -> Tensor:
    low = max(0.0, 1 - reach)
    return low + (1 + reach - low) * u


def _two(u: Tensor) -> Tensor:
    """Two numbers in (-1, 1) out of each draw's 24 bits: (n, ...) to (n, 2, ...)."""
    scaled = u * 4096
    high = scaled.floor()
    return torch.stack([(high + 0.5) / 2048 - 1, (scaled - high) * 2 - (1 - 2.0**-12)], 1)
