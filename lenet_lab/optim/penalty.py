"""Penalties on the size of the weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor


@dataclass(frozen=True)
class WeightDecay:
    """`value` times the gradient of |w|^2 / 2 (`l2`) or of |w| (`l1`), for every parameter."""

    value: Annotated[float, Ge(0)]
    penalty: Literal["l2", "l1"] = "l2"

    @property
    def l2(self) -> float:
        """The `weight_decay` of the optimizer."""
        return self.value if self.penalty == "l2" else 0.0

    @property
    def l1(self) -> float:
        """The `value` of `add_l1_`."""
        return self.value if self.penalty == "l1" else 0.0


@torch.no_grad()
def add_l1_(params: Iterable[Tensor], value: float) -> None:
    """Add `value * sign(w)` to the gradient of every parameter that has one, in place; nothing at 0.

    Call it between the backward pass (gradients unscaled, averaged over ranks) and the optimizer's step.
    """
    held = [p for p in params if p.grad is not None]
    if value and held:
        grads = [p.grad for p in held if p.grad is not None]
        torch._foreach_add_(grads, torch._foreach_sign(held), alpha=value)
