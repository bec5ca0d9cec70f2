"""From tracked runs to the immutable tables that every renderer shows; the same runs give the same facts."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from lenet_lab import stats
from lenet_lab.records import Curves, RunRecord, order
from lenet_lab.report.labels import Settings, labels, printable, settings, web_link

LEVEL = 0.95
COMPLETE, DIVERGED = "complete", "diverged"
CURVES = ("val/acc", "train/loss", "val/loss")
NOT_RECORDED = "not recorded"
_METRICS = ("test/acc", "test/errors", "test/loss", "train_eval/acc", "params/total", "epochs", "test/n")


@dataclass(frozen=True)
class Spread:
    """A number over the runs of an arm that have it; sd and the t interval for the mean need two runs."""

    values: tuple[float, ...]
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Band:
    """A learning curve over the runs of an arm: the number of runs, their mean and range at each epoch."""

    steps: tuple[int, ...]
    n: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Arm:
    """One row of the comparison.

    `metrics` has a `Spread` for each metric that any complete run has. `time/train_s` is taken over the runs
    that had the machine to themselves, and missing where there are none; `images_per_s` is taken over these,
    or over all runs where there are none (`timed_alone` is false then: a throughput, not to be compared).
    """

    arm: str
    label: str
    settings: Settings
    seeds: tuple[int | None, ...]
    diverged: tuple[int | None, ...]
    metrics: Mapping[str, Spread]
    timed_alone: bool
    curves: Mapping[str, Band]

    @property
    def n(self) -> int:
        """Complete runs; diverged ones are counted beside."""
        return len(self.seeds)


@dataclass(frozen=True)
class Run:
    """One tracked run as the report lists it; `excluded` says why it does not count, empty if it does."""

    run_id: str
    name: str
    label: str
    seed: int | None
    state: str
    excluded: str
    link: str | None
    sweep: str
    timing: str
    data_digest: str
    code: str
    budget: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Facts:
    """The comparison. Arms come by falling mean test accuracy, runs by arm label, seed and id."""

    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]
    common: Settings
    data_digests: tuple[tuple[str, int], ...]
    codes: tuple[tuple[str, int], ...]
    budgets: tuple[tuple[str, int], ...]

    @property
    def counted(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if not run.excluded)

    @property
    def excluded(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.excluded)


def build(records: Iterable[RunRecord], curves: Curves) -> Facts:
    """The facts of these runs, whatever the order they come in.

    Runs that are complete or diverged count; of several with the same arm and seed only the one that ended
    last does, so that no seed is counted twice. Every other run is listed with the reason.
    """
    rows = sorted({row.run_id: row for row in records}.values(), key=order)
    reasons = _excluded(rows)
    members: dict[str, list[RunRecord]] = defaultdict(list)
    for row in rows:
        if not reasons[row.run_id]:
            members[row.arm].append(row)
    params = {arm: [row.params for row in several] for arm, several in members.items()}
    shown, common = settings(params)
    names = labels(shown, params)
    arms = [_arm(arm, names[arm], shown[arm], several, curves) for arm, several in members.items()]
    runs = [_run(row, names.get(row.arm, ""), reasons[row.run_id]) for row in rows]
    counted = [run for run in runs if not run.excluded]
    return Facts(
        arms=tuple(sorted(arms, key=_rank)),
        runs=tuple(sorted(runs, key=lambda r: (r.label, r.seed is None, r.seed or 0, r.run_id))),
        common=common,
        data_digests=_count(run.data_digest for run in counted),
        codes=_count(run.code for run in counted),
        budgets=_count(run.budget for run in counted),
    )


def _excluded(rows: Sequence[RunRecord]) -> dict[str, str]:
    """Why each run does not count, by run id; empty for the runs that do."""
    reasons = {row.run_id: "" if row.state in (COMPLETE, DIVERGED) else "not complete" for row in rows}
    replicas: dict[tuple[str, int | str], list[RunRecord]] = defaultdict(list)
    for row in rows:
        if not reasons[row.run_id]:
            replicas[row.arm, row.run_id if row.seed is None else row.seed].append(row)
    for several in replicas.values():
        *earlier, last = sorted(several, key=lambda r: (r.end_ms or 0, r.start_ms or 0, r.run_id))
        for row in earlier:
            reasons[row.run_id] = f"replaced by the later run {printable(last.run_id)} of the same arm and seed"
    return reasons


def _arm(arm: str, label: str, shown: Settings, rows: Sequence[RunRecord], curves: Curves) -> Arm:
    complete = [row for row in rows if row.state == COMPLETE]
    alone = [row for row in complete if row.tags.get("lenet.timing") == "alone"]
    spreads = {name: _spread(name, complete) for name in _METRICS}
    spreads["time/train_s"] = _spread("time/train_s", alone)
    spreads["images_per_s"] = _spread("images_per_s", alone or complete)
    bands = {name: _band([curves.get(row.run_id, {}).get(name, ()) for row in complete]) for name in CURVES}
    return Arm(
        arm=printable(arm),
        label=label,
        settings=shown,
        seeds=tuple(row.seed for row in complete),
        diverged=tuple(row.seed for row in rows if row.state == DIVERGED),
        metrics={name: spread for name, spread in spreads.items() if spread is not None},
        timed_alone=bool(alone),
        curves={name: band for name, band in bands.items() if band.steps},
    )


def _spread(name: str, rows: Sequence[RunRecord]) -> Spread | None:
    values = tuple(row.metrics[name] for row in rows if math.isfinite(row.metrics.get(name, math.nan)))
    if not values:
        return None
    if len(values) == 1:
        return Spread(values, values[0], None, None, None)
    return Spread(values, stats.mean(values), stats.sample_sd(values), *stats.t_interval(values, LEVEL))


def _band(several: Sequence[Sequence[tuple[int, float]]]) -> Band:
    by_step: dict[int, list[float]] = defaultdict(list)
    for points in several:
        for step, value in dict(points).items():
            if math.isfinite(value):
                by_step[step].append(value)
    steps = tuple(sorted(by_step))
    return Band(
        steps=steps,
        n=tuple(len(by_step[s]) for s in steps),
        mean=tuple(fmean(by_step[s]) for s in steps),
        low=tuple(min(by_step[s]) for s in steps),
        high=tuple(max(by_step[s]) for s in steps),
    )


def _run(row: RunRecord, label: str, excluded: str) -> Run:
    return Run(
        run_id=printable(row.run_id),
        name=printable(row.name, 200),
        label=label,
        seed=row.seed,
        state=printable(row.state, 40),
        excluded=excluded,
        link=web_link(row.link),
        sweep=printable(row.sweep, 80),
        timing=printable(row.tags.get("lenet.timing", NOT_RECORDED), 40),
        data_digest=printable(row.tags.get("lenet.data_digest", NOT_RECORDED), 80),
        code=printable(row.tags.get("lenet.code", NOT_RECORDED), 80),
        budget=printable(row.params.get("epochs", NOT_RECORDED), 40),
        metrics={printable(name, 200): value for name, value in sorted(row.metrics.items())},
    )


def _rank(arm: Arm) -> tuple[float, str]:
    accuracy = arm.metrics.get("test/acc")
    return (math.inf if accuracy is None else -accuracy.mean, arm.label)


def _count(values: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
