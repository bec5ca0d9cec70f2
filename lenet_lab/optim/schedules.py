"""Learning-rate schedules as pure functions: a factor on the base rate for each update."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from lenet_lab.records import LabError

Share = Annotated[float, Ge(0), Le(1)]
Gamma = Annotated[float, Gt(0), Le(1)]
Epochs = Annotated[int, Gt(0)]


class Schedule(ABC):
    """How the learning rate moves over a run."""

    @abstractmethod
    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """What the base rate is multiplied by at update `step`.

        Args:
            step: 0 for the first update of the run.
            steps_per_epoch: updates an epoch.
            epochs: the planned length of the run; early stopping does not bend the schedule.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """The base rate throughout."""

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Step(Schedule):
    """Times `gamma` after every `step_size` epochs (torch's StepLR)."""

    step_size: Epochs
    gamma: Gamma = 0.1

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        return self.gamma ** (step // steps_per_epoch // self.step_size)


@dataclass(frozen=True)
class MultiStep(Schedule):
    """Times `gamma` after each number of epochs in `milestones` (torch's MultiStepLR)."""

    milestones: tuple[Epochs, ...]
    gamma: Gamma = 0.1

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(set(self.milestones)):
            shown = list(self.milestones)
            raise LabError(f"schedule.milestones={shown}: out of order; allowed: increasing numbers of epochs")

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        return self.gamma ** sum(step // steps_per_epoch >= m for m in self.milestones)


@dataclass(frozen=True)
class Stairs(Schedule):
    """`factors[i]` after `milestones[i - 1]` epochs; the first from the start."""

    milestones: tuple[Epochs, ...]
    factors: tuple[Annotated[float, Gt(0)], ...]

    def __post_init__(self) -> None:
        MultiStep(self.milestones)
        if len(self.factors) != len(self.milestones) + 1:
            shown = list(self.factors)
            raise LabError(f"schedule.factors={shown}: must be one more than the milestones; allowed: one a stair")

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        return self.factors[sum(step // steps_per_epoch >= m for m in self.milestones)]


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine over all updates, from 1 to `final` (torch's CosineAnnealingLR stepped each update)."""

    final: Share = 0.0

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        return _cosine(1.0, self.final, step / (steps_per_epoch * epochs))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up and down again over all updates, by cosines (Smith and Topin 2018; torch's OneCycleLR).

    The base rate is the peak, reached after the share `pct_start`; it starts at the peak over `div_factor`
    and ends at the start over `final_div_factor`. Momentum stays as it is (torch: `cycle_momentum=False`).
    """

    pct_start: Annotated[float, Gt(0), Lt(1)] = 0.3
    div_factor: Annotated[float, Ge(1)] = 25.0
    final_div_factor: Annotated[float, Ge(1)] = 1e4

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        first, last = 1 / self.div_factor, 1 / self.div_factor / self.final_div_factor
        end = steps_per_epoch * epochs - 1
        peak = self.pct_start * (end + 1) - 1
        if 0 < peak >= step:
            return _cosine(first, 1.0, step / peak)
        return _cosine(1.0, last, (step - peak) / (end - peak))


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A straight line up over the first `epochs` (parts of one allowed), then constant or half a cosine.

    Update k of the n warm-up updates has the factor (k + 1) / n; the cosine runs over the rest, to `final`.
    """

    epochs: Annotated[float, Gt(0)] = 1.0
    then: Literal["constant", "cosine"] = "constant"
    final: Share = 0.0

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        warm = max(1, round(self.epochs * steps_per_epoch))
        if step < warm:
            return (step + 1) / warm
        if self.then == "constant":
            return 1.0
        return _cosine(1.0, self.final, (step - warm) / (steps_per_epoch * epochs - warm))


def _cosine(start: float, end: float, part: float) -> float:
    """From `start` at 0 to `end` at 1; stays there after."""
    return end + (start - end) * (1 + math.cos(math.pi * min(part, 1.0))) / 2
