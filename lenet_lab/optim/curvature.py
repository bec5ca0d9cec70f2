"""The diagonal of the loss's second derivatives by the weights, averaged over patterns.

Three ways (equation numbers are those of LeCun et al. 1998). `gauss_newton` carries a diagonal back through the layers:
eq. (23) drops cross terms between connections that share a weight, (25) takes d2E/da^2 x^2 for each of them, (27) drops
the squash's own second derivative, (24) averages. `exact` is the diagonal of the Hessian, eq. (22). `hutchinson` is an
unbiased estimate of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from lenet_lab.blocks.activation import ScaledTanh
from lenet_lab.blocks.average import AvgPool2x2
from lenet_lab.blocks.dropout import Dropout
from lenet_lab.blocks.head import CodeDistances, Gaussians
from lenet_lab.blocks.maximum import MaxPool2x2
from lenet_lab.blocks.pool import Sum2x2
from lenet_lab.blocks.tanh import Tanh
from lenet_lab.models.partial import PartialConv2d

PATTERNS_AT_ONCE = 500  # bounds the memory for activations
Own = dict[str, Tensor]
Rule = Callable[[Any, Tensor, Tensor, Tensor], tuple[Tensor, Own]]


def chain(net: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers of nested `Sequential`s in order, with their names; anything else is one layer."""
    if not isinstance(net, nn.Sequential):
        yield prefix, net
        return
    for name, layer in net.named_children():
        yield from chain(layer, f"{prefix}.{name}" if prefix else name)


def gauss_newton(net: nn.Module, objective: Any, images: Tensor, labels: Tensor) -> Own:
    """The paper's diagonal by parameter, eqs. (23) to (27), for a chain of the layers in `RULES`.

    Raises:
        KeyError: a layer without a rule.
    """
    totals: Own = {}
    with torch.no_grad(), evaluating(net):
        for x, truth in zip(images.split(PATTERNS_AT_ONCE), labels.split(PATTERNS_AT_ONCE), strict=True):
            seen = []
            for name, layer in chain(net):
                seen.append((name, layer, x))
                x = layer(x)
            slope, bend = output_derivatives(objective, x, truth)
            for name, layer, x in reversed(seen):
                bend, own = RULES[type(layer)](layer, x, bend, slope)
                for key, value in own.items():
                    key = f"{name}.{key}" if name else key
                    totals[key] = totals[key] + value if key in totals else value
    return {name: totals[name] / len(images) for name, _ in net.named_parameters()}


