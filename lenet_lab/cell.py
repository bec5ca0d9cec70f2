"""A cell made ready: checked, its data and network buildable, its names known. Nothing is opened or written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from lenet_lab import models
from lenet_lab.config.compose import Cell, compose_cell
from lenet_lab.config.keys import arm_key, run_key
from lenet_lab.config.paths import extended
from lenet_lab.config.schema import Config, Trainer, parse
from lenet_lab.config.validate import refuse
from lenet_lab.data import Arrays, Spec

PLACES = ("data.root", "data.train", "data.test")
# what names no variant: it says where, how or how often, not what
NOT_IN_NAME = (
    "experiment",
    "study",
    "tracking",
    "sweep",
    "trainer.threads",
    "trainer.compile",
    "trainer.strategy",
    "trainer.accelerator",
    "name",
    *PLACES,
    "data.download",
    "hydra",
)


@dataclass(frozen=True)
class Ready:
    """A cell that can run.

    Attributes:
        key, arm: the digest that names the run, and that of its arm (the same without the seed).
        name: what sets the run apart, for people.
    """

    cell: Cell
    config: Config
    key: str
    arm: str
    data_digest: str
    name: str


def make_ready(cell: Cell) -> Ready:
    """Check a composed cell down to the network that it builds.

    Raises:
        LabError: anything about it that cannot work, named in one line.
    """
    config = parse(cell.resolved)
    digest = config.data.digest()
    train_size = config.data.counts()[0]
    if config.batch_size.value > train_size:
        refuse(
            "batch_size",
            config.batch_size.value,
            f"larger than the training split; allowed: 1 to {train_size}",
        )
    _check_hardware(config)
    _check_unused(cell, config)
    if config.model.engine == "gradient":
        net = build(config)
        _check_batch_norm(config, net, train_size)
        config.optimizer.check(net)
    key, arm = run_key(cell.resolved, digest), arm_key(cell.resolved, digest)
    return Ready(cell, config, key, arm, digest, run_name(cell, config))


def build(config: Config) -> nn.Module:
    """The network of a configuration, freshly initialised from its seed.

    Raises:
        LabError: parts that do not fit each other.
    """
    parts = models.Parts(
        pool=config.pool,
        norm=config.norm,
        activation=config.activation,
        dropout=config.dropout,
        head=config.head,
        init=config.init,
        in_shape=config.data.in_shape,
        classes=len(config.data.classes),
        seed=config.seed,
    )
    return models.build(config.model, parts)


@lru_cache(maxsize=1)
def load(data: Spec) -> Arrays:
    """The splits; kept, since a pre-flight check and the run itself want the same."""
    return data.load()


def run_name(cell: Cell, config: Config) -> str:
    """The overrides that name a variant, in the order of the groups, the seed last.

    The experiment is among them where its file changes something of another, and where there is nothing else;
    `baseline` where there is not even that.
    """
    pairs = dict(override.lstrip("+~").partition("=")[::2] for override in cell.overrides)
    kept = {
        k: _plain(v)
        for k, v in pairs.items()
        if k.partition("@")[0] not in NOT_IN_NAME and k.partition(".")[0] not in NOT_IN_NAME
    }
    kept.pop("seed", None)
    experiment = pairs.get("experiment", "null")
    if experiment != "null" and (not kept or extended(experiment)):
        kept["experiment"] = experiment
    shown = " ".join(f"{key}={value}" for key, value in sorted(kept.items())) or "baseline"
    return f"{shown if len(shown) <= 180 else shown[:177] + '...'} seed={config.seed}"


def params(ready: Ready) -> dict[str, str]:
    """MLflow's parameters: `<group>` is the option chosen, `<group>.<key>` its values."""
    flat: dict[str, str] = dict(ready.cell.choices)
    for key, value in ready.cell.resolved.items():
        if key in ("tracking", "sweep", "experiment", "study"):
            flat.pop(key, None)
        elif isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": _text(x) for inner, x in value.items() if f"{key}.{inner}" not in PLACES})
        elif value is not None:
            flat[key] = _text(value)
    return flat


def threads(config: Config) -> int:
    """Threads of torch in this process: the configuration's word, the launcher's, OpenMP's, or all cores."""
    words = (os.environ.get(name, "") for name in ("LENET_LAB_THREADS", "OMP_NUM_THREADS"))
    given = config.trainer.threads or next((int(word) for word in words if word.isdigit() and int(word)), 0)
    return given or len(os.sched_getaffinity(0))


