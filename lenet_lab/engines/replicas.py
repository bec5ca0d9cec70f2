"""R networks of one shape, one LightningModule: each its own seed, rate, penalty, order, outcome; one step for all.

The replicas' weights are one flat tensor (`engines.stack`), which the optimizer updates at the rate of all replicas
(`Execution.one_rate`). Where their rates differ it takes a step of rate 1 on a tensor of zeros, then scaled by each
replica's own rate: the rules that are `scalable` are linear in the rate, so this is each replica's own step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lenet_lab.blocks.streams import derive
from lenet_lab.data.arrays import Split
from lenet_lab.data.module import in_precision, moved
from lenet_lab.data.packs import PackChunk, eval_batches
from lenet_lab.engines.compiling import compiled
from lenet_lab.engines.fates import Fates
from lenet_lab.engines.handover import joined, networks, part, parts
from lenet_lab.engines.single import Recipe
from lenet_lab.engines.stack import Stack
from lenet_lab.optim import EarlyStopping

Watch = Callable[[int, float, Mapping[str, float]], None]


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
        """`first_epoch` is how many epochs every replica has behind it; `curve` a test split shown after each.

        Raises:
            ValueError: the rates differ where `execution.one_rate` says that they do not.
        """
        super().__init__()
        self.automatic_optimization = False
        execution = recipes[0].execution
        self.stack = Stack(nets, execution.layout, not execution.stacked)
        self.weights = nn.Parameter(self.stack.weights)
        self.recipes, self.recipe = list(recipes), recipes[0]
        if execution.one_rate and len({recipe.lr.value for recipe in recipes}) > 1:
            raise ValueError("these replicas have several rates")
        # by the optimizer
        self.updated = self.weights if execution.one_rate else nn.Parameter(torch.zeros_like(self.weights))
        self.fates, self.first_epoch, self.curve, self.watch_ = fates, first_epoch, curve, watch
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
        """Lightning's hook: at the rate of all replicas, set before each step, or at rate 1."""
        return self.recipe.optimizer.build([self.updated], 1.0, 0.0, fused=self.recipe.execution.fused)

    def on_fit_start(self) -> None:
        """Lightning's hook: buffers follow the weights to their device and precision."""
        device, kind = self.weights.device, self.weights.dtype
        self.stack.buffers = {
            name: value.to(device, kind if value.is_floating_point() else None)
            for name, value in self.stack.buffers.items()
        }
        self._set_rates()
        execution = self.recipe.execution
        self._losses = compiled(self._forward(), device.type == "cuda") if execution.compiled else self._forward()

    def on_train_start(self) -> None:
        """Lightning's hook: a GPU loads its libraries, and what is to be compiled is, before the clock starts."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.recipe.execution.compiled:
            whole, rest = divmod(len(data.train), data.batch_size)
            cut = self.recipe.steps_per_epoch <= whole  # the last batch, which is smaller, is left out
            for size in {data.batch_size} if cut or not rest else {data.batch_size, rest}:
                self._warm_up(data.train, size)
        elif self.device.type != "cpu":
            self._warm_up(data.train, data.batch_size)

    def _warm_up(self, split: Split, size: int) -> None:
        """One forward and backward pass that leaves nothing behind."""
        buffers = {name: value.clone() for name, value in self.stack.buffers.items()}
        self.stack.base.train()
        images, labels = (
            one[:size].expand(self.alive, *one[:size].shape).contiguous() for one in (split.images, split.labels)
        )
        with self.trainer.precision_plugin.forward_context():
            losses, _ = self._losses(self.weights, buffers, images, labels)
        torch.autograd.grad(losses.sum(), self.weights)

    def _forward(self) -> Callable[..., tuple[Tensor, Tensor]]:
        """A function of weights, buffers, images (R, n, C, H, W), labels (R, n): losses (R, n), outputs (R * n, k)."""
        stack, objective = self.stack, self.recipe.objective

        def losses(
            weights: Tensor, buffers: Mapping[str, Tensor], images: Tensor, labels: Tensor
        ) -> tuple[Tensor, Tensor]:
            flat = stack.outputs(weights, buffers, images, shared=False).flatten(0, 1)
            return objective.loss(flat, labels.flatten()).view(labels.shape), flat

        return losses

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
        self.prepared = self._prepare() if self.recipe.optimizer.prepares else [{} for _ in self.recipes]

    def _prepare(self) -> list[Mapping[str, float]]:
        """What the rule wants before an epoch, for each replica by itself; its figures."""
        data: Any = self.trainer.datamodule.train  # type: ignore[attr-defined]
        factor = self._factor(self.first_epoch * self.recipe.steps_per_epoch + self.update_count)
        figures, states = [], []
        for replica, recipe in enumerate(self.recipes):
            net = self.stack.network(self.weights, self.stack.buffers, replica)
            params, rule = list(net.parameters()), recipe.optimizer
            own = rule.build(params, recipe.lr.value * factor, 0.0 if rule.decoupled else recipe.weight_decay.l2)
            seed = derive(recipe.seed, "curvature", self.epoch)
            figures.append(rule.before_epoch(own, net, recipe.objective, data.images, data.labels, seed))
            states.append([own.state[value] for value in params])
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        for name in states[0][0]:
            several = [torch.stack(values) for values in zip(*([s[name] for s in row] for row in states), strict=True)]
            optimizer.state[self.updated][name] = self.stack.flat(several)
        return figures

    def training_step(self, chunk: PackChunk, index: int) -> None:
        """One update of every replica for each batch of the chunk."""
        optimizer: Any = self.optimizers()
        stack, objective = self.stack, self.recipe.objective
        stack.base.train()
        steps = len(chunk.batches)
        first = self.first_epoch * self.recipe.steps_per_epoch + self.update_count
        seeds = [recipe.seed for recipe in self.recipes]
        keys = {name: moved(several, self.device) for name, several in stack.dropout_keys(seeds, first, steps).items()}
        for number, (images, labels) in enumerate(chunk.batches):
            stack.buffers.update({name: several[number] for name, several in keys.items()})
            losses, flat = self._losses(self.weights, stack.buffers, images, labels)
            truth = labels.flatten()
            self.weights.grad = None
            self.manual_backward(losses, gradient=torch.full_like(losses, 1 / labels.shape[1]))
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
        rates = self.rates * factor
        if decoupled:
            self.weights.mul_(1 - rates * self.decoupled)
        if self.updated is self.weights:
            optimizer.param_groups[0]["lr"] = self.recipe.lr.value * factor
            optimizer.step()
            return
        self.updated.zero_()
        self.updated.grad = grad
        optimizer.step()
        self.weights.addcmul_(self.updated, rates)

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
        figures = [
            {**prepared, "train/loss": loss, "train/acc": acc}
            for prepared, loss, acc in zip(self.prepared, *means, strict=True)
        ]
        if self.fates.validates:
            for row, loss, acc in zip(figures, *(self.val / self.val_seen).tolist(), strict=True):
                row.update({"val/loss": loss, "val/acc": acc})
        if self.curve is not None:
            for row, loss, acc in zip(figures, *self._curve(self.curve), strict=True):
                row.update({"test_curve/loss": loss, "test_curve/acc": acc})
        step = self.first_epoch * self.recipe.steps_per_epoch + self.update_count - 1
        for row, recipe in zip(figures, self.recipes, strict=True):
            row.update({"lr": recipe.lr.value * self._factor(step), "time/epoch_s": self._epoch_seconds})
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        states = networks(self.stack, self.weights)
        kept = self.fates.epoch(
            self.epoch + 1, figures, states, parts(self.stack, optimizer.state.get(self.updated, {}))
        )
        if not kept:
            self.trainer.should_stop = True
        elif len(kept) < self.alive:
            self._keep(torch.tensor(kept, device=self.device))

    def restore_optimizer(self, several: Sequence[Mapping[str, Tensor]]) -> None:
        """Put the state of each replica's optimizer back, as the fates were handed it."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        if several and several[0]:
            # a fused optimizer counts steps on the weights' device, any other on the CPU
            counts = self.weights.device if optimizer.defaults.get("fused") else torch.device("cpu")
            optimizer.state[self.updated] = joined(self.stack, several, self.weights, counts)

    @torch.no_grad()
    def _keep(self, rows: Tensor) -> None:
        """Go on with these replicas alone."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        state = optimizer.state.get(self.updated, {})
        state.update({name: part(self.stack, value, rows) for name, value in state.items()})
        weights = self.stack.keep(self.weights.data, rows)
        self.stack.buffers = {name: value[rows] for name, value in self.stack.buffers.items()}
        self.weights.grad = self.updated.grad = None
        self.weights.data = weights
        if self.updated is not self.weights:
            self.updated.data = torch.zeros_like(weights)
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
