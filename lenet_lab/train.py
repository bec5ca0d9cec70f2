"""From a checked configuration to trained weights: what every process of a run does, tracked or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from lenet_lab.cell import build, threads
from lenet_lab.config.schema import Config, Trainer
from lenet_lab.data import Arrays
from lenet_lab.engines import FAST_DEV_BATCHES, Execution, Hardware, Recipe, Trained, choose, fit
from lenet_lab.fitted import Fitted, Network

Sink = Callable[[Mapping[str, float], int], None]
Watch = Callable[[int, float, Mapping[str, float]], None]


def learn(
    config: Config,
    arrays: Arrays,
    execution: Execution,
    folder: Path | None,
    sink: Sink | None = None,
    watch: Watch | None = None,
) -> Fitted:
    """What the model's engine makes of the training images, with the weights that are to be tested.

    Raises:
        Diverged: the loss is no longer finite.
    """
    return ENGINES[config.model.engine](config, arrays, execution, folder, sink, watch)


def train(
    config: Config,
    arrays: Arrays,
    execution: Execution,
    folder: Path | None,
    sink: Sink | None = None,
    watch: Watch | None = None,
) -> tuple[nn.Module, Trained]:
    """Build a network and train it, from the newest valid checkpoint in `folder` where there is one.

    Raises:
        Diverged: the loss is no longer finite.
    """
    net = build(config)
    limit = FAST_DEV_BATCHES if config.trainer.fast_dev else None
    recipe = Recipe(
        objective=config.loss,
        optimizer=config.optimizer,
        schedule=config.schedule,
        lr=config.lr,
        weight_decay=config.weight_decay,
        seed=config.seed,
        epochs=1 if limit else config.epochs,
        steps_per_epoch=math.ceil(images_per_epoch(config, len(arrays.train)) / config.batch_size.value),
        execution=execution,
        augment=config.augment,
        order=config.order,
    )
    trainer = config.trainer
    kind = "gpu" if device_of(trainer).type == "cuda" else "cpu"
    hardware = Hardware(kind, trainer.devices, trainer.nodes, trainer.precision)
    trained = fit(
        net,
        recipe,
        arrays,
        config.batch_size.value,
        config.early_stopping,
        hardware,
        folder,
        sink=sink,
        watch=watch,
        test_curve=config.test_curve,
        limit=limit,
    )
    return net, trained


def _network(
    config: Config,
    arrays: Arrays,
    execution: Execution,
    folder: Path | None,
    sink: Sink | None,
    watch: Watch | None,
) -> Fitted:
    """A network with its tested weights: the best on validation or the last, as `checkpoint` says."""
    net, trained = train(config, arrays, execution, folder, sink, watch)
    best = config.checkpoint == "best" and arrays.val is not None
    device = device_of(config.trainer)
    net.to("cpu")
    net.load_state_dict(trained.best if best else trained.last)
    net.to(device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    epochs = len(trained.log_book)
    figures = {
        "epochs": float(epochs),
        "epochs/best": float(trained.best_epoch or epochs),
        "params/total": float(sum(p.numel() for p in net.parameters() if p.requires_grad)),
        "time/train_s": trained.train_seconds,
        "images_per_s": epochs * images_per_epoch(config, len(arrays.train)) / max(trained.train_seconds, 1e-9),
    }
    return Network(arrays.train.to(device), figures, trained.log_book, net.eval(), config.loss)


# Who trains a model: the rows that `Model.engine` names.
ENGINES: dict[str, Callable[..., Fitted]] = {"gradient": _network}


def execution_of(config: Config) -> Execution:
    """The fastest way measured to do this configuration's arithmetic here."""
    return choose(config.batch_size.value, config.trainer.world_size, device_of(config.trainer), threads(config))


def images_per_epoch(config: Config, train_size: int) -> int:
    """Images that one epoch trains on."""
    return min(train_size, FAST_DEV_BATCHES * config.batch_size.value) if config.trainer.fast_dev else train_size


def device_of(trainer: Trainer) -> torch.device:
    """The first device that a trainer means."""
    gpu = trainer.accelerator == "gpu" or (trainer.accelerator == "auto" and torch.cuda.is_available())
    return torch.device("cuda", 0) if gpu else torch.device("cpu")
