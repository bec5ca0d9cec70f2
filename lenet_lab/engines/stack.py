"""R networks of one shape as tensors: the replicas side by side in each parameter, all of them in one flat tensor."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lenet_lab.blocks.dropout import stacked_keys


class Stack:
    """The state of R networks: `weights` (R * P,), `buffers` name -> (R, ...), cut into parameters."""

    def __init__(self, nets: Sequence[nn.Module], layout: torch.memory_format, in_turn: bool) -> None:
        """`in_turn`: each network by itself, in this memory format, and not all of them as one by `vmap`."""
        params, buffers = stack_module_state(list(nets))
        self.base = copy.deepcopy(nets[0]).to("meta")
        self.in_turn, self.last = in_turn, in_turn and layout == torch.channels_last
        self.shapes = {name: tuple(value.shape[1:]) for name, value in params.items()}
        self.weights = self.flat(value.detach() for value in params.values())
        self.buffers = {name: value.detach().clone() for name, value in buffers.items()}
        self.size = len(nets)

    @property
    def numels(self) -> list[int]:
        """Values of each parameter in one network."""
        return [torch.Size(shape).numel() for shape in self.shapes.values()]

    def flat(self, several: Iterable[Tensor]) -> Tensor:
        """Parameters of all replicas (R, ...), in their order, as one flat tensor."""
        return torch.cat([self._inside(value).reshape(-1) for value in several])

    def cut(self, flat: Tensor) -> dict[str, Tensor]:
        """A flat tensor as parameters (R, ...), without a copy."""
        cut = {}
        for (name, shape), block in zip(self.shapes.items(), self._blocks(flat), strict=True):
            if self.last and len(shape) == 4:
                out, channels, height, width = shape
                cut[name] = block.view(self.size, out, height, width, channels).permute(0, 1, 4, 2, 3)
            else:
                cut[name] = block.view(self.size, *shape)
        return cut

    def _inside(self, several: Tensor) -> Tensor:
        """A parameter of all replicas (R, ...) as it lies in the flat tensor."""
        return several.permute(0, 1, 3, 4, 2) if self.last and several.dim() == 5 else several

    def _blocks(self, flat: Tensor) -> list[Tensor]:
        """A flat tensor as (R, values) for each parameter."""
        return [block.view(self.size, -1) for block in flat.split([self.size * numel for numel in self.numels])]

    def spread(self, values: Tensor) -> Tensor:
        """One value a replica, (R,), beside every weight of that replica: (R * P,)."""
        blocks = [values[:, None].expand(-1, numel).reshape(-1) for numel in self.numels]
        return torch.cat(blocks)

    def keep(self, flat: Tensor, rows: Tensor) -> Tensor:
        """The flat tensor of the replicas `rows` alone."""
        return torch.cat([block[rows].reshape(-1) for block in self._blocks(flat)])

    def state(self, weights: Tensor, buffers: Mapping[str, Tensor], replica: int) -> dict[str, Tensor]:
        """The state dict of one network, on the CPU."""
        persistent = self.base.state_dict().keys()
        tensors = {**self.cut(weights), **buffers}
        return {name: tensors[name][replica].detach().cpu().contiguous().clone() for name in persistent}

    def network(self, weights: Tensor, buffers: Mapping[str, Tensor], replica: int) -> nn.Module:
        """One of the networks, by itself, on the weights' device."""
        net = copy.deepcopy(self.base).to_empty(device=weights.device).to(weights.dtype)
        tensors = {**self.cut(weights), **buffers}
        for name, value in (*net.named_parameters(), *net.named_buffers()):
            value.data.copy_(tensors[name][replica])
        return net

    def outputs(self, weights: Tensor, buffers: Mapping[str, Tensor], images: Tensor, shared: bool) -> Tensor:
        """Outputs (R, n, k) for images (R, n, C, H, W), or for (n, C, H, W) that all share."""

        def one(params: dict[str, Tensor], state: dict[str, Tensor], batch: Tensor) -> Tensor:
            return functional_call(self.base, {**params, **state}, (batch,))

        params = self.cut(weights)
        if self.in_turn:
            rows = {name: value.unbind() for name, value in {**params, **buffers}.items()}
            batches = [images] * self.size if shared else images.unbind()
            return torch.stack([one({n: row[r] for n, row in rows.items()}, {}, batches[r]) for r in range(self.size)])
        result: Tensor = vmap(one, in_dims=(0, 0, None if shared else 0))(params, dict(buffers), images)
        return result

    def dropout_keys(self, seeds: Sequence[int], first: int, steps: int) -> dict[str, Tensor]:
        """The keys of every dropout layer for consecutive updates, by buffer: int64 (steps, R, 3) on the CPU."""
        return stacked_keys(self.base, seeds, first, [0] * steps)
