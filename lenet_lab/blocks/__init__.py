"""What networks are made of: one idea a file, its classes and their table."""

from __future__ import annotations

from lenet_lab.blocks.activation import Activation, Nonlinearity
from lenet_lab.blocks.dropout import DropoutRate
from lenet_lab.blocks.head import Head, LinearHead
from lenet_lab.blocks.init import Init, Initialization
from lenet_lab.blocks.norm import NoNorm, Normalization
from lenet_lab.blocks.pool import Pool, Pooling

# Config group: the dataclass of a node that names no `_target_`.
DEFAULTS: dict[str, type] = {
    "pool": Pool,
    "norm": NoNorm,
    "activation": Activation,
    "init": Init,
    "dropout": DropoutRate,
    "head": LinearHead,
}

# Config group: the class that a `_target_` must descend from.
BASES: dict[str, type] = {
    "pool": Pooling,
    "norm": Normalization,
    "activation": Nonlinearity,
    "init": Initialization,
    "dropout": DropoutRate,
    "head": Head,
}
