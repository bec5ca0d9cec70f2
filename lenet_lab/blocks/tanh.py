"""The hyperbolic tangent on a CPU by oneDNN: torch's own kernel (SLEEF) takes several times as long.

Microseconds of CPU by `torch.tanh` and by oneDNN with its two copies, one thread of an EPYC, float32, medians of 60
calls: (128, 6, 28, 28) 1264 and 245; (128, 16, 10, 10) 431 and 99; (8, 6, 28, 28) 80 and 36. Largest relative error
over 200,000 numbers of each power of ten from 1e-8 to 100: 6.0e-8 and 7.9e-8; the spacing of such numbers is 1.2e-7.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from lenet_lab.blocks.stacked import transformed

# Values of one network from which copies and calls pay for themselves, alone and inside `vmap`. Other replicas and
# threads are not looked at: they must not change anybody's last bits.
LEAST, STACKED = 65_536, 16_384


class Tanh(nn.Tanh):
    """`torch.nn.Tanh()`: any shape, the same values but for their last bit."""

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


def tanh(x: Tensor) -> Tensor:
    """`torch.tanh(x)`, any shape, the same values but for their last bit."""
    if torch.compiler.is_compiling() or not _takes(x):  # compiling: what follows would fix the size of the batch
        return torch.tanh(x)
    stacked, learning = transformed(), torch.is_grad_enabled()
    if learning and x.numel() < (
        STACKED if stacked else LEAST
    ):  # else the parts in which images are evaluated would count
        return torch.tanh(x)
    if stacked:
        return cast(Tensor, _StackedTanh.apply(x))
    return cast(Tensor, _Tanh.apply(x)) if x.requires_grad and learning else _tanh(x)


def _takes(x: Tensor) -> bool:
    """Whether oneDNN takes such values."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _tanh(x: Tensor) -> Tensor:
    if not _takes(x) or x.numel() == 0 or (line := _line(x)) is None:
        return torch.tanh(x)
    return torch.tanh(line.to_mkldnn()).to_dense().as_strided(x.shape, x.stride())


def _line(x: Tensor) -> Tensor | None:
    """The values in the order in which they lie in memory, (numel,), where nothing lies between them."""
    if x.is_contiguous():
        return x.view(-1)
    line = x.permute(sorted(range(x.dim()), key=x.stride, reverse=True))
    return line.view(-1) if line.is_contiguous() else None


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = _tanh(x)
        ctx.save_for_backward(out)
        ctx.save_for_forward(out)
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        back: Tensor = torch.ops.aten.tanh_backward(slope, out)
        return back

    @staticmethod
    def jvp(ctx: Any, change: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        back: Tensor = change * (1 - out * out)
        return back


class _StackedTanh(torch.autograd.Function):
    """In the form that torch's function transforms ask for, which is slower to call."""

    backward, jvp = _Tanh.backward, _Tanh.jvp

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _tanh(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def vmap(info: Any, dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        function = _StackedTanh if transformed() else _Tanh
        return function.apply(x), dims[0]
