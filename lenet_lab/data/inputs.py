"""From grey values 0..255 to what a network sees: noise, size, inversion, normalisation, in this order."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Fit = Literal["pad", "resize"]
Normalize = Literal["unit", "standard", "symmetric", "lecun1998"]


def noise(images: Tensor, index: Tensor, share: float, seed: int) -> Tensor:
    """Grey images uint8 (n, 1, h, w), of whose pixels a share is inverted (255 - x), each by its own chance.

    The 1998 paper's demonstration inverts a tenth of them (section III.E). Which ones depends on the seed and the
    image's index (n,) in its set alone.
    """
    if not share:
        return images
    shape = images.shape[1:]
    streams = (np.random.Generator(np.random.Philox(key=[seed, row])) for row in index.tolist())
    inverted = np.stack([stream.random(shape, np.float32) < share for stream in streams])
    return torch.where(torch.from_numpy(inverted), 255 - images, images)


def fit(images: Tensor, size: int, how: Fit) -> Tensor:
    """Images (n, 1, h, h) brought to (n, 1, size, size).

    pad: background (0) around the image, as the 1998 paper pads its 28x28 digits to 32x32.
    resize: bilinear, the corners of the pixels not aligned (`align_corners=False`); float32.
    """
    side = images.shape[-1]
    if side == size:
        return images
    if how == "pad":
        before = (size - side) // 2
        after = size - side - before
        return functional.pad(images, (before, after, before, after))
    return functional.interpolate(images.float(), size=(size, size), mode="bilinear", align_corners=False)


def invert(images: Tensor) -> Tensor:
    """255 - x: dark ink on light ground. Padding comes before, so it takes the colour of the new ground."""
    return 255 - images


def normalize(images: Tensor, how: Normalize, mean: float, std: float) -> Tensor:
    """Grey values 0..255 as float32 of the same shape, contiguous.

    unit: x/255, in [0, 1]. symmetric: 2x/255 - 1, in [-1, 1]. standard: (x/255 - mean) / std.
    lecun1998: 1.275 x/255 - 0.1: background -0.1, ink 1.175 (LeCun et al. 1998, section II.B).

    Args:
        mean, std: of x/255 over the training images; used by `standard` alone.
    """
    unit = images.to(torch.float32, memory_format=torch.contiguous_format, copy=True).div_(255)
    if how == "unit":
        return unit
    if how == "symmetric":
        return unit.sub_(0.5).div_(0.5)
    if how == "standard":
        return unit.sub_(mean).div_(std)
    return unit.mul_(1.275).sub_(0.1)
