"""Geometry in batches: where each output pixel looks, and one look. Coordinates as torchvision's: x right, y down.

Positions are those of `grid_sample` with `align_corners=False`: -1 and 1 are the outer edges of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def inverse_affine(
    angle: Tensor, shift: Tensor, wide: Tensor, high: Tensor, slant: Tensor, size: tuple[int, int]
) -> Tensor:
    """Of an output position the input position, float32 (n, 2, 3): the inverse of T R S Z about the centre.

    Z scales by `wide` and `high`, S shears horizontally, R rotates, T shifts. With `wide == high` this is the
    matrix of `torchvision.transforms.functional.affine(shear=(atan(slant), 0))`.

    Args:
        angle: radians (n,), clockwise as seen.
        shift: pixels (n, 2), x and y.
        wide, high: factors (n,).
        slant: tangent of the angle of the shear (n,).
        size: height and width in pixels.
    """
    height, width = size
    cos, sin = angle.cos(), angle.sin()
    xx, xy = (cos - slant * sin) / wide, (sin + slant * cos) / wide
    yx, yy = -sin / high, cos / high
    dx, dy = shift.unbind(-1)
    rows = [
        torch.stack([xx, xy * (height / width), -(xx * dx + xy * dy) * (2 / width)], -1),
        torch.stack([yx * (width / height), yy, -(yx * dx + yy * dy) * (2 / height)], -1),
    ]
    return torch.stack(rows, -2)


def looks_at(matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Where each pixel of the output looks, (n, H, W, 2), for matrices (n, 2, 3).

    `torch.nn.functional.affine_grid`, which `torch.func.vmap` cannot batch.
    """
    x, y = (((torch.arange(n, device=matrix.device) * 2 + 1) / n - 1)[:, None] for n in reversed(size))
    by_x, by_y, start = (column[:, None, :] for column in matrix.unbind(-1))
    return (by_x * x)[:, None] + (by_y * y + start)[:, :, None]


def smooth(noise: Tensor, sigma: float) -> Tensor:
    """A Gaussian filter of `sigma` pixels, cut at 4 sigma, zero beyond the border; noise (..., H, W).

    As `scipy.ndimage.gaussian_filter(mode="constant")`, by a matrix product for each axis.
    """
    height, width = noise.shape[-2:]
    return _filter(height, sigma, noise) @ noise @ _filter(width, sigma, noise)


def _filter(size: int, sigma: float, like: Tensor) -> Tensor:
    radius = int(4 * sigma + 0.5)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype) / sigma) ** 2)
    places = torch.arange(size, device=like.device)
    apart = (places[:, None] - places).abs()
    weights = torch.exp(-0.5 * (apart.to(like.dtype) / sigma) ** 2) / taps.sum()
    return weights * (apart <= radius)


def look(images: Tensor, grid: Tensor, ground: float, mode: str) -> Tensor:
    """Images (n, C, H, W) sampled at `grid` (n, H, W, 2); what lies outside is `ground`, blended in at the border."""
    return functional.grid_sample(images - ground, grid, mode=mode, align_corners=False) + ground
