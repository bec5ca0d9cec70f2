"""A sweep before it runs: its cells, each checked, and what is done already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from lenet_lab.cell import Ready, make_ready
from lenet_lab.config.compose import cell_of, composer, grid, quote_sweeper_params
from lenet_lab.config.keys import sweep_id
from lenet_lab.outcome import Outcome
from lenet_lab.provenance import code_digest
from lenet_lab.records import PACKED, LabError
from lenet_lab.study import Study, read_study
from lenet_lab.sweeps.shapes import shape
from lenet_lab.tracking import Store, begun_by, counts, find


@dataclass(frozen=True)
class Planned:
    """A cell of a sweep: its names, and its outcome where it is finished already."""

    key: str
    arm: str
    name: str
    epochs: int
    world_size: int
    overrides: tuple[str, ...]
    finished: Outcome | None = None
    other_code: bool = False
    shape: tuple[str, ...] | None = None  # of the packs that it may be part of


@dataclass
class Plan:
    """The cells of one sweep, in the order in which they were asked for."""

    sweep: str
    cells: list[Planned]
    bury: Callable[..., None] = lambda key, why, **how: None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    stopped_by: int | None = None
    parent: str | None = None
    store: Store | None = None

    def of(self, overrides: Sequence[str]) -> Planned:
        """The cell of these overrides."""
        return next(cell for cell in self.cells if cell.overrides == tuple(overrides))

    def unique(self) -> list[Planned]:
        """Each cell once: two spellings of one cell are one run."""
        return list({cell.key: cell for cell in self.cells}.values())


_current: Plan | None = None


def current() -> Plan:
    """The plan of the sweep that this process runs."""
    assert _current is not None, "the sweep's callback has not run"
    return _current


def set_current(plan: Plan | None) -> None:
    """Remember the plan for the launcher; Hydra hands a launcher nothing from a callback."""
    global _current
    _current = plan


def cells_of(config: DictConfig) -> list[Ready] | None:
    """Every cell of a composed multirun configuration, checked; None where another sweeper chooses as it goes.

    Raises:
        LabError: the first cell that cannot work.
    """
    quote_sweeper_params(config)
    asked = grid(config)
    if asked is None:
        return None
    hydra_overrides = list(config.hydra.overrides.hydra)
    with composer() as compose:
        by_arm = cache(lambda *words: compose([*hydra_overrides, *words]))
        return [_ready(_seeded(by_arm, words), words) for words in asked]


def compose_multirun(overrides: Sequence[str]) -> list[Ready]:
    """The same from the words of a command line (numbers quoted already), outside `hydra.main`.

    Raises:
        LabError: a cell that cannot work, or a sweeper that is not a grid.
    """
    with composer() as compose:
        cells = cells_of(compose(overrides, multirun=True))
    if cells is None:
        raise LabError("hydra/sweeper: only Hydra's own grid is understood; allowed: hydra/sweeper=basic")
    return cells


def _seeded(by_arm: Callable[..., DictConfig], words: Sequence[str]) -> DictConfig:
    """The composed cell. Composing takes Hydra a tenth of a second, so the seeds of an arm share it."""
    cfg = by_arm(*(word for word in words if not word.startswith("seed=")))
    for word in words:
        if word.startswith("seed="):
            cfg.seed = OverridesParser.create().parse_override(word).value()
    return cfg


def _ready(cfg: DictConfig, words: Sequence[str]) -> Ready:
    return make_ready(cell_of(cfg, cfg.hydra.runtime.choices, words))


def study(cells: Sequence[Ready]) -> Study | None:
    """The study that these cells belong to, as its experiment file names it."""
    node = cells[0].cell.resolved.get("study")
    return None if node is None else read_study(node)


def make_plan(cells: Sequence[Ready], store: Store | None) -> Plan:
    """What is to do: a cell that any sweep has finished is done."""
    found = {} if store is None else find(store, [ready.key for ready in cells])
    planned = []
    for ready in cells:
        run, outcome, other, fits = found.get(ready.key), None, False, shape(ready)
        if run is not None and counts(run.data.tags):
            other = run.data.tags.get("lenet.code") != code_digest()
            if not (other and ready.config.sweep.redo == "code"):
                state = "done" if run.data.tags["lenet.state"] == "complete" else "diverged"
                error = run.data.tags.get("lenet.error")
                outcome = Outcome(ready.key, ready.name, state, run.info.run_id, error, figures=dict(run.data.metrics))
        if run is not None and outcome is None and store is not None:
            begun = begun_by(store, ready.key, run.data.tags)
            fits = fits if begun in (None, PACKED) else None  # goes on as it was begun, by itself
        planned.append(
            Planned(
                ready.key,
                ready.arm,
                ready.name,
                ready.config.rounds,
                ready.config.trainer.world_size,
                ready.cell.overrides,
                outcome,
                other,
                fits,
            )
        )
    return Plan(sweep_id(ready.key for ready in cells), planned, store=store)
