"""From a checked configuration to trained weights: what every process of a run does, tracked or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from lenet_lab.blocks.norm import BatchNorm
from lenet_lab.blocks.pool import Pool, Subsample
from lenet_lab.cell import build, device_of, threads
from lenet_lab.config.schema import Config, Trainer
from lenet_lab.data import Arrays, Split
from lenet_lab.engines import FAST_DEV_BATCHES, Execution, Hardware, Recipe, Trained, choose, fit, put, teach
from lenet_lab.engines.compiling import pays
from lenet_lab.engines.pack import Replica, fit_pack
from lenet_lab.fitted import Estimator, Fitted, Network
from lenet_lab.models import layer_table
from lenet_lab.optim.table import Sgd

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
    return ENGINES[config.model.engine].learn(config, arrays, execution, folder, sink, watch)


def learn_packed(
    config: Config,
    arrays: Arrays,
    execution: Execution,
    folder: Path | None,
    sink: Sink | None = None,
    watch: Watch | None = None,
) -> Fitted:
    """The same by a pack of this run alone.

    Raises:
        Diverged: the loss is no longer finite.
    """
    (end,) = train_packed([config], arrays, execution, [folder], [sink], watch)
    if isinstance(end, Exception):
        raise end
    return network(config, arrays, build(config), end)


def train_packed(
    configs: Sequence[Config],
    arrays: Arrays,
    execution: Execution,
    folders: Sequence[Path | None],
    sinks: Sequence[Sink | None],
    watch: Watch | None = None,
) -> list[Trained | Exception]:
    """Train networks of one shape as one pack; what becomes of each."""
    config = configs[0]
    replicas = [
        Replica(build(one), recipe_of(one, arrays, execution), folder, sink)
        for one, folder, sink in zip(configs, folders, sinks, strict=True)
    ]
    return fit_pack(
        replicas,
        arrays,
        config.batch_size.value,
        config.early_stopping,
        hardware_of(config.trainer),
        watch,
        config.test_curve,
        FAST_DEV_BATCHES if config.trainer.fast_dev else None,
    )


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
    trained = fit(
        net,
        recipe_of(config, arrays, execution),
        arrays,
        config.batch_size.value,
        config.early_stopping,
        hardware_of(config.trainer),
        folder,
        sink=sink,
        watch=watch,
        test_curve=config.test_curve,
        limit=limit,
    )
    return net, trained


def recipe_of(config: Config, arrays: Arrays, execution: Execution) -> Recipe:
    """How a network of this configuration is trained on these images."""
    return Recipe(
        objective=config.loss,
        optimizer=config.optimizer,
        schedule=config.schedule,
        averaging=config.averaging,
        lr=config.lr,
        weight_decay=config.weight_decay,
        seed=config.seed,
        epochs=1 if config.trainer.fast_dev else config.epochs,
        steps_per_epoch=math.ceil(images_per_epoch(config, len(arrays.train)) / config.batch_size.value),
        execution=execution,
        augment=config.augment,
        order=config.order,
    )


def hardware_of(trainer: Trainer) -> Hardware:
    """On what it is trained."""
    kind = "gpu" if device_of(trainer).type == "cuda" else "cpu"
    return Hardware(kind, trainer.devices, trainer.nodes, trainer.precision, trainer.strategy)


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
    return network(config, arrays, net, trained)


def network(config: Config, arrays: Arrays, net: nn.Module, trained: Trained) -> Network:
    """What training has made of a network, with its tested weights: the best on validation or the last."""
    best = config.checkpoint == "best" and arrays.val is not None
    device = device_of(config.trainer)
    put(net.to("cpu"), trained.best if best else trained.last).to(device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    epochs = len(trained.log_book)
    figures = {
        "epochs": float(epochs),
        "epochs/best": float(trained.best_epoch or epochs),
        "params/total": float(sum(p.numel() for p in net.parameters() if p.requires_grad)),
        "params/macs": float(sum(row.macs for row in layer_table(net, config.data.in_shape))),
        "time/train_s": trained.train_seconds,
        "images_per_s": epochs * images_per_epoch(config, len(arrays.train)) / max(trained.train_seconds, 1e-9),
    }
    return Network(arrays.train.to(device), figures, trained.log_book, "", net.eval(), config.loss)


def _estimator(
    config: Config,
    arrays: Arrays,
    execution: Execution,
    folder: Path | None,
    sink: Sink | None,
    watch: Watch | None,
) -> Fitted:
    """A classical model, fitted at once; half of its bar is the fit, the other half the passes over the splits."""
    model: Any = config.model
    shown: dict[str, float] = {}
    furthest = [0.0]

    def at(first: float, width: float) -> Callable[[float], None]:
        def tell(share: float) -> None:
            furthest[0] = max(furthest[0], first + width * share)
            if watch is not None:
                watch(0, furthest[0], shown)

        return tell

    classes = len(arrays.classes)
    taught = teach(model, arrays.train, classes, config.seed, execution.threads, at(0.0, 0.5))
    fitted = Estimator(
        learned=taught.split,
        figures={"time/train_s": taught.seconds, "fit/images": float(len(taught.split))},
        log_book=(),
        remark="",
        model=model,
        state=taught.learned,
        classes=classes,
        threads=execution.threads,
        progress=at(0.6, 0.4),
    )
    if arrays.val is not None:
        seen = replace(fitted, progress=at(0.5, 0.1)).evaluate(arrays.val)
        acc = float((seen.predicted == seen.labels).double().mean())
        shown.update({"val/loss": float(seen.losses.double().mean()), "val/acc": acc})
        if sink is not None:
            sink(shown, 1)
    parameters = model.parameters(taught.learned)
    more = {} if parameters is None else {"params/total": float(parameters)}
    return replace(fitted, figures={**fitted.figures, **more}, remark=_limited(model, taught.split, arrays.train))


def _limited(model: Any, used: Split, whole: Split) -> str:
    if len(used) == len(whole):
        return ""
    return f"model={model.name} has learned from {len(used):,} of {len(whole):,} training images (model.max_train)"


def execution_of(config: Config, packed: bool = False) -> Execution:
    """The fastest way measured to do this configuration's arithmetic here, alone or `packed` with others."""
    trainer, norm, pool = config.trainer, config.norm, config.pool
    averages = isinstance(pool, Subsample) or (isinstance(pool, Pool) and pool.name == "avg")
    planar = averages or (isinstance(norm, BatchNorm) and norm.place != "fc")
    batch, device = config.batch_size.value, device_of(trainer)
    how = choose(batch, trainer.world_size, device, threads(config), planar)
    if trainer.precision == "16-mixed" and isinstance(config.optimizer, Sgd) and config.optimizer.momentum:
        # where the scaler leaves out the very first step, torch's fused kernel leaves the momentum as it finds it
        how = replace(how, fused=False)
    if config.model.engine != "gradient":
        return replace(how, flush_denormals=False)
    if packed and how.stacked:  # whatever a network alone would take
        how = replace(how, memory_format="contiguous")
    if trainer.compile is not None:
        return replace(how, compiled=trainer.compile)
    if not packed:
        return how
    epochs = 1 if trainer.fast_dev else config.epochs
    updates = math.ceil(images_per_epoch(config, config.data.counts()[0]) / batch) * epochs
    dropout, stops_early = config.dropout.value > 0, config.early_stopping.value is not None
    return replace(how, compiled=pays(batch, updates, device, trainer.precision, dropout, stops_early))


def images_per_epoch(config: Config, train_size: int) -> int:
    """Images that one epoch trains on."""
    return min(train_size, FAST_DEV_BATCHES * config.batch_size.value) if config.trainer.fast_dev else train_size


class Engine(NamedTuple):
    """Who trains a model and how: its name in execution records, and the device that it works on."""

    learn: Callable[..., Fitted]
    name: str
    device_of: Callable[[Trainer], torch.device]


# The rows that `Model.engine` names.
ENGINES: dict[str, Engine] = {
    "gradient": Engine(_network, "single", device_of),
    "classical": Engine(_estimator, "classical", lambda trainer: torch.device("cpu")),
}
