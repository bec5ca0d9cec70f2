"""What happens round the epochs: the best weights kept, a checkpoint written, somebody told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers.logger import Logger

from lenet_lab.engines.checkpoints import prune
from lenet_lab.engines.single import SingleNetwork


class BestWeights(pl.Callback):
    """Keeps the weights of the best validation score; the first of equals. They travel in the checkpoint."""

    def __init__(self, monitor: str) -> None:
        self.monitor, self.sign = monitor, 1 if monitor.endswith("acc") else -1
        self.score: float | None = None
        self.epoch = 0
        self.weights: dict[str, torch.Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning's hook."""
        assert isinstance(pl_module, SingleNetwork)
        score = pl_module.history[self.monitor]
        if self.score is None or self.sign * score > self.sign * self.score:
            self.score, self.epoch = score, trainer.current_epoch + 1
            self.weights = {key: value.detach().cpu().clone() for key, value in pl_module.tested.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Lightning's hook."""
        return {"score": self.score, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning's hook."""
        self.score, self.epoch, self.weights = state_dict["score"], state_dict["epoch"], state_dict["weights"]


class EpochCheckpoint(Checkpoint):
    """A checkpoint after every epoch, two generations kept.

    Lightning runs callbacks of this class after the module's own hook, so that the epoch's figures are in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning's hook. All ranks call: gathering the state may need them."""
        trainer.save_checkpoint(self.folder / f"epoch-{trainer.current_epoch + 1:05d}.ckpt")
        if trainer.is_global_zero:
            prune(self.folder, keep=2)


class Announce(pl.Callback):
    """Tells a watcher how far the run is: `watch(epoch, fraction of the epoch, figures of the last epoch)`."""

    def __init__(self, watch: Callable[[int, float, Mapping[str, float]], None]) -> None:
        self.watch = watch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook, called once a chunk."""
        assert isinstance(pl_module, SingleNetwork)
        done = trainer.global_step / pl_module.recipe.steps_per_epoch - trainer.current_epoch
        self.watch(trainer.current_epoch, min(done, 1.0), pl_module.history)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning's hook."""
        assert isinstance(pl_module, SingleNetwork)
        self.watch(trainer.current_epoch + 1, 0.0, pl_module.history)


class SinkLogger(Logger):
    """A Lightning logger that is a shell over one function: `sink(metrics, step)`."""

    def __init__(self, sink: Callable[[Mapping[str, float], int], None]) -> None:
        super().__init__()
        self.sink = sink

    @property
    def name(self) -> str:
        """Lightning asks for it."""
        return "lenet_lab"

    @property
    def version(self) -> str:
        """Lightning asks for it."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Lightning's hook; `step` is the epoch, counted from 1."""
        self.sink(metrics, int(step or 0))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Parameters are logged by the run itself."""
