"""The typed schema behind the YAML: one dataclass a group, checked before any work is done."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from importlib.util import find_spec
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Ge, Gt

from lenet_lab import blocks, models, objectives, optim
from lenet_lab.config.validate import refuse, validated
from lenet_lab.data import Spec, augment, spec
from lenet_lab.optim import Averaging, BatchSize, EarlyStopping, LearningRate, WeightDecay
from lenet_lab.records import LabError
from lenet_lab.study import read_study


@dataclass(frozen=True)
class Trainer:
    """What Lightning trains on. The batch is the whole batch, whatever the number of processes."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Annotated[int, Ge(1)] = 1
    nodes: Annotated[int, Ge(1)] = 1
    strategy: Literal["auto", "ddp"] = "auto"
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    threads: Annotated[int, Ge(1)] | None = None
    compile: bool | None = None
    fast_dev: bool = False

    @property
    def world_size(self) -> int:
        """Processes that train one network together."""
        return self.devices * self.nodes

    @property
    def distributed(self) -> bool:
        """Whether DistributedDataParallel trains it; one process may, too."""
        return self.world_size > 1 or self.strategy == "ddp"


@dataclass(frozen=True)
class Sweep:
    """How the jobs of a sweep run."""

    workers: Annotated[int, Ge(1)] | None = None
    threads: Annotated[int, Ge(1)] | None = None
    pack: Annotated[int, Ge(1)] | None = None
    retries: Annotated[int, Ge(0)] = 0
    fail_fast: bool = False
    time_limit: Annotated[float, Gt(0)] | None = None
    redo: Literal["none", "code"] = "none"
    changed_code: Literal["refuse", "continue", "restart"] = "refuse"


@dataclass(frozen=True)
class Tracking:
    """Where runs are tracked."""

    uri: str | None = None
    artifacts: Literal["full", "minimal"] = "full"
    system_metrics: bool = False

    def __post_init__(self) -> None:
        if self.system_metrics and find_spec("psutil") is None:
            install = "pip install 'lenet_lab[system]'"
            raise LabError(f"tracking.system_metrics=true: needs the package psutil: {install}; allowed: false")


@dataclass(frozen=True)
class Config:
    """One cell, checked: every group is the object that builds its part."""

    data: Spec
    model: models.Model
    pool: Any
    norm: Any
    activation: Any
    init: Any
    dropout: Any
    head: Any
    loss: Any
    optimizer: Any
    lr: LearningRate
    batch_size: BatchSize
    weight_decay: WeightDecay
    schedule: Any
    averaging: Averaging
    early_stopping: EarlyStopping
    augment: Any
    trainer: Trainer
    sweep: Sweep
    tracking: Tracking
    seed: Annotated[int, Ge(0)] = 0
    epochs: Annotated[int, Ge(1)] = 5
    order: Literal["shuffle", "fixed"] = "shuffle"
    name: str | None = None
    checkpoint: Literal["best", "last"] = "best"
    test_curve: bool = False

    @property
    def rounds(self) -> int:
        """What a run's progress counts to: epochs, or the one fit of a model without epochs."""
        return 1 if self.trainer.fast_dev or self.model.engine != "gradient" else self.epochs


DEFAULTS: dict[str, type] = {
    **spec.DEFAULTS,
    **blocks.DEFAULTS,
    **models.DEFAULTS,
    **objectives.DEFAULTS,
    **optim.DEFAULTS,
    **augment.DEFAULTS,
    "trainer": Trainer,
    "sweep": Sweep,
    "tracking": Tracking,
}
BASES: dict[str, type] = {
    **spec.BASES,
    **blocks.BASES,
    **models.BASES,
    **objectives.BASES,
    **optim.BASES,
    **augment.BASES,
}
GROUPS = tuple(field.name for field in fields(Config) if field.name in DEFAULTS)
PLAIN = tuple(field.name for field in fields(Config) if field.name not in DEFAULTS)


def parse(resolved: dict[str, Any]) -> Config:
    """The checked configuration of one cell.

    Args:
        resolved: the resolved configuration as plain Python values (no `hydra` node).

    Raises:
        LabError: an unknown key, a wrong type, a value out of range, or a clash between keys.
    """
    if resolved.get("study") is not None:
        read_study(resolved["study"])
    resolved = {key: value for key, value in resolved.items() if key not in ("experiment", "study")}
    for key in resolved:
        if key not in GROUPS and key not in PLAIN:
            refuse(key, resolved[key], f"no such key; allowed: {', '.join((*GROUPS, *PLAIN))}")
    missing = [group for group in GROUPS if not isinstance(resolved.get(group), dict)]
    if missing:
        raise LabError(f"{missing[0]}: no option chosen; `python -m lenet_lab --help` lists them")
    parts = {group: _group(group, dict(resolved[group])) for group in GROUPS}
    hints = get_type_hints(Config, include_extras=True)
    plain = {key: validated(key, resolved[key], hints[key]) for key in PLAIN if key in resolved}
    config = Config(**parts, **plain)
    _clashes(config)
    return config


def _group(group: str, node: dict[str, Any]) -> Any:
    target = node.pop("_target_", None)
    cls = DEFAULTS.get(group) if target is None else _target(group, target)
    if cls is None:
        raise LabError(f"{group}: the option needs a _target_")
    if not is_dataclass(cls):
        raise LabError(f"{group}._target_={target}: not a dataclass, so its keys cannot be checked")
    known = [field.name for field in fields(cls) if field.init]
    for key in node:
        if key not in known:
            refuse(f"{group}.{key}", node[key], f"no such key; allowed: {', '.join(known) or 'none'}")
    return validated(group, node, cls)


def _target(group: str, target: Any) -> type:
    """The class that `_target_` names, if it is one of this group's; nothing else is ever imported or called."""
    from importlib import import_module

    module, _, name = str(target).rpartition(".")
    base = BASES.get(group)
    if base is None or not module.startswith("lenet_lab."):
        raise LabError(f"{group}._target_={target}: not a class of lenet_lab for this group")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        raise LabError(f"{group}._target_={target}: no such class") from None
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise LabError(f"{group}._target_={target}: not a {base.__name__}")
    return cls


def _clashes(config: Config) -> None:
    """Keys that are each allowed and do not go together."""
    stopping, world = config.early_stopping, config.trainer.world_size
    objectives.check_fit(config.head, config.loss)
    if stopping.value is not None and config.data.val_size == 0:
        refuse(
            "early_stopping",
            stopping.value,
            "patience needs a validation split; allowed: early_stopping=none, or data.val_size above 0",
        )
    clean = getattr(config.augment, "clean_epochs", 0)
    if clean >= config.epochs > 0:
        refuse("augment.clean_epochs", clean, f"no epoch of {config.epochs} is left; allowed: 0 to {config.epochs - 1}")
    if config.batch_size.value % world:
        refuse(
            "batch_size",
            config.batch_size.value,
            f"the batch is shared out among {world} processes; allowed: multiples of {world}",
        )
    if config.trainer.precision == "16-mixed" and config.trainer.accelerator == "cpu":
        refuse("trainer.precision", "16-mixed", "needs a GPU; allowed on the CPU: 32-true, 64-true, bf16-mixed")
