"""Stochastic diagonal Levenberg-Marquardt: a rate for every weight, from the loss's curvature along it.

LeCun et al. 1998, eqs. (18) and (21): w_k <- w_k - eta / (mu + h_kk) dE/dw_k, h_kk estimated anew before every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, overload

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from lenet_lab.optim import curvature
from lenet_lab.optim.table import OptimizerSpec
from lenet_lab.records import LabError

EXACT_WORK = 3_000_000  # weights times patterns: some minutes on one core


class DiagonalLevenbergMarquardt(torch.optim.Optimizer):
    """The update above. `curvatures` sets h; until then it is 0, and the rule is gradient descent at lr / mu.

    Weight decay is coupled: decay * w joins the gradient, and decay, its second derivative, joins h. The state of a
    parameter is `gain`, 1 / (mu + h + decay).
    """

    def __init__(self, params: Iterable[Tensor], lr: float, mu: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "mu": mu, "weight_decay": weight_decay})
        self.curvatures([torch.zeros_like(p) for group in self.param_groups for p in group["params"]])

    @torch.no_grad()
    def curvatures(self, diagonal: Sequence[Tensor]) -> None:
        """Set h, 0 or more, one tensor a parameter in the order of the groups."""
        values = iter(diagonal)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["gain"] = 1 / (next(values) + (group["mu"] + group["weight_decay"]))

    def rates(self) -> Tensor:
        """eps_k, eq. (21), of every weight at the rates in force: (weights,)."""
        return torch.cat([(g["lr"] * self.state[p]["gain"]).flatten() for g in self.param_groups for p in g["params"]])

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of all weights that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params if p.grad is not None]
            if group["weight_decay"]:
                grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
            gains = [self.state[p]["gain"] for p in params]
            torch._foreach_addcmul_(params, grads, gains, value=-group["lr"])
        return loss


@dataclass(frozen=True)
class Sdlm(OptimizerSpec):
    """Stochastic diagonal Levenberg-Marquardt.

    Fields: `mu` bounds the rate where the loss is flat; `curvature` says how h is found (see `optim.curvature`) and
    `patterns` on how many training images, chosen anew before each pass; `probes` is for `hutchinson`. Where h is
    `negative`, which the Gauss-Newton diagonal of fixed codes never is, `abs` takes |h| and `floor` takes 0.
    """

    scalable = True
    prepares = True

    mu: Annotated[float, Gt(0)] = 0.02
    curvature: Literal["gauss_newton", "exact", "hutchinson"] = "gauss_newton"
    patterns: Annotated[int, Ge(1)] = 500
    probes: Annotated[int, Ge(1)] = 10
    negative: Literal["abs", "floor"] = "abs"

    def build(
        self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0, fused: bool = False
    ) -> DiagonalLevenbergMarquardt:
        return DiagonalLevenbergMarquardt(params, lr, self.mu, weight_decay)

    def check(self, net: nn.Module) -> None:
        weights = sum(p.numel() for p in net.parameters())
        if self.curvature == "exact" and weights * self.patterns > EXACT_WORK:
            raise LabError(
                f"optimizer.patterns={self.patterns}: too many for the exact curvature of {weights:,} weights; "
                f"allowed: 1 to {max(1, EXACT_WORK // weights)}, or optimizer.curvature=gauss_newton, hutchinson"
            )
        strange = {
            type(layer).__name__: name for name, layer in curvature.chain(net) if type(layer) not in curvature.RULES
        }
        if self.curvature == "gauss_newton" and strange:
            shown = ", ".join(f"{kind} ({name or 'the net'})" for kind, name in strange.items())
            raise LabError(
                f"optimizer.curvature=gauss_newton: has no rule for {shown}; allowed: optimizer.curvature=hutchinson, "
                "another optimizer, or a net without it"
            )

    def before_epoch(
        self,
        optimizer: torch.optim.Optimizer,
        net: nn.Module,
        objective: Any,
        images: Tensor,
        labels: Tensor,
        seed: int,
    ) -> Mapping[str, float]:
        assert isinstance(optimizer, DiagonalLevenbergMarquardt)
        draws = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(labels), generator=draws)[: self.patterns].to(labels.device)
        some, truth = images[chosen].to(next(net.parameters()).dtype), labels[chosen]
        figures = {}
        if self.curvature == "hutchinson":
            found, error = curvature.hutchinson(net, objective, some, truth, self.probes, draws)
            figures["sdlm/noise"] = _rms(error) / max(_rms(found), 1e-30)
        else:
            found = getattr(curvature, self.curvature)(net, objective, some, truth)
        figures["sdlm/negative"] = _share_below_0(found)
        diagonal = [h.abs() if self.negative == "abs" else h.clamp(min=0) for h in found.values()]
        optimizer.curvatures(diagonal)
        rates = optimizer.rates()
        figures |= {"sdlm/rate_min": float(rates.min()), "sdlm/rate_max": float(rates.max())}
        return figures | {"sdlm/rate_median": float(rates.median())}


def _rms(values: Mapping[str, Tensor]) -> float:
    return float(torch.cat([v.flatten() for v in values.values()]).double().square().mean().sqrt())


def _share_below_0(values: Mapping[str, Tensor]) -> float:
    return float((torch.cat([v.flatten() for v in values.values()]) < 0).double().mean())