def device_of(trainer: Trainer) -> torch.device:
    """The first device that a trainer means."""
    gpu = trainer.accelerator == "gpu" or (trainer.accelerator == "auto" and torch.cuda.is_available())
    return torch.device("cuda", 0) if gpu else torch.device("cpu")


def _check_unused(cell: Cell, config: Config) -> None:
    """A factor that the model has no use for must stay as in the baseline: it is refused, never ignored."""
    if not config.model.unused:
        return
    baseline = _baseline()
    for key in config.model.unused:
        plain = _value(baseline.resolved, key)
        ours = _value(cell.resolved, key, plain)
        if ours != plain:
            chosen, usual = cell.choices.get(key) or ours, baseline.choices.get(key) or plain
            refuse(key, chosen, f"model={cell.choices['model']} has no use for it; leave it at {_text(usual)}")
    if config.model.engine != "gradient" and config.trainer.accelerator == "gpu":
        refuse("trainer.accelerator", "gpu", f"model={cell.choices['model']} works on the CPU; allowed: auto, cpu")


def _value(resolved: Mapping[str, Any], key: str, otherwise: Any = None) -> Any:
    """`otherwise`: where the configuration is an older one and has no such key in the group."""
    group, _, inner = key.partition(".")
    return resolved[group].get(inner, otherwise) if inner else resolved[group]


@lru_cache(maxsize=1)
def _baseline() -> Cell:
    return compose_cell()


def _check_batch_norm(config: Config, net: nn.Module, train_size: int) -> None:
    """Batch norm needs a batch: more than one value a unit, and the whole of it where several processes train."""
    if not any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in net.modules()):
        return
    size, world = config.batch_size.value, config.trainer.world_size
    if any(isinstance(layer, nn.BatchNorm1d) for layer in net.modules()) and 1 in (size, train_size % size):
        refuse(
            "batch_size",
            size,
            f"leaves a batch of one image, which batch norm of hidden units cannot train on; allowed: sizes that do "
            f"not leave 1 of {train_size}",
        )
    if world > 1 and (config.trainer.accelerator == "cpu" or not torch.cuda.is_available()):
        refuse("norm", "bn", "several processes on the CPU cannot share its statistics; allowed: other norms, or GPUs")


def _check_hardware(config: Config) -> None:
    trainer, gpus = config.trainer, torch.cuda.device_count()
    if trainer.accelerator == "gpu" and gpus == 0:
        refuse("trainer.accelerator", "gpu", "torch sees no GPU here; allowed: cpu, auto")
    if trainer.accelerator != "cpu" and gpus and trainer.devices > gpus:
        refuse("trainer.devices", trainer.devices, f"torch sees {gpus} GPU(s); allowed: 1 to {gpus}")
    if trainer.precision == "16-mixed" and gpus == 0:
        refuse("trainer.precision", "16-mixed", "needs a GPU; allowed on the CPU: 32-true, 64-true, bf16-mixed")
    if trainer.precision == "16-mixed" and config.weight_decay.l1:
        refuse(
            "weight_decay.penalty",
            "l1",
            "not with trainer.precision=16-mixed, whose gradients are scaled; allowed: l2",
        )
    if trainer.compile:
        _check_compilable(config)


def _check_compilable(config: Config) -> None:
    from lenet_lab.engines import compiling  # Lightning comes with it

    if config.model.engine != "gradient":
        refuse("trainer.compile", True, "this model takes no gradient steps; allowed: null, false")
    if config.dropout.value > 0:
        refuse("trainer.compile", True, "torch cannot compile dropout's stream of numbers; allowed: null, false")
    if config.trainer.distributed:
        refuse("trainer.compile", True, "not under DistributedDataParallel; allowed: null, false")
    if config.early_stopping.value is not None:
        refuse(
            "trainer.compile", True, "a pack would be compiled anew for each run that stops early; allowed: null, false"
        )
    reason = compiling.why_not(device_of(config.trainer).type)
    if reason is not None:
        refuse("trainer.compile", True, f"torch cannot compile here ({reason}); allowed: null, false")


def _plain(value: str) -> str:
    return value.strip("'\"")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "null" if value is None else str(value)
