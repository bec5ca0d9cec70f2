"""The output layer: from the last hidden units to one number a class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lenet_lab.blocks.codes import codes_for, nearest
from lenet_lab.blocks.init import Drawn, Generators, Initialization


class Head(ABC):
    """A layer from (n, features) to (n, classes), read by the objective's decision rule.

    `outputs` says what its numbers are: `logits` (the largest wins, any real number), `distances` (0 or more, the
    smallest wins) or `likelihoods` (0 to 1, the largest wins).
    """

    outputs: ClassVar[Literal["logits", "distances", "likelihoods"]]

    @abstractmethod
    def build(self, features: int, classes: int) -> nn.Module:
        """The layer."""


@dataclass(frozen=True)
class LinearHead(Head):
    """Logits: a fully connected layer without activation."""

    outputs = "logits"

    def build(self, features: int, classes: int) -> nn.Module:
        return nn.Linear(features, classes)


class Distances(nn.Module):
    """y_i = sum_j (x_j - w_ij)^2, the squared distance of x (n, features) to each centre w_i: (n, classes).

    LeCun et al. 1998, eq. (7). `weight`, (classes, features), is a buffer where it is fixed.
    """

    weight: Tensor

    def __init__(self, centres: Tensor, trainable: bool) -> None:
        super().__init__()
        if trainable:
            self.weight = nn.Parameter(centres)
        else:
            self.register_buffer("weight", centres)

    def forward(self, x: Tensor) -> Tensor:
        return (x.unsqueeze(1) - self.weight).square().sum(dim=2)


class CodeDistances(Distances, Drawn):
    """Distances to codes of +1 and -1; trainable centres start there."""

    def draw(self, init: Initialization, generators: Generators) -> None:
        return

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]} bits, {nearest(self.weight.detach().sign())} apart"


class Gaussians(Distances, Drawn):
    """exp(-d^2/2) of the distance d to each trainable centre; centres start as draws of N(0, 1)."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(torch.zeros(classes, features), trainable=True)

    def draw(self, init: Initialization, generators: Generators) -> None:
        nn.init.normal_(self.weight, generator=generators("weight"))

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(super().forward(x) / -2)


@dataclass(frozen=True)
class RbfHead(Head):
    """Squared distances to one code a class (LeCun et al. 1998, section II.B), fixed or trained from there.

    `codes`: a folder of images, one a class (see `blocks.codes.from_folder`); None for the digits drawn here.
    """

    outputs = "distances"

    codes: str | None = None
    trainable: bool = False

    def build(self, features: int, classes: int) -> nn.Module:
        return CodeDistances(codes_for(self.codes, classes, features), self.trainable)


@dataclass(frozen=True)
class GaussianHead(Head):
    """Gaussian units over trainable centres drawn from N(0, 1); their value is read as a likelihood, 0 to 1.

    With many features they start far below the smallest difference that mean squared error can see: e^-84 for 84.
    """

    outputs = "likelihoods"

    def build(self, features: int, classes: int) -> nn.Module:
        return Gaussians(features, classes)


# The options of the group and what each puts out, for the refusal of a pair that does not fit.
HEADS: dict[str, str] = {
    "linear": LinearHead.outputs,
    "rbf_fixed": RbfHead.outputs,
    "rbf_trainable": RbfHead.outputs,
    "rbf_gaussian": GaussianHead.outputs,
}
