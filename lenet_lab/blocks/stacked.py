"""Layers inside `torch.func.vmap`, where a tensor tells the shape of one replica."""

from __future__ import annotations

import torch
from torch import Tensor


def transformed() -> bool:
    """Whether a function transform of torch, as `vmap`, is at work."""
    return bool(torch._C._are_functorch_transforms_active())


def values(x: Tensor) -> int:
    """How many values the tensor has that lies in memory: of all replicas, where `x` is one of theirs."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x.numel()
