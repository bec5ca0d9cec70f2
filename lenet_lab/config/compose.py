"""Composing cells: overrides to plain resolved dictionaries, the sweep's grid spelled out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lenet_lab.config.numbers import NO_VALUE, quote, quote_params
from lenet_lab.config.paths import conf_dir, prepare
from lenet_lab.config.schema import GROUPS
from lenet_lab.records import LabError


@dataclass(frozen=True)
class Cell:
    """One composed cell: its overrides, the resolved configuration and the option chosen of each group."""

    overrides: tuple[str, ...]
    resolved: dict[str, Any]
    choices: dict[str, str]


def cell_of(cfg: DictConfig, choices: Any, overrides: Sequence[str] = ()) -> Cell:
    """A cell from Hydra's composed configuration (with or without its `hydra` node).

    Raises:
        LabError: an interpolation that does not resolve, or a missing value.
    """
    try:
        plain = {str(key): cfg._get_node(key) for key in cfg if key != "hydra"}
        resolved = OmegaConf.to_container(OmegaConf.create(plain), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise LabError(" ".join(str(error).split())) from None
    assert isinstance(resolved, dict)
    chosen = {group: str(choices[group]) for group in GROUPS if choices.get(group) is not None}
    return Cell(tuple(overrides), {str(key): value for key, value in resolved.items()}, chosen)


@contextmanager
def composer() -> Iterator[Any]:
    """A function `compose(overrides, multirun=False) -> DictConfig` with the `hydra` node, outside `hydra.main`."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    prepare()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="lenet_lab"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None

            def compose(overrides: Sequence[str], multirun: bool = False) -> DictConfig:
                mode = RunMode.MULTIRUN if multirun else RunMode.RUN
                return hydra.compose_config("config", list(overrides), run_mode=mode, with_log_configuration=False)

            yield compose
    finally:
        GlobalHydra.instance().hydra = before


def compose_cell(overrides: Sequence[str] = ()) -> Cell:
    """One cell from overrides as a user writes them.

    Raises:
        LabError: a mistake in them.
        hydra.errors.HydraException: a mistake that Hydra words (unknown option or key).
    """
    with composer() as compose:
        cfg = compose([quote(override) for override in overrides])
        return cell_of(cfg, cfg.hydra.runtime.choices, overrides)


def grid(config: DictConfig) -> list[list[str]] | None:
    """The override lists of a sweep's cells as Hydra's own grid sweeper will spell them, or None for another sweeper.

    Args:
        config: the composed multirun configuration, whose `hydra.sweeper.params` are already quoted.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra

    hydra = GlobalHydra.instance().hydra
    sweeper = config.hydra.sweeper
    if not str(sweeper._target_).endswith(".BasicSweeper"):
        return None
    params = OmegaConf.to_container(sweeper.params or OmegaConf.create({}), resolve=True)
    assert isinstance(params, dict)
    texts = [f"{key!s}={value!s}" for key, value in params.items()] + list(config.hydra.overrides.task)
    options = None if hydra is None else hydra.config_loader  # those that a glob is asked for
    parsed = OverridesParser.create(options).parse_overrides(texts)
    empty = [one for one in parsed if one.is_discrete_sweep() and not list(one.sweep_string_iterator())]
    if empty:
        raise LabError(f"{empty[0].input_line}: {NO_VALUE}")
    return [cell for batch in BasicSweeper.split_arguments(parsed, None) for cell in batch]


def quote_sweeper_params(config: DictConfig) -> None:
    """Quote the numbers in `hydra.sweeper.params` of a composed multirun configuration, in place."""
    params = OmegaConf.select(config, "hydra.sweeper.params")
    if params:
        plain = OmegaConf.to_container(params, resolve=True)
        assert isinstance(plain, dict)
        OmegaConf.set_readonly(config.hydra, False)
        config.hydra.sweeper.params = quote_params({str(key): value for key, value in plain.items()})
