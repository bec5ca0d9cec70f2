"""Initial weights, drawn from the seed's `init` stream: one generator a parameter, named after it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple

import torch
from annotated_types import Gt
from torch import Tensor, nn

from lenet_lab.blocks import streams
from lenet_lab.blocks.rows import row
from lenet_lab.records import LabError

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


class Fans(NamedTuple):
    """How many inputs a unit has, and how many units an input reaches."""

    into: float
    out: float


Scheme = Callable[[Tensor, Fans, float, torch.Generator], None]
Generators = Callable[[str], torch.Generator]


def fans_of(weight: Tensor) -> Fans:
    """Of a layer whose weight (out, in, ...) has an entry for every pair of maps."""
    return Fans(*nn.init._calculate_fan_in_and_fan_out(weight))


class Initialization(ABC):
    """A rule for the weights of layers; `fans` None: those of a weight with an entry for every pair of maps."""

    @abstractmethod
    def fill_weight(self, weight: Tensor, generator: torch.Generator, fans: Fans | None = None) -> None:
        """Fill a weight of shape (out, in, ...) in place."""

    @abstractmethod
    def fill_bias(self, bias: Tensor, weight: Tensor, generator: torch.Generator, fans: Fans | None = None) -> None:
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
            if isinstance(module, Drawn):
                module.draw(self, partial(_generator, seed, prefix))
                continue
            if not isinstance(module, nn.Conv2d | nn.Linear):
                raise TypeError(f"no rule to initialise {prefix} ({type(module).__name__})")
            for name in names:
                generator = _generator(seed, prefix, name)
                if name == "weight":
                    self.fill_weight(module.weight, generator)
                else:
                    self.fill_bias(module.get_parameter(name), module.weight, generator)


class Drawn(ABC):
    """A layer that fills its own parameters: its weight is not (out, in, ...), or its start is not the rule's."""

    @abstractmethod
    def draw(self, init: Initialization, generators: Generators) -> None:
        """Fill every parameter in place; `generators(name)` is the generator of a parameter's own stream."""


def _generator(seed: int, prefix: str, name: str) -> torch.Generator:
    return streams.generator(seed, "init", f"{prefix}.{name}" if prefix else name)


def _framework(weight: Tensor, fans: Fans, gain: float, generator: torch.Generator) -> None:
    bound = math.sqrt(3.0) * (nn.init.calculate_gain("leaky_relu", math.sqrt(5)) / math.sqrt(fans.into))
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def _within(name: str) -> Scheme:
    """U(-b, b) with b = BOUNDS[name] of the fan-in."""

    def fill(weight: Tensor, fans: Fans, gain: float, generator: torch.Generator) -> None:
        bound = BOUNDS[name](fans.into)
        nn.init.uniform_(weight, -bound, bound, generator=generator)

    return fill


def _xavier(fans: Fans) -> float:
    return sum(fans) / 2


def _into(fans: Fans) -> float:
    return fans.into


def _uniform(fan: Callable[[Fans], float]) -> Scheme:
    """U(-b, b) with b = gain sqrt(3 / fan), which has the variance gain^2 / fan."""

    def fill(weight: Tensor, fans: Fans, gain: float, generator: torch.Generator) -> None:
        bound = gain * math.sqrt(3 / fan(fans))
        nn.init.uniform_(weight, -bound, bound, generator=generator)

    return fill


def _normal(fan: Callable[[Fans], float]) -> Scheme:
    """N(0, gain^2 / fan), not truncated."""

    def fill(weight: Tensor, fans: Fans, gain: float, generator: torch.Generator) -> None:
        nn.init.normal_(weight, 0.0, gain / math.sqrt(fan(fans)), generator=generator)

    return fill


def _orthogonal(weight: Tensor, fans: Fans, gain: float, generator: torch.Generator) -> None:
    nn.init.orthogonal_(weight, gain, generator=generator)


# The scheme and its standard gain; None where the gain is a part of the rule.
#   default: torch's reset_parameters, U(+-1/sqrt(fan_in)) in the arithmetic of kaiming_uniform(a=sqrt 5)
#   xavier:  Glorot and Bengio 2010, fan = (fan_in + fan_out) / 2
#   he:      He et al. 2015, fan = fan_in, gain sqrt 2 for rectifiers
#   lecun:   LeCun, Bottou, Orr, Mueller 1998 (Efficient BackProp), variance 1 / fan_in
#   lecun1989: LeCun et al. 1989 (Neural Computation 1(4)), U(+-2.4/sqrt(fan_in)), biases too
#   lecun1998: LeCun, Bottou, Bengio, Haffner 1998, U(+-2.4/fan_in), biases too
#   orthogonal: Saxe, McClelland, Ganguli 2014, on the weight as a matrix (out, rest)
SCHEMES: dict[str, tuple[Scheme, float | None]] = {
    "default": (_framework, None),
    "xavier_uniform": (_uniform(_xavier), 1.0),
    "xavier_normal": (_normal(_xavier), 1.0),
    "he_uniform": (_uniform(_into), math.sqrt(2)),
    "he_normal": (_normal(_into), math.sqrt(2)),
    "lecun_uniform": (_uniform(_into), 1.0),
    "lecun_normal": (_normal(_into), 1.0),
    "lecun1989": (_within("lecun1989"), None),
    "lecun1998": (_within("lecun1998"), None),
    "orthogonal": (_orthogonal, 1.0),
}
# Rules that draw biases too: U(-b, b) with b of the unit's fan-in.
BOUNDS: dict[str, Callable[[float], float]] = {
    "default": lambda fan_in: 1 / math.sqrt(fan_in),
    "lecun1989": lambda fan_in: 2.4 / math.sqrt(fan_in),
    "lecun1998": lambda fan_in: 2.4 / fan_in,
}


@dataclass(frozen=True)
class Init(Initialization):
    """A row of `SCHEMES`.

    `bias`: every bias starts there. None is the scheme's own rule (`BOUNDS`), 0 where it has none.
    `gain`: None is the scheme's own.
    """

    name: str
    bias: float | None = None
    gain: Annotated[float, Gt(0)] | None = None

    def __post_init__(self) -> None:
        _, standard = row(SCHEMES, "init.name", self.name)
        if standard is None and self.gain is not None:
            raise LabError(f"init.gain={self.gain:g}: init={self.name} has no gain; allowed: null")

    def fill_weight(self, weight: Tensor, generator: torch.Generator, fans: Fans | None = None) -> None:
        fill, standard = SCHEMES[self.name]
        fill(weight, fans or fans_of(weight), self.gain or standard or 1.0, generator)

    def fill_bias(self, bias: Tensor, weight: Tensor, generator: torch.Generator, fans: Fans | None = None) -> None:
        if self.bias is None and self.name in BOUNDS:
            bound = BOUNDS[self.name]((fans or fans_of(weight)).into)
            nn.init.uniform_(bias, -bound, bound, generator=generator)
        else:
            nn.init.constant_(bias, self.bias or 0.0)
