"""What a pack hands over after an epoch, replica by replica: networks and the states of their optimizers.

Both leave the device at once, and only when one of them is asked for: most epochs nobody keeps a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor

from lenet_lab.engines.stack import Stack

Handed = Callable[[int], dict[str, Tensor]]


def networks(stack: Stack, weights: Tensor) -> Handed:
    """The state dict of a replica by its row, on the CPU; of the flat `weights` (R * P,) and the stack's buffers."""

    @cache
    def moved() -> tuple[Tensor, dict[str, Tensor]]:
        return weights.detach().cpu(), {name: value.cpu() for name, value in stack.buffers.items()}

    return lambda row: stack.state(*moved(), row)


def parts(stack: Stack, state: Mapping[str, Tensor]) -> Handed:
    """A replica's part of its optimizer's state by row, on the CPU: tensors (P,) as the parameters lie, or scalars."""

    @cache
    def moved() -> dict[str, Tensor]:
        return {name: value.cpu() for name, value in state.items()}

    return lambda row: {name: part(stack, value, torch.tensor([row])).clone() for name, value in moved().items()}


def part(stack: Stack, value: Tensor, rows: Tensor) -> Tensor:
    """What of one tensor of an optimizer's state is of the replicas `rows`; a count of steps is of all."""
    return stack.keep(value, rows) if value.numel() == stack.size * sum(stack.numels) else value


def joined(
    stack: Stack, several: Sequence[Mapping[str, Tensor]], like: Tensor, counts: torch.device
) -> dict[str, Tensor]:
    """The optimizer's state of the whole stack from each replica's, as `parts` gave them.

    Values of weights get the device and precision of `like`, counts of steps the device `counts`.
    """
    return {name: _join(stack, [one[name] for one in several], like, counts) for name in several[0]}


def _join(stack: Stack, values: Sequence[Tensor], like: Tensor, counts: torch.device) -> Tensor:
    if values[0].numel() != sum(stack.numels):
        return values[0].to(counts, copy=True)
    cuts = [value.split(stack.numels) for value in values]
    return torch.cat([torch.stack(blocks).reshape(-1) for blocks in zip(*cuts, strict=True)]).to(like)
