"""Fully connected networks, to hold LeNet-5 against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from annotated_types import MinLen
from torch import nn

from lenet_lab.blocks.norm import NoNorm
from lenet_lab.models.lenet5 import Positive, add_classifier
from lenet_lab.models.parts import Model, Parts
from lenet_lab.records import LabError


@dataclass(frozen=True)
class MLP(Model):
    """Hidden layers of `units` on the pixels, head.

    On 28x28 images 469,160 parameters with 500 and 150 units, 41,090 with 50 and 30; 54 and 31 come closest
    below LeNet-5's 44,426 (44,415).
    """

    unused = ("pool",)

    units: Annotated[tuple[Positive, ...], MinLen(1)] = (500, 150)

    def build(self, parts: Parts) -> nn.Module:
        """A `Sequential`: flatten, fc1, fc1_act, ..., head.

        Raises:
            LabError: a norm or a dropout that belongs to convolutions.
        """
        if not isinstance(parts.norm, NoNorm) and parts.norm.fc(self.units[0]) is None:
            raise LabError(
                "norm.place=conv: a fully connected network has no convolutions; "
                "allowed: norm=none, or norm=bn,ln with norm.place=fc"
            )
        if parts.dropout.build("conv") is not None:
            raise LabError("dropout.place=conv: a fully connected network has no convolutions; allowed: fc, flatten")
        net = nn.Sequential()
        add_classifier(net, math.prod(parts.in_shape), self.units, parts)
        return net
