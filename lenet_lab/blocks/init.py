"""Initial weights, drawn from the seed's `init` stream: one generator a parameter, named after it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from lenet_lab.blocks import streams
from lenet_lab.blocks.rows import row
from lenet_lab.records import LabError

Scheme = Callable[[Tensor, float, torch.Generator], None]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


class Initialization(ABC):
    """A rule for the weights of convolutions and fully connected layers."""

    @abstractmethod
    def fill_weight(self, weight: Tensor, generator: torch.Generator) -> None:
        """Fill a weight of shape (out, in, ...) in place."""

    @abstractmethod
    def fill_bias(self, bias: Tensor, weight: Tensor, generator: torch.Generator) -> None:
        """Fill the bias that belongs to `weight` in place."""

    @torch.no_grad()
    def apply(self, net: nn.Module, seed: int) -> None:
        """Draw every parameter of `net` again. Norms keep their gain of 1 and bias of 0.

        A parameter's draw depends on the seed, its name and its shape, not on the other layers.
        Raises TypeError at a layer without a rule, which would keep a draw of the global generator.
        """
        for prefix, module in net.named_modules():
            names = [name for name, _ in module.named_parameters(recurse=False)]
            if not names or isinstance(module, _NORMS):
                continue
            if not isinstance(module, nn.Conv2d | nn.Linear):
                raise TypeError(f"no rule to initialise {prefix} ({type(module).__name__})")
            for name in names:
                generator = streams.generator(seed, "init", f"{prefix}.{name}" if prefix else name)
                if name == "weight":
                    self.fill_weight(module.weight, generator)
                else:
                    self.fill_bias(module.get_parameter(name), module.weight, generator)


def _framework(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)


def _xavier(weight: Tensor) -> float:
    return sum(nn.init._calculate_fan_in_and_fan_out(weight)) / 2


def _fan_in(weight: Tensor) -> float:
    return nn.init._calculate_fan_in_and_fan_out(weight)[0]


def _uniform(fan: Callable[[Tensor], float]) -> Scheme:
    """U(-b, b) with b = gain sqrt(3 / fan), which has the variance gain^2 / fan."""

    def fill(weight: Tensor, gain: float, generator: torch.Generator) -> None:
        bound = gain * math.sqrt(3 / fan(weight))
        nn.init.uniform_(weight, -bound, bound, generator=generator)

    return fill


def _normal(fan: Callable[[Tensor], float]) -> Scheme:
    """N(0, gain^2 / fan), not truncated."""

    def fill(weight: Tensor, gain: float, generator: torch.Generator) -> None:
        nn.init.normal_(weight, 0.0, gain / math.sqrt(fan(weight)), generator=generator)

    return fill


def _orthogonal(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    nn.init.orthogonal_(weight, gain, generator=generator)


# The scheme and its standard gain; None where the gain is a part of the rule.
#   default: torch's reset_parameters, U(+-1/sqrt(fan_in)) written as kaiming_uniform(a=sqrt 5)
#   xavier:  Glorot and Bengio 2010, fan = (fan_in + fan_out) / 2
#   he:      He et al. 2015, fan = fan_in, gain sqrt 2 for rectifiers
#   lecun:   LeCun, Bottou, Orr, Mueller 1998 (Efficient BackProp), variance 1 / fan_in
#   orthogonal: Saxe, McClelland, Ganguli 2014, on the weight as a matrix (out, rest)
SCHEMES: dict[str, tuple[Scheme, float | None]] = {
    "default": (_framework, None),
    "xavier_uniform": (_uniform(_xavier), 1.0),
    "xavier_normal": (_normal(_xavier), 1.0),
    "he_uniform": (_uniform(_fan_in), math.sqrt(2)),
    "he_normal": (_normal(_fan_in), math.sqrt(2)),
    "lecun_uniform": (_uniform(_fan_in), 1.0),
    "lecun_normal": (_normal(_fan_in), 1.0),
    "orthogonal": (_orthogonal, 1.0),
}


@dataclass(frozen=True)
class Init(Initialization):
    """A row of `SCHEMES`.

    `bias`: every bias starts there. None is torch's rule U(+-1/sqrt(fan_in)) with the default scheme and 0
    with the others. `gain`: None is the scheme's own.
    """

    name: str
    bias: float | None = None
    gain: Annotated[float, Gt(0)] | None = None

    def __post_init__(self) -> None:
        _, standard = row(SCHEMES, "init.name", self.name)
        if standard is None and self.gain is not None:
            raise LabError(f"init.gain={self.gain:g}: init={self.name} has no gain; allowed: null")

    def fill_weight(self, weight: Tensor, generator: torch.Generator) -> None:
        fill, standard = SCHEMES[self.name]
        fill(weight, self.gain or standard or 1.0, generator)

    def fill_bias(self, bias: Tensor, weight: Tensor, generator: torch.Generator) -> None:
        if self.bias is None and self.name == "default":
            bound = 1 / math.sqrt(_fan_in(weight))
            nn.init.uniform_(bias, -bound, bound, generator=generator)
        else:
            nn.init.constant_(bias, self.bias or 0.0)
