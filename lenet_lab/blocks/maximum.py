"""The largest of each 2x2 window on a CPU, in whole-tensor operations: torch's own kernel goes value by value.

Microseconds of CPU with `torch.nn.functional.max_pool2d` and here, one thread of an EPYC (Zen 5), float32, medians of
7 alternating rounds over 30 tensors: (64, 6, 26, 26) forward and backward 1194 and 501, forward alone 1052 and 106;
(64, 16, 10, 10) 515 and 276, 458 and 57; (8, 6, 24, 24) 141 and 141. Its kernel takes a branch a value, which no
processor can foresee.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lenet_lab.blocks.stacked import transformed, values

LEAST = 32_768  # values: below, calling a dozen operators costs more than the kernel's branches
STACKED = 196_608  # values of all replicas: a layer of several costs more to call


class MaxPool2x2(nn.MaxPool2d):
    """`torch.nn.MaxPool2d(2)`: maps (n, C, H, W) to (n, C, H // 2, W // 2), the same numbers, gradients included.

    Where a window has a NaN its maximum is NaN too, but the gradient may go to another place of the window.
    """

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # first: what follows would fix the size of the batch
            return functional.max_pool2d(x, 2)
        stacked = transformed()
        if x.device.type != "cpu" or x.dim() < 4 or not (values(x) >= STACKED if stacked else _pays(x)):
            return functional.max_pool2d(x, 2)
        if stacked:
            return cast(Tensor, _StackedLargest.apply(x)[0])
        return cast(Tensor, _Largest.apply(x)) if x.requires_grad and torch.is_grad_enabled() else _largest(x)[0]


def _pays(x: Tensor) -> bool:
    """Whether whole-tensor operations are faster for maps (..., C, H, W)."""
    return x.device.type == "cpu" and x.numel() >= LEAST and min(x.shape[-2:]) >= 2 and x.is_contiguous()


def _windows(x: Tensor) -> list[Tensor]:
    """The four places of every window, row by row, each (n, C, H // 2, W // 2)."""
    height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
    return [x[..., row:height:2, column:width:2] for row in (0, 1) for column in (0, 1)]


def _largest(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest of every window, and of each of its two rows."""
    upper_left, upper_right, lower_left, lower_right = _windows(x)
    upper, lower = torch.maximum(upper_left, upper_right), torch.maximum(lower_left, lower_right)
    return torch.maximum(upper, lower), upper, lower


def _places(x: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """Where in its map the largest of every window is, the first of equals: int64, as torch's backward kernel wants it.

    Without `torch.where`, which takes a branch a value as well.
    """
    upper_left, upper_right, lower_left, lower_right = _windows(x)
    below, right_above, right_below = lower > upper, upper_right > upper_left, lower_right > lower_left
    right = right_above ^ ((right_above ^ right_below) & below)
    width = x.shape[-1]
    rows = torch.arange(0, 2 * upper.shape[-2], 2, device=x.device).mul(width).unsqueeze(1)
    corners = rows + torch.arange(0, 2 * upper.shape[-1], 2, device=x.device)
    return below.long().mul(width).add(right.long()).add(corners)


class _Largest(torch.autograd.Function):
    """The largest of every window; the gradient goes where torch's own kernel sends it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out, upper, lower = _largest(x)
        ctx.save_for_backward(x, _places(x, upper, lower))
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return _back(slope, *ctx.saved_tensors)


def _back(slope: Tensor, x: Tensor, places: Tensor) -> Tensor:
    back: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
        slope.flatten(0, -4), x.flatten(0, -4), [2, 2], [2, 2], [0, 0], [1, 1], False, places.flatten(0, -4)
    )
    return back.unflatten(0, x.shape[:-3])


class _StackedLargest(torch.autograd.Function):
    """In the form that torch's function transforms ask for, which is slower to call: the largest, and their places."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        if not _pays(x):
            out, places = functional.max_pool2d_with_indices(x.flatten(0, -4), [2, 2])
            return out.unflatten(0, x.shape[:-3]), places.unflatten(0, x.shape[:-3])
        largest, upper, lower = _largest(x)
        return largest, _places(x, upper, lower)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> Tensor:
        return _back(slope, *ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, change: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return change.flatten(-2).gather(-1, places.flatten(-2)).view(places.shape), None

    @staticmethod
    def vmap(info: Any, dims: tuple[int], x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        return _StackedLargest.apply(x.movedim(dims[0], 0)), (0, 0)
