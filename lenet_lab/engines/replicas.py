"""R networks of one shape, one LightningModule: each its own seed, rate, penalty, order, outcome; one step for all.

The replicas' weights are one flat tensor, a block a parameter with the replicas side by side in it. `torch.func.vmap`
runs the network over the blocks; the optimizer takes a step of rate 1 on a tensor of zeros, which is then scaled by
each replica's own rate: the rules that are `scalable` are linear in the rate, so this is each replica's own step.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lenet_lab.blocks.dropout import Dropout
from lenet_lab.blocks.streams import key
from lenet_lab.data.arrays import Split
from lenet_lab.data.module import in_precision
from lenet_lab.data.packs import PackChunk, eval_batches
from lenet_lab.engines.fates import Fates
from lenet_lab.engines.single import Recipe
from lenet_lab.optim import EarlyStopping

Watch = Callable[[int, float, Mapping[str, float]], None]


class Stack:
    """The state of R networks: `weights` (R * P,), `buffers` name -> (R, ...), cut into parameters."""

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        params, buffers = stack_module_state(list(nets))
        self.base = copy.deepcopy(nets[0]).to("meta")
        self.shapes = {name: tuple(value.shape[1:]) for name, value in params.items()}
        self.weights = torch.cat([value.detach().reshape(-1) for value in params.values()])
        self.buffers = {name: value.detach().clone() for name, value in buffers.items()}
        self.dropouts = [name for name, layer in self.base.named_modules() if isinstance(layer, Dropout)]
        self.size = len(nets)

    @property
    def numels(self) -> list[int]:
        """Values of each parameter in one network."""
        return [torch.Size(shape).numel() for shape in self.shapes.values()]

    def cut(self, flat: Tensor) -> dict[str, Tensor]:
        """A flat tensor as parameters (R, ...), without a copy."""
        blocks = flat.split([self.size * numel for numel in self.numels])
        return {
            name: block.view(self.size, *shape)
            for (name, shape), block in zip(self.shapes.items(), blocks, strict=True)
        }

    def spread(self, values: Tensor) -> Tensor:
        """One value a replica, (R,), beside every weight of that replica: (R * P,)."""
        blocks = [values[:, None].expand(-1, numel).reshape(-1) for numel in self.numels]
        return torch.cat(blocks)

    def keep(self, flat: Tensor, rows: Tensor) -> Tensor:
        """The flat tensor of the replicas `rows` alone."""
        return torch.cat([block[rows].reshape(-1) for block in self.cut(flat).values()])

    def state(self, weights: Tensor, buffers: Mapping[str, Tensor], replica: int) -> dict[str, Tensor]:
        """The state dict of one network, on the CPU."""
        persistent = self.base.state_dict().keys()
        tensors = {**self.cut(weights), **buffers}
        return {name: tensors[name][replica].detach().cpu().clone() for name in persistent}

    def outputs(self, weights: Tensor, buffers: Mapping[str, Tensor], images: Tensor, shared: bool) -> Tensor:
        """Outputs (R, n, k) for images (R, n, C, H, W), or for (n, C, H, W) that all share."""

        def one(params: dict[str, Tensor], state: dict[str, Tensor], batch: Tensor) -> Tensor:
            return functional_call(self.base, {**params, **state}, (batch,))

        result: Tensor = vmap(one, in_dims=(0, 0, None if shared else 0))(self.cut(weights), dict(buffers), images)
        return result

    def dropout_keys(self, seeds: Sequence[int], first: int, steps: int) -> Tensor:
        """The keys of every dropout layer for consecutive updates: int64 (steps, layers, R, 3) on the CPU."""
        rows = [
            [
                [torch.cat([key(seed, "dropout", step, layer), torch.zeros(1, dtype=torch.int64)]) for seed in seeds]
                for layer in range(len(self.dropouts))
            ]
            for step in range(first, first + steps)
        ]
        return torch.stack([torch.stack([torch.stack(layer) for layer in step]) for step in rows])


class ReplicaNetworks(pl.LightningModule):
    """Trains the networks of a stack by their recipes, which differ in seed, rate and coupled penalty alone."""

    def __init__(
        self,
        nets: Sequence[nn.Module],
        recipes: Sequence[Recipe],
        stopping: EarlyStopping,
        fates: Fates,
        first_epoch: int = 0,
        curve: Split | None = None,
        watch: Watch | None = None,
    ) -> None:
        """`first_epoch` is how many epochs every replica has behind it; `curve` a test split shown after each."""
        super().__init__()
        self.automatic_optimization = False
        self.stack = Stack(nets)
        self.weights = nn.Parameter(self.stack.weights)
        self.moved = nn.Parameter(torch.zeros_like(self.weights))
        self.recipes, self.recipe = list(recipes), recipes[0]
        self.fates, self.first_epoch, self.curve, self.watch_ = fates, first_epoch, curve, watch
        self.seconds = 0.0
        self.update_count = 0
        self._set_rates()

    @property
    def alive(self) -> int:
        """Replicas that still train."""
        return self.stack.size

    @property
    def epoch(self) -> int:
        """Epochs that every replica has behind it."""
        return self.first_epoch + self.current_epoch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Lightning's hook: one step of rate 1 on zeros, scaled afterwards."""
        return self.recipe.optimizer.build([self.moved], 1.0, 0.0, fused=self.recipe.execution.fused)

    def setup(self, stage: str) -> None:
        """Lightning's hook: buffers follow the weights to their device and precision."""
        self._place()

    def on_fit_start(self) -> None:
        """Lightning's hook, after the weights have moved."""
        self._place()

    def _place(self) -> None:
        device, kind = self.weights.device, self.weights.dtype
        self.stack.buffers = {
            name: value.to(device, kind if value.is_floating_point() else None)
            for name, value in self.stack.buffers.items()
        }
        self._set_rates()

    def _set_rates(self) -> None:
        device, kind = self.weights.device, self.weights.dtype

        def spread(values: list[float]) -> Tensor:
            one = torch.tensor(values, device=device, dtype=kind)
            return one[0] if len(set(values)) == 1 else self.stack.spread(one)

        decays = [recipe.weight_decay for recipe in self.recipes]
        decoupled = self.recipe.optimizer.decoupled
        self.rates = spread([recipe.lr.value for recipe in self.recipes])
        self.coupled = spread([0.0 if decoupled else decay.l2 for decay in decays])
        self.decoupled = spread([decay.l2 if decoupled else 0.0 for decay in decays])
        self.l1 = spread([decay.l1 for decay in decays])
        self.penalties = (
            any(decay.l2 for decay in decays) and not decoupled,
            any(decay.l2 for decay in decays) and decoupled,
            any(decay.l1 for decay in decays),
        )

    def on_train_epoch_start(self) -> None:
        """Start the epoch's clock and sums."""
        self.sums, self.seen = self._no_sums(), 0
        self._started: float | None = time.perf_counter()

    def training_step(self, chunk: PackChunk, index: int) -> None:
        """One update of every replica for each batch of the chunk."""
        optimizer: Any = self.optimizers()
        stack, objective = self.stack, self.recipe.objective
        stack.base.train()
        steps = len(chunk.batches)
        first = self.first_epoch * self.recipe.steps_per_epoch + self.update_count
        keys = None
        if stack.dropouts:
            seeds = [recipe.seed for recipe in self.recipes]
            keys = stack.dropout_keys(seeds, first, steps).to(self.device, non_blocking=True)
        for number, (images, labels) in enumerate(chunk.batches):
            if keys is not None:
                for layer, name in enumerate(stack.dropouts):
                    stack.buffers[f"{name}.key" if name else "key"] = keys[number, layer]
            outputs = stack.outputs(self.weights, stack.buffers, images, shared=False)
            flat, truth = outputs.flatten(0, 1), labels.flatten()
            losses = objective.loss(flat, truth).view(labels.shape)
            self.weights.grad = None
            self.manual_backward(losses.sum() * (1 / labels.shape[1]))
            self._update(optimizer, self._factor(first + number))
            with torch.no_grad():
                right = (objective.predict(flat) == truth).view(labels.shape)
                self.sums += torch.stack([losses.double().sum(1), right.double().sum(1)])
        self.seen += sum(labels.shape[1] for _, labels in chunk.batches)
        self.update_count += steps
        if self.watch_ is not None:
            done = (first + steps) / self.recipe.steps_per_epoch - self.epoch
            self.watch_(self.epoch, min(done, 1.0), self.fates.middle())

    def _factor(self, step: int) -> float:
        return self.recipe.schedule.factor(step, self.recipe.steps_per_epoch, self.recipe.epochs)

    @torch.no_grad()
    def _update(self, optimizer: Any, factor: float) -> None:
        grad = self.weights.grad
        assert grad is not None
        coupled, decoupled, l1 = self.penalties
        if coupled:
            grad.addcmul_(self.weights, self.coupled)
        if l1:
            grad.addcmul_(self.weights.sign(), self.l1)
        self.moved.zero_()
        self.moved.grad = grad
        optimizer.step()
        rates = self.rates * factor
        if decoupled:
            self.weights.mul_(1 - rates * self.decoupled)
        self.weights.addcmul_(self.moved, rates)

    def on_validation_epoch_start(self) -> None:
        """Training's clock stops here: Lightning validates inside the training epoch."""
        self._stop_clock()
        self.val, self.val_seen = self._no_sums(), 0
        self.stack.base.eval()

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Sums over one batch that all replicas see."""
        self.val += self._score(*batch)
        self.val_seen += len(batch[1])

    def on_train_epoch_end(self) -> None:
        """One reading of the device an epoch: figures, best weights, fates; who has ended leaves the stack."""
        self._stop_clock()
        means = (self.sums / self.seen).tolist()
        figures = [{"train/loss": loss, "train/acc": acc} for loss, acc in zip(*means, strict=True)]
        if self.fates.validates:
            for row, loss, acc in zip(figures, *(self.val / self.val_seen).tolist(), strict=True):
                row.update({"val/loss": loss, "val/acc": acc})
        if self.curve is not None:
            for row, loss, acc in zip(figures, *self._curve(self.curve), strict=True):
                row.update({"test_curve/loss": loss, "test_curve/acc": acc})
        step = self.first_epoch * self.recipe.steps_per_epoch + self.update_count - 1
        for row, recipe in zip(figures, self.recipes, strict=True):
            row.update({"lr": recipe.lr.value * self._factor(step), "time/epoch_s": self._epoch_seconds})
        kept = self.fates.epoch(self.epoch + 1, figures, self._state_of, self._optimizer_of)
        if not kept:
            self.trainer.should_stop = True
        elif len(kept) < self.alive:
            self._keep(torch.tensor(kept, device=self.device))

    def _state_of(self, replica: int) -> dict[str, Tensor]:
        return self.stack.state(self.weights, self.stack.buffers, replica)

    def _optimizer_of(self, replica: int) -> dict[str, Tensor]:
        """One replica's part of the optimizer's state: tensors (P,) in the order of the parameters, or scalars."""
        state: Mapping[str, Any] = self.optimizers(use_pl_optimizer=False).state.get(self.moved, {})  # type: ignore[union-attr]
        row = torch.tensor([replica], device=self.device)
        return {name: self._part(value, row).cpu().clone() for name, value in state.items()}

    def restore_optimizer(self, several: Sequence[Mapping[str, Tensor]]) -> None:
        """Put the state of each replica's optimizer back, as `_optimizer_of` gave it."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        if several and several[0]:
            optimizer.state[self.moved] = {name: self._join([one[name] for one in several]) for name in several[0]}

    def _part(self, value: Tensor, rows: Tensor) -> Tensor:
        return self.stack.keep(value, rows) if value.shape == self.weights.shape else value

    def _join(self, values: Sequence[Tensor]) -> Tensor:
        if values[0].numel() != sum(self.stack.numels):
            return values[0].clone()
        cuts = [value.split(self.stack.numels) for value in values]
        blocks = [torch.stack(blocks).reshape(-1) for blocks in zip(*cuts, strict=True)]
        return torch.cat(blocks).to(self.weights)

    @torch.no_grad()
    def _keep(self, rows: Tensor) -> None:
        """Go on with these replicas alone."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        state = optimizer.state.get(self.moved, {})
        for name, value in list(state.items()):
            if isinstance(value, Tensor):
                state[name] = self._part(value, rows)
        weights = self.stack.keep(self.weights.data, rows)
        self.stack.buffers = {name: value[rows] for name, value in self.stack.buffers.items()}
        self.weights.grad = self.moved.grad = None
        self.weights.data, self.moved.data = weights, torch.zeros_like(weights)
        self.stack.size = len(rows)
        self.recipes = [self.recipes[row] for row in rows.tolist()]
        self.trainer.datamodule.keep([recipe.seed for recipe in self.recipes])  # type: ignore[attr-defined]
        self._set_rates()

    @torch.no_grad()
    def _score(self, images: Tensor, labels: Tensor) -> Tensor:
        outputs = self.stack.outputs(self.weights, self.stack.buffers, images, shared=True)
        objective, flat = self.recipe.objective, outputs.flatten(0, 1)
        truth = labels.repeat(self.alive)
        losses = objective.loss(flat, truth).view(self.alive, -1).double().sum(1)
        right = (objective.predict(flat) == truth).view(self.alive, -1).double().sum(1)
        return torch.stack([losses, right])

    def _curve(self, split: Split) -> list[list[float]]:
        self.stack.base.eval()
        total = self._no_sums()
        for images, labels in eval_batches(in_precision(split.to(self.device), self.trainer.precision), self.alive):
            total += self._score(images, labels)
        means: list[list[float]] = (total / len(split)).tolist()
        return means

    def _no_sums(self) -> Tensor:
        return torch.zeros(2, self.alive, dtype=torch.float64, device=self.device)

    def _stop_clock(self) -> None:
        if self._started is not None:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self._epoch_seconds = time.perf_counter() - self._started
            self._started = None

    _epoch_seconds = 0.0
