"""How weights move: optimizers, penalties, schedules and their numbers."""

from __future__ import annotations

from lenet_lab.optim.averaging import Averaging, NoAveraging, blend_
from lenet_lab.optim.penalty import WeightDecay, add_l1_
from lenet_lab.optim.schedules import Constant, Schedule
from lenet_lab.optim.settings import BatchSize, EarlyStopping, LearningRate
from lenet_lab.optim.table import Adam, OptimizerSpec

__all__ = [
    "BASES",
    "DEFAULTS",
    "Averaging",
    "BatchSize",
    "EarlyStopping",
    "LearningRate",
    "OptimizerSpec",
    "Schedule",
    "WeightDecay",
    "add_l1_",
    "blend_",
]

# Config group: the dataclass of a node that names no `_target_`.
DEFAULTS: dict[str, type] = {
    "optimizer": Adam,
    "lr": LearningRate,
    "batch_size": BatchSize,
    "weight_decay": WeightDecay,
    "schedule": Constant,
    "averaging": NoAveraging,
    "early_stopping": EarlyStopping,
}

# Config group: the class that a `_target_` must descend from.
BASES: dict[str, type] = {
    "optimizer": OptimizerSpec,
    "lr": LearningRate,
    "batch_size": BatchSize,
    "weight_decay": WeightDecay,
    "schedule": Schedule,
    "averaging": Averaging,
    "early_stopping": EarlyStopping,
}
