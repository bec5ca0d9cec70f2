"""Averages of the weights along a run, as pure functions: how much of the newest weights enters at each update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn


class Averaging(ABC):
    """Which average of the weights is validated and tested; the weights themselves train on untouched."""

    on: ClassVar[bool] = True

    @abstractmethod
    def share(self, updates: int, steps_per_epoch: int, epochs: int) -> float:
        """The share of the newest weights in the average, 0 to 1, after so many updates (1 after the first).

        Args:
            steps_per_epoch: updates an epoch.
            epochs: the planned length of the run.
        """


@dataclass(frozen=True)
class NoAveraging(Averaging):
    """The newest weights."""

    on = False

    def share(self, updates: int, steps_per_epoch: int, epochs: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Exponential(Averaging):
    """An exponential moving average over updates: average = decay * average + (1 - decay) * weights.

    The decay of update t is at most t / (t + 9), so that the first weights are soon forgotten. Sources: Polyak and
    Juditsky, SIAM J. Control Optim. 30 (1992); the warm-up is that of TensorFlow's ExponentialMovingAverage.
    """

    decay: Annotated[float, Gt(0), Lt(1)] = 0.998

    def share(self, updates: int, steps_per_epoch: int, epochs: int) -> float:
        return 1.0 - min(self.decay, updates / (updates + 9))


@dataclass(frozen=True)
class Stochastic(Averaging):
    """The mean of the weights at the ends of the last epochs; before them the newest weights.

    Batch norm's running statistics are averaged with them. Source: Izmailov et al., "Averaging weights leads to wider
    optima and better generalization", UAI 2018.
    """

    start: Annotated[float, Ge(0), Lt(1)] = 0.75

    def share(self, updates: int, steps_per_epoch: int, epochs: int) -> float:
        epoch, rest = divmod(updates, steps_per_epoch)
        if rest:
            return 0.0
        return 1.0 / max(1, epoch - int(self.start * epochs))


NONE = NoAveraging()


@torch.no_grad()
def blend_(average: nn.Module, net: nn.Module, share: float) -> None:
    """average = (1 - share) * average + share * net, in place: weights and buffers; counts are copied."""
    if not share:
        return
    floats: tuple[list[Tensor], list[Tensor]] = ([], [])
    for old, new in zip(_tensors(average), _tensors(net), strict=True):
        if not old.is_floating_point() or share == 1.0:
            old.copy_(new)
        else:
            floats[0].append(old)
            floats[1].append(new)
    if floats[0]:
        torch._foreach_lerp_(floats[0], floats[1], share)


def _tensors(net: nn.Module) -> Iterator[Tensor]:
    yield from net.parameters()
    yield from net.buffers()
