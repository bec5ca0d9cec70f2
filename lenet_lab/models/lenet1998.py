"""LeNet-5 as LeCun, Bottou, Bengio and Haffner built it in 1998 (Proc. IEEE 86(11), doi 10.1109/5.726791)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from lenet_lab.models.partial import PartialConv2d
from lenet_lab.models.parts import Model, Parts
from lenet_lab.records import LabError

# Table I of the paper: the maps of S2 that each map of C3 sees.
_TABLE_1 = "012 123 234 345 045 015 0123 1234 2345 0345 0145 0125 0134 1245 0235 012345"
TABLE_1 = tuple(tuple(map(int, maps)) for maps in _TABLE_1.split())


@dataclass(frozen=True)
class LeNet1998(Model):
    """C1 S2 C3 S4 C5 F6 and the output: 60,000 parameters and 340,908 connections with the paper's parts.

    A squash stands after every layer up to F6, so before and after each pool. `c3=full` lets every map of C3 see all
    six of S2. A norm sits before the squash of C1, C3 (`norm.place=conv`), C5 and F6 (`fc`); dropout after S2 and S4
    (`conv`), before C5 (`flatten`), after C5 and F6 (`fc`).
    """

    c3: Literal["table1", "full"] = "table1"

    def build(self, parts: Parts) -> nn.Module:
        """A `Sequential` of named layers: c1, c1_act, s2, s2_act, c3, ..., c5, flatten, c5_act, f6, f6_act, head."""
        channels, *size = parts.in_shape
        if size != [32, 32]:
            raise LabError(f"data.size={size[0]}: model=lenet5_1998 sees 32x32 images; allowed: 32")
        parts.norm.check((6, 16))
        third = nn.Conv2d(6, 16, 5) if self.c3 == "full" else PartialConv2d(6, TABLE_1, 5)
        layers: dict[str, nn.Module | None] = {
            "c1": nn.Conv2d(channels, 6, 5),
            "c1_norm": parts.norm.conv(6, (28, 28)),
            "c1_act": parts.activation.build(),
            "s2": parts.pool.build(6),
            "s2_act": parts.activation.build(),
            "s2_drop": parts.dropout.build("conv"),
            "c3": third,
            "c3_norm": parts.norm.conv(16, (10, 10)),
            "c3_act": parts.activation.build(),
            "s4": parts.pool.build(16),
            "s4_act": parts.activation.build(),
            "s4_drop": parts.dropout.build("conv"),
            "flatten_drop": parts.dropout.build("flatten"),
            "c5": nn.Conv2d(16, 120, 5),
            "flatten": nn.Flatten(),
            "c5_norm": parts.norm.fc(120),
            "c5_act": parts.activation.build(),
            "c5_drop": parts.dropout.build("fc"),
            "f6": nn.Linear(120, 84),
            "f6_norm": parts.norm.fc(84),
            "f6_act": parts.activation.build(),
            "f6_drop": parts.dropout.build("fc"),
            "head": parts.head.build(84, parts.classes),
        }
        net = nn.Sequential()
        for name, layer in layers.items():
            if layer is not None:
                net.add_module(name, layer)
        return net
