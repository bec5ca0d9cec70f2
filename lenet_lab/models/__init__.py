"""Architectures: each a dataclass whose `build` assembles the parts that all of them share."""

from __future__ import annotations

from lenet_lab.models.lenet5 import LeNet5
from lenet_lab.models.parts import Model, Parts, build
from lenet_lab.models.table import LayerRow, layer_table, render_table

__all__ = [
    "BASES",
    "DEFAULTS",
    "LayerRow",
    "LeNet5",
    "Model",
    "Parts",
    "build",
    "layer_table",
    "render_table",
]

# Config group: the dataclass of a node without `_target_`, and the class a `_target_` must descend from.
DEFAULTS: dict[str, type] = {"model": LeNet5}
BASES: dict[str, type] = {"model": Model}
