"""The per-layer table of a net: shapes, parameters with their formula, connections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lenet_lab.blocks.head import Distances
from lenet_lab.blocks.pool import Sum2x2
from lenet_lab.models.partial import PartialConv2d


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    `parameters` is what `formula` comes to. `connections` are counted as in LeCun et al. 1998: for a layer
    with weights one for every use of a weight or a bias, for a pool one for every input of every output, none
    for what works on each element by itself. `macs` are multiply-accumulates: uses of weights, not of biases.
    """

    name: str
    kind: str
    output: str
    formula: str
    parameters: int
    connections: int
    macs: int


def layer_table(net: nn.Module, in_shape: Sequence[int]) -> list[LayerRow]:
    """One row a leaf layer, in the order in which an image of shape (C, H, W) meets them.

    The net is run once in evaluation mode on zeros and left as it was.
    """
    rows: list[LayerRow] = []
    leaves = {module: name for name, module in net.named_modules() if not list(module.children())}

    def note(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows.append(_row(leaves[module], module, tuple(output.shape[1:])))

    modes = [(module, module.training) for module in net.modules()]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    like = next(net.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, *in_shape, device=like.device, dtype=like.dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    return rows


def render_table(rows: Sequence[LayerRow]) -> str:
    """The rows as aligned plain text with a line of totals, without a final newline."""
    head = ("layer", "what", "output", "parameters", "connections", "macs")
    lines = [
        (r.name, r.kind, r.output, _sum(r.formula, r.parameters), f"{r.connections:,}", f"{r.macs:,}") for r in rows
    ]
    totals = [sum(column) for column in zip(*((r.parameters, r.connections, r.macs) for r in rows), strict=True)]
    total = ("total", "", "", *(f"{number:,}" for number in totals))
    widths = [max(len(line[i]) for line in [head, *lines, total]) for i in range(len(head))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(_align(line, widths) for line in [head, rule, *lines, rule, total])


def _row(name: str, module: nn.Module, shape: tuple[int, ...]) -> LayerRow:
    parameters = sum(p.numel() for p in module.parameters())
    kind, formula, connections, macs = type(module).__name__.replace("Pool2x2", "Pool2d"), "", 0, 0
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        inputs = module.in_channels // module.groups
        kind = f"{kind} {height}x{width}"
        formula = _weighted(f"{inputs}*{height}*{width}", module.bias, module.out_channels)
        connections = math.prod(shape[1:]) * parameters
        macs = math.prod(shape[1:]) * module.weight.numel()
    elif isinstance(module, nn.Linear):
        formula = _weighted(str(module.in_features), module.bias, module.out_features)
        connections, macs = parameters, module.weight.numel()
    elif isinstance(module, PartialConv2d):
        height = width = module.kernel
        kind = f"{kind} {height}x{width}"
        formula = f"{len(module.index)}*{height}*{width} + {len(module.bias)}"
        connections = math.prod(shape[1:]) * parameters
        macs = math.prod(shape[1:]) * module.weight.numel()
    elif isinstance(module, Sum2x2):
        kind, formula = f"{kind} trainable", f"2*{shape[0]}"
        connections, macs = math.prod(shape) * 5, math.prod(shape)
    elif isinstance(module, Distances):
        kind = f"{kind} {module.extra_repr()}".rstrip()
        formula = "*".join(map(str, module.weight.shape)) if parameters else ""
        connections = macs = module.weight.numel()
    elif isinstance(module, nn.AvgPool2d | nn.MaxPool2d):
        side = module.kernel_size
        window = side**2 if isinstance(side, int) else math.prod(side)
        kind = f"{kind} {side}x{side}" if isinstance(side, int) else kind
        connections = math.prod(shape) * window
    elif parameters:
        formula = " + ".join("*".join(str(n) for n in p.shape) for p in module.parameters())
    return LayerRow(name, kind, "x".join(map(str, shape)), formula, parameters, connections, macs)


def _weighted(fan_in: str, bias: Tensor | None, outputs: int) -> str:
    return f"{fan_in}*{outputs}" if bias is None else f"({fan_in} + 1)*{outputs}"


def _sum(formula: str, number: int) -> str:
    return f"{formula} = {number:,}" if formula else f"{number:,}"


def _align(line: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, the last two columns (plain numbers) to the right."""
    cells = [c.rjust(w) if i >= 4 else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
    return "  ".join(cells).rstrip()
