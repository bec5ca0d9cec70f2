"""Training several networks of one shape together, each to its own end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from lenet_lab.data.arrays import Arrays
from lenet_lab.data.packs import PackModule
from lenet_lab.engines.fates import Fate, Fates
from lenet_lab.engines.fit import Hardware, Sink, Trained, put, quiet
from lenet_lab.engines.replicas import ReplicaNetworks, Watch
from lenet_lab.engines.single import Recipe
from lenet_lab.optim import EarlyStopping
from lenet_lab.records import LabError


@dataclass(frozen=True)
class Replica:
    """One of several runs trained together: its network, freshly initialised, its recipe, its own folder and sink."""

    net: nn.Module
    recipe: Recipe
    folder: Path | None = None
    sink: Sink | None = None


def fit_pack(
    replicas: Sequence[Replica],
    arrays: Arrays,
    batch_size: int,
    stopping: EarlyStopping,
    hardware: Hardware,
    watch: Watch | None = None,
    test_curve: bool = False,
    limit: int | None = None,
) -> list[Trained | Exception]:
    """Train every replica to its end, from its own newest valid checkpoint where there is one.

    Args:
        replicas: networks of one shape; recipes that differ in seed, rate and coupled or decoupled decay alone.
        watch: told how far the pack is, with figures averaged over the replicas.
        test_curve, limit: as in `fit`.

    Returns what each replica came to, in their order: also `Diverged`, or what its sink or its checkpoint has raised.
    A replica that ends before the others leaves the pack and changes nothing for them but last bits. Replicas that have
    gone different ways already train in groups of one epoch.

    Raises:
        LabError: `trainer.precision=16-mixed`.
    """
    if hardware.precision == "16-mixed":
        raise LabError(
            "trainer.precision=16-mixed: one scaler of gradients would couple the runs of a pack; "
            "allowed in a pack: 32-true, 64-true, bf16-mixed"
        )
    fates = [Fate(stopping, replica.folder, replica.sink) for replica in replicas]
    saved = [fate.load() for fate in fates]
    left = [position for position, fate in enumerate(fates) if fate.end is None]
    left.sort(key=lambda position: fates[position].resumed_from)
    for epoch, several in groupby(left, key=lambda position: fates[position].resumed_from):
        rows = list(several)
        group = Fates([fates[row] for row in rows], replicas[0].recipe.epochs, arrays.val is not None)
        module = ReplicaNetworks(
            [
                replicas[row].net if (one := saved[row]) is None else put(replicas[row].net, one["weights"])
                for row in rows
            ],
            [replicas[row].recipe for row in rows],
            stopping,
            group,
            epoch,
            arrays.test if test_curve else None,
            watch,
        )
        states = [one["optimizer"] for row in rows if (one := saved[row]) is not None]
        _train(module, states, arrays, batch_size, hardware, limit)
    return [fate.end for fate in fates if fate.end is not None]


class _Restore(pl.Callback):
    def __init__(self, states: Sequence[Mapping[str, torch.Tensor]]) -> None:
        self.states = states

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning's hook: the optimizer is there, and no step has been made."""
        assert isinstance(pl_module, ReplicaNetworks)
        pl_module.restore_optimizer(self.states)


def _train(
    module: ReplicaNetworks,
    states: Sequence[Mapping[str, torch.Tensor]],
    arrays: Arrays,
    batch_size: int,
    hardware: Hardware,
    limit: int | None,
) -> None:
    recipe = module.recipe
    trainer = pl.Trainer(
        accelerator=hardware.accelerator,
        devices=1,
        precision=hardware.precision,  # type: ignore[arg-type]
        max_epochs=recipe.epochs - module.first_epoch,
        logger=False,
        callbacks=[_Restore(states)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        inference_mode=True,
    )
    seeds = [one.seed for one in module.recipes]
    data = PackModule(arrays, batch_size, seeds, module.first_epoch, limit, recipe.augment, recipe.order, recipe.epochs)
    with quiet(), recipe.execution.applied():
        trainer.fit(module, datamodule=data)
