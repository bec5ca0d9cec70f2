"""The numbers that steer training: rate, batch, patience."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt


@dataclass(frozen=True)
class LearningRate:
    """The base learning rate, which the schedule multiplies."""

    value: Annotated[float, Gt(0)]


@dataclass(frozen=True)
class BatchSize:
    """Images an update, over all devices together."""

    value: Annotated[int, Ge(1)]


@dataclass(frozen=True)
class EarlyStopping:
    """Stop after `value` epochs in a row in which `monitor` did not improve by more than `min_delta`.

    None: never. With patience 10 the run ends after the eleventh epoch of which none beat the first.
    """

    value: Annotated[int, Ge(1)] | None
    monitor: Literal["val/loss", "val/acc"] = "val/loss"
    min_delta: Annotated[float, Ge(0)] = 0.0
