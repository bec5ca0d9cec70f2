"""A convolution whose maps see only some of the maps before: no weight stands for a connection that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional

from lenet_lab.blocks.init import Drawn, Fans, Generators, Initialization


class PartialConv2d(nn.Module, Drawn):
    """A valid convolution from (n, C, H, W) to (n, len(sees), H - kernel + 1, W - kernel + 1).

    `sees[m]` lists the input maps of map m. `weight`, (pairs, kernel, kernel), has one kernel for each of these pairs,
    map after map; `bias` is (maps,).
    """

    index: Tensor

    def __init__(self, in_channels: int, sees: Sequence[Sequence[int]], kernel: int) -> None:
        super().__init__()
        self.in_channels, self.sees, self.kernel = in_channels, tuple(map(tuple, sees)), kernel
        pairs = [row * in_channels + column for row, columns in enumerate(self.sees) for column in columns]
        self.register_buffer("index", torch.tensor(pairs), persistent=False)
        self.weight = nn.Parameter(torch.zeros(len(pairs), kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(len(self.sees)))

    def dense(self) -> Tensor:
        """The weight of the full convolution that does the same: (maps, C, kernel, kernel), 0 where nothing is seen."""
        none = self.weight.new_zeros(len(self.sees) * self.in_channels, self.kernel, self.kernel)
        return none.index_copy(0, self.index, self.weight).unflatten(0, (len(self.sees), self.in_channels))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.dense(), self.bias)

    def draw(self, init: Initialization, generators: Generators) -> None:
        """Maps that see equally many are drawn together, as one convolution; each unit's own fan-in counts."""
        size, draws = self.kernel**2, {name: generators(name) for name in ("weight", "bias")}
        out = len(self.index) / self.in_channels * size
        pair = row = 0
        for inputs, group in groupby(map(len, self.sees)):
            maps = len(list(group))
            weight = self.weight.data[pair : pair + maps * inputs].unflatten(0, (maps, inputs))
            fans = Fans(inputs * size, out)
            init.fill_weight(weight, draws["weight"], fans)
            init.fill_bias(self.bias.data[row : row + maps], weight, draws["bias"], fans)
            pair, row = pair + maps * inputs, row + maps

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {len(self.sees)}, kernel_size={self.kernel}, pairs={len(self.index)}"
