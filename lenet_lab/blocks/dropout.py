"""Dropout whose mask is a function of (seed, layer, step, row), not of a global generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from lenet_lab.blocks.streams import halves, uniform


class Dropout(nn.Module):
    """Sets each element to 0 with probability `rate` in training and scales the rest by 1 / (1 - rate).

    The buffer `key`, int64 of shape (3,), holds the two halves of a `streams.key` and the number of the first
    row (not 0 where a process holds a slice of a larger batch). Element k of row r is kept where
    `uniform(key[:2], ...)` at index (first row + r) * (elements a row) + k is at least `rate`. The buffer is
    not in the state dict; `set_dropout_keys` sets it before a step, or `functional_call` passes another one.
    """

    key: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("key", torch.zeros(3, dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        offset = self.key[2] * math.prod(x.shape[1:])
        keep = uniform(self.key[:2], x.shape, offset) >= self.rate
        return x * keep * (1 / (1 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


@dataclass(frozen=True)
class DropoutRate:
    """How much is dropped and where.

    `fc`: after the activation of every hidden fully connected layer; `flatten`: once, before the first of
    them; `conv`: after every convolution stage, element by element.
    """

    value: Annotated[float, Ge(0), Lt(1)]
    place: Literal["fc", "flatten", "conv"] = "fc"

    def build(self, place: Literal["fc", "flatten", "conv"]) -> nn.Module | None:
        """The layer at `place`, None where nothing is dropped."""
        return Dropout(self.value) if self.value > 0 and place == self.place else None


def dropout_keys(net: nn.Module, seed: int, step: int, offset_rows: int = 0) -> dict[str, Tensor]:
    """The key of every `Dropout` of a net by its buffer's name: int64 of shape (3,) on the CPU.

    Args:
        step: the number of the update, from the start of the run.
        offset_rows: the row of the whole batch at which this process's slice of it starts.
    """
    return {name: several[0, 0] for name, several in stacked_keys(net, [seed], step, [offset_rows]).items()}


def stacked_keys(net: nn.Module, seeds: Sequence[int], first: int, offset_rows: Sequence[int]) -> dict[str, Tensor]:
    """The keys of consecutive updates of several runs, as `dropout_keys`: int64 of shape (updates, runs, 3) each.

    One tensor a layer, so that a device gets them in one copy.

    Args:
        first: the number of the first update.
        offset_rows: of each update.
    """
    names = [name for name, module in net.named_modules() if isinstance(module, Dropout)]
    return {
        f"{name}.key" if name else "key": torch.tensor(
            [
                [(*halves(seed, "dropout", step, index), offset) for seed in seeds]
                for step, offset in enumerate(offset_rows, first)
            ],
            dtype=torch.int64,
        )
        for index, name in enumerate(names)
    }


def set_dropout_keys(net: nn.Module, seed: int, step: int, offset_rows: int = 0) -> None:
    """Set the keys of every `Dropout` of a net in place, for one step; see `dropout_keys`."""
    for name, value in dropout_keys(net, seed, step, offset_rows).items():
        net.get_buffer(name).copy_(value)
