"""The mean of each 2x2 window on a CPU, in whole-tensor operations: torch's own kernel goes value by value.

Microseconds of CPU forward and backward with `torch.nn.functional.avg_pool2d` and here, one thread of an EPYC, float32,
medians of 60 calls of the operators alone: (128, 6, 28, 28) 785 + 801 and 226 + 134, channels-last 572 + 408 and
291 + 199; (128, 16, 10, 10) 281 + 316 and 92 + 64, channels-last, where the kernel uses vectors, 48 + 45 and 63 + 48.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lenet_lab.blocks.stacked import transformed, values

LEAST = 65_536  # values a thread: below, calling several operators costs what the kernel does
STACKED = 98_304  # values of all replicas: a layer of several costs more to call
VECTOR = 16  # channels, side by side in memory, from which torch's kernel uses vectors


class AvgPool2x2(nn.AvgPool2d):
    """`torch.nn.AvgPool2d(2)`: maps (n, C, H, W) to (n, C, H // 2, W // 2), the same numbers, gradients included."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Tensor:
        return mean(x)


def mean(x: Tensor) -> Tensor:
    """`torch.nn.functional.avg_pool2d(x, 2)`, the same numbers, gradients included."""
    if torch.compiler.is_compiling():  # first: what follows would fix the size of the batch
        return functional.avg_pool2d(x, 2)
    stacked = transformed()
    if x.dim() < 4 or not (_suits(x) and values(x) >= max(STACKED, _least()) if stacked else _pays(x)):
        return functional.avg_pool2d(x, 2)
    if stacked:
        return cast(Tensor, _StackedMean.apply(x))
    return cast(Tensor, _Mean.apply(x)) if x.requires_grad and torch.is_grad_enabled() else _mean(x)


def _least() -> int:
    return LEAST * torch.get_num_threads()


def _suits(x: Tensor) -> bool:
    """Whether such values are added as precisely: torch's kernel adds numbers of 16 bits in 32."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def _pays(x: Tensor) -> bool:
    """Whether whole-tensor operations are faster for maps (..., C, H, W), with the same numbers."""
    apart = x.stride(-1) == 1 or x.shape[-3] < VECTOR
    return _suits(x) and x.numel() >= _least() and min(x.shape[-2:]) >= 2 and apart


def _mean(x: Tensor) -> Tensor:
    """The mean of every window of maps (..., C, H, W)."""
    if not _pays(x):
        return functional.avg_pool2d(x.flatten(0, -4), 2).unflatten(0, x.shape[:-3])
    height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
    upper, lower = x[..., 0:height:2, :width], x[..., 1:height:2, :width]
    out = upper[..., ::2] + upper[..., 1::2]  # in the order in which torch's kernel adds
    return out.add_(lower[..., ::2]).add_(lower[..., 1::2]).mul_(0.25)


def _spread(slope: Tensor, x: Tensor) -> Tensor:
    """A quarter of each value to every place of its window in `x`."""
    if torch.is_grad_enabled() or transformed() or not _pays(x):
        out: Tensor = torch.ops.aten.avg_pool2d_backward(
            slope.flatten(0, -4), x.flatten(0, -4), [2, 2], [2, 2], [0, 0], False, True, None
        )
        return out.unflatten(0, x.shape[:-3])
    out = torch.empty_like(x)
    height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
    if (height, width) != x.shape[-2:]:
        out[..., height:, :], out[..., width:] = 0, 0
    windows = out[..., :height, :width]
    corners = windows[..., ::2, ::2]
    torch.mul(slope, 0.25, out=corners)
    windows[..., ::2, 1::2].copy_(corners)
    windows[..., 1::2, :].copy_(windows[..., ::2, :])
    return out


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _mean(x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return _spread(slope, *ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, change: Tensor) -> Tensor:
        return _mean(change)


class _StackedMean(torch.autograd.Function):
    """In the form that torch's function transforms ask for, which is slower to call."""

    backward, jvp = _Mean.backward, _Mean.jvp

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _mean(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def vmap(info: Any, dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        function = _StackedMean if transformed() else _Mean
        return function.apply(x.movedim(dims[0], 0)), 0
