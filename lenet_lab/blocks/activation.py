"""Activation functions, one for all hidden layers of a net."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from lenet_lab.blocks.rows import row
from lenet_lab.blocks.tanh import Tanh, tanh


class Nonlinearity(ABC):
    """A function applied to each element by itself."""

    @abstractmethod
    def build(self) -> nn.Module:
        """A new layer; the shape stays."""


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x/3), which maps 1 to 1 and -1 to -1 (LeCun et al. 1998, appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * tanh(x * (2 / 3))


# Parameters are the framework's: leaky ReLU's slope is 0.01, ELU's alpha 1, GELU is the exact one.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": Tanh,
    "scaled_tanh": ScaledTanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


@dataclass(frozen=True)
class Activation(Nonlinearity):
    """A row of `ACTIVATIONS`."""

    name: str

    def __post_init__(self) -> None:
        row(ACTIVATIONS, "activation.name", self.name)

    def build(self) -> nn.Module:
        return ACTIVATIONS[self.name]()
