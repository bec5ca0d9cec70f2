"""One network, one LightningModule: many updates for each batch that Lightning hands over, one log an epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lenet_lab.blocks.dropout import stacked_keys
from lenet_lab.blocks.streams import derive
from lenet_lab.data.arrays import Split
from lenet_lab.data.augment import NONE, Augmentation
from lenet_lab.data.module import Chunk, evaluation_images, moved
from lenet_lab.engines.compiling import compiled
from lenet_lab.engines.execution import Execution
from lenet_lab.optim import Averaging, LearningRate, WeightDecay, blend_
from lenet_lab.optim.averaging import NONE as NO_AVERAGING
from lenet_lab.optim.penalty import add_l1_


class Diverged(RuntimeError):
    """The loss is no longer a finite number."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss is not finite in epoch {epoch}")
        self.epoch = epoch


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: the parts of a configuration that the engine needs."""

    objective: Any
    optimizer: Any
    schedule: Any
    lr: LearningRate
    weight_decay: WeightDecay
    seed: int
    epochs: int
    steps_per_epoch: int
    execution: Execution
    augment: Augmentation = NONE
    order: Literal["shuffle", "fixed"] = "shuffle"
    averaging: Averaging = NO_AVERAGING


class SingleNetwork(pl.LightningModule):
    """Trains `net` by the recipe. Metrics are kept as tensors and read once an epoch."""

    def __init__(self, net: nn.Module, recipe: Recipe, curve: Split | None = None) -> None:
        """`curve` is a test split whose error is shown after every epoch and steers nothing."""
        super().__init__()
        self.automatic_optimization = False
        self.net, self.recipe, self.curve = net, recipe, curve
        self.average = copy.deepcopy(net).requires_grad_(False) if recipe.averaging.on else None
        self.train_seconds = 0.0
        self.history: dict[str, float] = {}  # the newest figure of each kind
        self.log_book: list[dict[str, float]] = []  # the figures of every epoch
        self._train = Sums()
        self._val = Sums()

    @property
    def tested(self) -> nn.Module:
        """The network that is validated, kept and tested: the average of the weights, where there is one."""
        return self.net if self.average is None else self.average

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Lightning's hook."""
        recipe, decay = self.recipe, self.recipe.weight_decay
        coupled = decay.value if decay.penalty == "l2" else 0.0
        return recipe.optimizer.build(
            list(self.net.parameters()), recipe.lr.value, coupled, fused=recipe.execution.fused
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, C, H, W) to outputs (n, classes)."""
        return self.net(images)

    def on_fit_start(self) -> None:
        """Lightning's hook: the device is known."""
        wanted = self.recipe.execution.compiled
        self._losses = compiled(self._forward()) if wanted else self._forward()

    def on_train_start(self) -> None:
        """Lightning's hook: a GPU loads its libraries before the first epoch's clock starts."""
        if self.device.type != "cpu":
            self._warm_up()

    def _warm_up(self) -> None:
        """One forward and backward pass of a copy."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        spare = copy.deepcopy(self.net).train()
        share = -(-data.batch_size // self.trainer.world_size)
        images, labels = data.train.images[:share], data.train.labels[:share]
        with self.trainer.precision_plugin.forward_context():
            loss = self.recipe.objective.loss(spare(images), labels).sum()
        loss.backward()

    def _forward(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """A function of images (n, C, H, W) and labels (n,): losses (n,) and outputs (n, k)."""
        net, objective = self.net, self.recipe.objective

        def losses(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            output = net(images)
            return objective.loss(output, labels), output

        return losses

    def on_train_epoch_start(self) -> None:
        """Start the epoch's clock and sums, and let the optimizer prepare itself."""
        self._train = Sums()
        self._started = time.perf_counter()
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        data: Any = self.trainer.datamodule.train  # type: ignore[attr-defined]
        seed = derive(self.recipe.seed, "curvature", self.current_epoch)
        self._set_lr(optimizer, self.trainer.global_step)
        self.history.update(
            self.recipe.optimizer.before_epoch(
                optimizer, self.net, self.recipe.objective, data.images, data.labels, seed
            )
        )

    def training_step(self, chunk: Chunk, index: int) -> None:
        """One update for each batch of the chunk."""
        optimizer: Any = self.optimizers()
        recipe, world = self.recipe, self.trainer.world_size
        penalty = recipe.weight_decay.value if recipe.weight_decay.penalty == "l1" else 0.0
        params = [p for p in self.net.parameters() if p.requires_grad]
        step = self.trainer.global_step
        keys = [
            (self.net.get_buffer(name), moved(several[:, 0], self.device))
            for name, several in stacked_keys(
                self.net, [recipe.seed], step, [batch.first_row for batch in chunk.batches]
            ).items()
        ]
        losses, outputs = [], []
        for number, batch in enumerate(chunk.batches):
            self._set_lr(optimizer, step)
            for buffer, several in keys:
                buffer.copy_(several[number])
            optimizer.zero_grad()
            loss, output = self._losses(batch.images, batch.labels)
            # the gradient of their sum by `whole`, without the operators of a sum and a product forwards and backwards
            self.manual_backward(loss, gradient=torch.full_like(loss, world / batch.whole))
            if penalty:
                add_l1_(params, penalty)
            optimizer.step()
            if self.average is not None:
                blend_(self.average, self.net, recipe.averaging.share(step + 1, recipe.steps_per_epoch, recipe.epochs))
            losses.append(loss.detach())
            outputs.append(output.detach())
            step += 1
        self._train.add(recipe.objective, torch.cat(outputs), torch.cat(losses), [b.labels for b in chunk.batches])

    def _set_lr(self, optimizer: Any, step: int) -> None:
        recipe = self.recipe
        rate = recipe.lr.value * recipe.schedule.factor(step, recipe.steps_per_epoch, recipe.epochs)
        for group in optimizer.param_groups:
            group["lr"] = rate

    def on_validation_epoch_start(self) -> None:
        """Training's clock stops here: Lightning validates inside the training epoch."""
        self._stop_clock()
        self._val = Sums()

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Sums over one large batch."""
        images, labels = batch
        output = self.tested(images)
        self._val.add(self.recipe.objective, output, self.recipe.objective.loss(output, labels), [labels])

    def on_validation_epoch_end(self) -> None:
        """Hand the validation figures to callbacks (early stopping, best weights) and to the epoch's log."""
        loss, acc = self._val.means()
        self._check(loss)
        self.history.update({"val/loss": loss, "val/acc": acc})
        self.log_dict({"val/loss": loss, "val/acc": acc}, logger=False)

    def on_train_epoch_end(self) -> None:
        """One batch of tracking calls an epoch."""
        self._stop_clock()
        totals = self.trainer.strategy.reduce(self._train.tensor(self.device), reduce_op="sum")
        loss, acc = float(totals[0] / totals[2]), float(totals[1] / totals[2])
        self._check(loss)
        self.history.update({"train/loss": loss, "train/acc": acc})
        self.history["lr"] = float(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        self.history["time/epoch_s"] = self._epoch_seconds
        if self.curve is not None:
            result = evaluate(self.tested, self.recipe.objective, self.curve)
            self.history["test_curve/loss"] = float(result.losses.double().mean())
            self.history["test_curve/acc"] = float((result.predicted == result.labels).double().mean())
        self.log_book.append({"epoch": self.current_epoch + 1, **self.history})
        for logger in self.loggers:
            logger.log_metrics(dict(self.history), step=self.current_epoch + 1)

    def _stop_clock(self) -> None:
        if self._started is not None:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self._epoch_seconds = time.perf_counter() - self._started
            self.train_seconds += self._epoch_seconds
            self._started = None

    def _check(self, loss: float) -> None:
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise Diverged(self.current_epoch + 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What a resumed run needs beside Lightning's own state."""
        last = self.current_epoch + 1 == self.recipe.epochs
        checkpoint["lenet_lab"] = {
            "train_seconds": self.train_seconds,
            "log_book": self.log_book,
            "finished": last or bool(self.trainer.should_stop),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook."""
        own = checkpoint["lenet_lab"]
        self.train_seconds, self.log_book = own["train_seconds"], list(own["log_book"])

    _started: float | None = None
    _epoch_seconds = 0.0


class Sums:
    """Running sums of loss, right answers and examples, without leaving the device."""

    def __init__(self) -> None:
        self.loss: Tensor | float = 0.0
        self.correct: Tensor | float = 0.0
        self.n = 0

    def add(self, objective: Any, outputs: Tensor, losses: Tensor, labels: list[Tensor]) -> None:
        """Outputs (n, k), losses (n,), labels summing to (n,)."""
        truth = torch.cat(labels)
        self.loss = self.loss + losses.double().sum()
        self.correct = self.correct + (objective.predict(outputs) == truth).sum()
        self.n += len(truth)

    def tensor(self, device: torch.device) -> Tensor:
        """Loss, right answers, examples."""
        return torch.stack(
            [torch.as_tensor(x, dtype=torch.float64, device=device) for x in (self.loss, self.correct, self.n)]
        )

    def means(self) -> tuple[float, float]:
        """Mean loss and accuracy."""
        return float(self.loss) / self.n, float(self.correct) / self.n


@dataclass(frozen=True)
class Evaluation:
    """A split seen once in evaluation mode, on the CPU: scores (n, k), losses, predicted, labels (n,)."""

    scores: Tensor
    losses: Tensor
    predicted: Tensor
    labels: Tensor


@torch.inference_mode()
def evaluate(net: nn.Module, objective: Any, split: Split) -> Evaluation:
    """One pass over a split in large batches; the network's mode is put back."""
    weight = next(net.parameters())
    device, kind = weight.device, weight.dtype
    training = net.training
    net.eval()
    try:
        parts = [net(images.to(device, kind)).cpu() for images in split.images.split(evaluation_images(device))]
    finally:
        net.train(training)
    outputs, labels = torch.cat(parts), split.labels.cpu()
    return Evaluation(objective.scores(outputs), objective.loss(outputs, labels), objective.predict(outputs), labels)