def output_derivatives(objective: Any, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivative of each example's loss by each output: two of (n, classes)."""
    with torch.enable_grad():
        y = outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(objective.loss(y, labels).sum(), y, create_graph=True)
        bend = torch.zeros_like(outputs)
        if slope.requires_grad:
            for i in range(outputs.shape[1]):
                (row,) = torch.autograd.grad(slope[:, i].sum(), y, retain_graph=True)
                bend[:, i] = row[:, i]
    return slope.detach(), bend


def exact(net: nn.Module, objective: Any, images: Tensor, labels: Tensor) -> Own:
    """The diagonal of the Hessian of the mean loss by parameter: one Hessian-vector product a weight."""
    params, loss = _loss(net, objective, images, labels)
    at_once = max(1, 4 * PATTERNS_AT_ONCE // len(images))
    found = {}
    with evaluating(net):
        for name, value in params.items():

            def own(changed: Tensor, name: str = name) -> Tensor:
                return loss({**params, name: changed})

            def bend(place: Tensor, value: Tensor = value, own: Any = own) -> Tensor:
                return grad(lambda w: grad(own)(w).flatten().gather(0, place).sum())(value).flatten().gather(0, place)

            places = torch.arange(value.numel(), device=value.device).unsqueeze(1)
            parts = [vmap(bend)(some).squeeze(1) for some in places.split(at_once)]
            found[name] = torch.cat(parts).view_as(value)
    return found


def hutchinson(
    net: nn.Module, objective: Any, images: Tensor, labels: Tensor, probes: int, generator: torch.Generator
) -> tuple[Own, Own]:
    """The mean of z * Hz over `probes` vectors z of random signs, and its standard error (0 for one probe).

    Unbiased for the Hessian's diagonal; the variance of one probe at weight k is the sum of H_kl^2 over l other than k
    (Hutchinson 1990; Bekas, Kokiopoulou, Saad 2007), so that the error falls with the root of `probes`.
    """
    params, loss = _loss(net, objective, images, labels)
    total, squares = ({name: torch.zeros_like(value) for name, value in params.items()} for _ in range(2))
    with evaluating(net):
        for _ in range(probes):
            z = {name: _signs(value, generator) for name, value in params.items()}

            def along(p: Own, z: Own = z) -> Tensor:
                slopes = grad(loss)(p)
                return torch.stack([(slopes[name] * z[name]).sum() for name in z]).sum()

            for name, column in grad(along)(params).items():
                sample = (z[name] * column).detach()
                total[name] += sample
                squares[name] += sample.square()
    mean = {name: value / probes for name, value in total.items()}
    spread = {name: (squares[name] / probes - mean[name].square()).clamp(min=0) for name in mean}
    return mean, {name: (value / max(1, probes - 1)).sqrt() for name, value in spread.items()}


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """The net in evaluation mode: no dropout, running statistics."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _loss(net: nn.Module, objective: Any, images: Tensor, labels: Tensor) -> tuple[Own, Callable[[Own], Tensor]]:
    params = {name: value.detach() for name, value in net.named_parameters()}

    def loss(p: Own) -> Tensor:
        return objective.loss(functional_call(net, p, (images,)), labels).mean()

    return params, loss


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.randint(0, 2, like.shape, generator=generator) * 2 - 1).to(like)


# Rules: what a layer makes of `bend`, d2E/d(output)^2 (n, ...), given its input x: the same by its input, and summed
# over patterns by its own parameters. `slope` is dE/d(net's output), for the layer that is the output.


def _linear(layer: nn.Module, x: Tensor, bend: Tensor, slope: Tensor) -> tuple[Tensor, Own]:
    """A sum of products of weights and inputs: its own backward pass with both squared, eqs. (23), (25) and (27)."""
    with torch.enable_grad():
        squared = x.square().requires_grad_()
        squares = {name: p.detach().square().requires_grad_() for name, p in layer.named_parameters()}
        out = functional_call(layer, squares, (squared,))
        back, *own = torch.autograd.grad(out, [squared, *squares.values()], bend)
    return back, dict(zip(squares, own, strict=True))


def _elementwise(layer: nn.Module, x: Tensor, bend: Tensor, slope: Tensor) -> tuple[Tensor, Own]:
    """f'(a)^2 d2E/df^2, eq. (27); of a maximum, whose slope is 0 or 1, the same goes to the winner."""
    with torch.enable_grad():
        a = x.detach().requires_grad_()
        (back,) = torch.autograd.grad(layer(a).sum(), a)
    return back.square() * bend, {}


def _maximum(layer: nn.Module, x: Tensor, bend: Tensor, slope: Tensor) -> tuple[Tensor, Own]:
    with torch.enable_grad():
        a = x.detach().requires_grad_()
        (back,) = torch.autograd.grad(layer(a), a, bend)
    return back, {}


def _average(layer: nn.AvgPool2d, x: Tensor, bend: Tensor, slope: Tensor) -> tuple[Tensor, Own]:
    """Every input has the weight 1/4, which is to be squared."""
    back, _ = _maximum(layer, x, bend, slope)
    return back / torch.Size(nn.modules.utils._pair(layer.kernel_size)).numel(), {}


def _same(layer: nn.Module, x: Tensor, bend: Tensor, slope: Tensor) -> tuple[Tensor, Own]:
    return bend, {}


def _distances(layer: CodeDistances, x: Tensor, bend: Tensor, slope: Tensor) -> tuple[Tensor, Own]:
    """y_i = sum_j (x_j - w_ij)^2 bends by itself: d2E/dx_j^2 = sum_i bend_i (2 (x_j - w_ij))^2 + 2 slope_i.

    The second term is all there is of eq. (8), so it is kept. It is 2 there, in (9) twice the rubbish class's share.
    """
    squares = 4 * (x.unsqueeze(1) - layer.weight).square()
    back = torch.einsum("nk,nkd->nd", bend, squares) + 2 * slope.sum(dim=1, keepdim=True)
    if not layer.weight.requires_grad:
        return back, {}
    return back, {"weight": torch.einsum("nk,nkd->kd", bend, squares) + 2 * slope.sum(dim=0).unsqueeze(1)}


def _gaussians(layer: Gaussians, x: Tensor, bend: Tensor, slope: Tensor) -> tuple[Tensor, Own]:
    """y_i = exp(-d_i^2 / 2) as any other unit: its first derivative squared, eq. (27)."""
    squares = (x.unsqueeze(1) - layer.weight).square()
    bend = bend * layer(x).square()
    return torch.einsum("nk,nkd->nd", bend, squares), {"weight": torch.einsum("nk,nkd->kd", bend, squares)}


RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Conv2d, nn.Linear, PartialConv2d, Sum2x2, nn.Flatten), _linear),
    **dict.fromkeys(
        (nn.Tanh, Tanh, ScaledTanh, nn.Sigmoid, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU),
        _elementwise,
    ),
    nn.AvgPool2d: _average,
    AvgPool2x2: _average,
    nn.MaxPool2d: _maximum,
    MaxPool2x2: _maximum,
    Dropout: _same,
    CodeDistances: _distances,
    Gaussians: _gaussians,
}
