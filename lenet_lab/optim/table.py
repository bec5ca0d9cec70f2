"""Optimizers: torch's own, each with the parameters that a study may vary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from lenet_lab.records import LabError

Fraction = Annotated[float, Ge(0), Lt(1)]
Epsilon = Annotated[float, Gt(0)]


class OptimizerSpec(ABC):
    """An update rule with its parameters.

    `scalable`: a step is linear in the rate and knows each weight by itself alone, so that replicas trained as one
    tensor may have a rate each. `decoupled`: `weight_decay` takes rate times decay off the weights. `prepares`:
    `before_epoch` sets the optimizer's state.
    """

    scalable: ClassVar[bool] = False
    decoupled: ClassVar[bool] = False
    prepares: ClassVar[bool] = False

    @abstractmethod
    def build(
        self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0, fused: bool = False
    ) -> torch.optim.Optimizer:
        """torch's optimizer over `params`.

        `weight_decay` is coupled L2 (decay times weight joins the gradient) over all parameters, biases too;
        with AdamW alone it is the decoupled coefficient. `fused` asks for the one-kernel update where torch
        has one; results agree to rounding.
        """

    def check(self, net: nn.Module) -> None:
        """Raise `LabError` where the rule cannot handle this network; asked before any job starts."""
        return

    def before_epoch(
        self,
        optimizer: torch.optim.Optimizer,
        net: nn.Module,
        objective: Any,
        images: Tensor,
        labels: Tensor,
        seed: int,
    ) -> Mapping[str, float]:
        """Prepare `optimizer` (made by `build`) for an epoch; returns figures to log with it.

        Called before every epoch, also the first after a resumption, with the same arguments on every process.

        Args:
            net: with the weights that the epoch starts from.
            images, labels: the whole training split, not augmented: float32 (n, C, H, W), int64 (n,).
            seed: of the epoch, for a choice among the images.
        """
        return {}


@dataclass(frozen=True)
class Sgd(OptimizerSpec):
    """Stochastic gradient descent; torch's momentum, without dampening."""

    scalable = True

    momentum: Fraction = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise LabError("optimizer.nesterov=true needs momentum; allowed: optimizer.momentum above 0")

    def build(
        self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0, fused: bool = False
    ) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            params,
            lr=lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=weight_decay,
            fused=fused or None,
        )


@dataclass(frozen=True)
class Adam(OptimizerSpec):
    """Adam (Kingma and Ba 2015), or AMSGrad (Reddi, Kale, Kumar 2018)."""

    scalable = True

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Epsilon = 1e-8
    amsgrad: bool = False

    def build(
        self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0, fused: bool = False
    ) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            params,
            lr=lr,
            betas=self.betas,
            eps=self.eps,
            amsgrad=self.amsgrad,
            weight_decay=weight_decay,
            fused=fused or None,
        )


@dataclass(frozen=True)
class AdamW(OptimizerSpec):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): a step takes lr * decay off."""

    scalable = True
    decoupled = True

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Epsilon = 1e-8

    def build(
        self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0, fused: bool = False
    ) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            params, lr=lr, betas=self.betas, eps=self.eps, weight_decay=weight_decay, fused=fused or None
        )


@dataclass(frozen=True)
class RmsProp(OptimizerSpec):
    """RMSprop (Hinton 2012), not centred; torch has no fused form of it."""

    scalable = True

    alpha: Fraction = 0.99
    eps: Epsilon = 1e-8
    momentum: Fraction = 0.0

    def build(
        self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0, fused: bool = False
    ) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(
            params, lr=lr, alpha=self.alpha, eps=self.eps, momentum=self.momentum, weight_decay=weight_decay
        )
