"""Training one network from a recipe: through Lightning, resumable, the same numbers every time."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping as LightningEarlyStopping
from torch import Tensor, nn

from lenet_lab.data.arrays import Arrays
from lenet_lab.data.module import ArraysModule
from lenet_lab.engines.callbacks import Announce, BestWeights, EpochCheckpoint, SinkLogger
from lenet_lab.engines.checkpoints import VerifiedCheckpointIO, newest_valid
from lenet_lab.engines.single import Recipe, SingleNetwork
from lenet_lab.optim import EarlyStopping

Watch = Callable[[int, float, Mapping[str, float]], None]
Sink = Callable[[Mapping[str, float], int], None]
FAST_DEV_BATCHES = 8


@dataclass(frozen=True)
class Hardware:
    """On what a network is trained."""

    accelerator: str
    devices: int = 1
    nodes: int = 1
    precision: str = "32-true"
    strategy: str = "auto"  # "ddp": DistributedDataParallel for one process too


@dataclass(frozen=True)
class Trained:
    """What training leaves: weights on the CPU, the figures of every epoch, seconds spent on updates."""

    last: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    best_epoch: int
    log_book: tuple[Mapping[str, float], ...]
    train_seconds: float
    resumed_from: int


def put(net: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network with these weights, in their precision."""
    kinds = {value.dtype for value in weights.values() if value.is_floating_point()}
    net.to(max(kinds, key=lambda kind: kind.itemsize)).load_state_dict(weights)
    return net


def fit(
    net: nn.Module,
    recipe: Recipe,
    arrays: Arrays,
    batch_size: int,
    stopping: EarlyStopping,
    hardware: Hardware,
    folder: Path | None,
    sink: Sink | None = None,
    watch: Watch | None = None,
    test_curve: bool = False,
    limit: int | None = None,
) -> Trained:
    """Train to the end, from the newest valid checkpoint in `folder` where there is one.

    Args:
        net: the network, freshly initialised; trained in place.
        batch_size: images in a whole batch, over all processes.
        folder: where checkpoints go; None keeps none.
        sink: told each epoch's figures, with the epoch counted from 1.
        watch: told how far the run is, for people.
        test_curve: also evaluate the test split after every epoch (it steers nothing).
        limit: at most so many batches an epoch.

    Raises:
        Diverged: the loss is no longer finite.
    """
    module = SingleNetwork(net, recipe, arrays.test if test_curve else None)
    best = BestWeights(stopping.monitor)
    start = newest_valid(folder) if folder is not None else None
    saved = None if start is None else VerifiedCheckpointIO().load_checkpoint(start)
    resumed_from = 0 if saved is None else len(saved["lenet_lab"]["log_book"])
    if saved is not None and saved["lenet_lab"]["finished"]:
        module.load_state_dict(saved["state_dict"])
        module.on_load_checkpoint(saved)
        if best.state_key in saved["callbacks"]:
            best.load_state_dict(saved["callbacks"][best.state_key])
    else:
        trainer = _trainer(recipe, stopping, hardware, folder, best, sink, watch, arrays.val is not None)
        for one in (net, module.tested):
            one.to(memory_format=recipe.execution.layout)
        with quiet(), recipe.execution.applied():
            trainer.fit(
                module,
                datamodule=ArraysModule(
                    arrays,
                    batch_size,
                    recipe.seed,
                    limit,
                    recipe.execution.layout,
                    recipe.augment,
                    recipe.order,
                    recipe.epochs,
                ),
                ckpt_path=start,
                weights_only=True,
            )
    last = {key: value.detach().cpu().clone() for key, value in module.tested.state_dict().items()}
    return Trained(last, best.weights or last, best.epoch, tuple(module.log_book), module.train_seconds, resumed_from)


def _trainer(
    recipe: Recipe,
    stopping: EarlyStopping,
    hardware: Hardware,
    folder: Path | None,
    best: BestWeights,
    sink: Sink | None,
    watch: Watch | None,
    validates: bool,
) -> pl.Trainer:
    callbacks: list[pl.Callback] = [_WorldSize(hardware.devices * hardware.nodes)]
    if validates:
        callbacks.append(best)
    if stopping.value is not None:
        mode = "max" if stopping.monitor.endswith("acc") else "min"
        stopper = LightningEarlyStopping(
            stopping.monitor, min_delta=stopping.min_delta, patience=stopping.value, mode=mode
        )
        callbacks.append(stopper)
    if watch is not None:
        callbacks.append(Announce(watch))
    if folder is not None:
        callbacks.append(EpochCheckpoint(folder))
    # devices and tips: the run says what concerns it
    for name in ("lightning.pytorch", "pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    several = hardware.devices * hardware.nodes > 1
    return pl.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        num_nodes=hardware.nodes,
        precision=hardware.precision,  # type: ignore[arg-type]
        strategy="ddp" if several else hardware.strategy,
        sync_batchnorm=several and hardware.accelerator == "gpu",  # statistics of the whole batch
        max_epochs=recipe.epochs,
        logger=SinkLogger(sink) if sink is not None else False,
        callbacks=callbacks,
        plugins=[VerifiedCheckpointIO()],
        enable_checkpointing=folder is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
        inference_mode=True,
    )


class _WorldSize(pl.Callback):
    """A job must train with as many processes as it says: what an earlier job left behind must not change it."""

    def __init__(self, expected: int) -> None:
        self.expected = expected

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning's hook."""
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        actual = torch.distributed.get_world_size() if distributed else 1
        if not actual == trainer.world_size == self.expected:
            raise RuntimeError(
                f"{actual} processes train together, Lightning says {trainer.world_size}, asked {self.expected}"
            )


class quiet(warnings.catch_warnings):  # noqa: N801
    """Lightning's advice that does not apply here, silenced by name while it trains."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
        warnings.filterwarnings("ignore", message=".*lower value for log_every_n_steps.*")
        warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero.*")  # no validation
        warnings.filterwarnings("ignore", message=".*`self.log.*sync_dist=True.*")  # every process validates all images
        return entered
