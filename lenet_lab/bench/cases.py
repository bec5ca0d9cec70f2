"""What is measured: each case a list of rows, a rate or a time with its spread, beside what it is compared with."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lenet_lab.bench.contenders import Work
from lenet_lab.bench.limits import arithmetic, memory
from lenet_lab.bench.profile import profile
from lenet_lab.bench.starts import start
from lenet_lab.bench.stores import crowded
from lenet_lab.bench.teams import Teams

BATCHES = (8, 32, 128, 512)
IMAGES = {8: 6400, 32: 12_800, 128: 25_600, 512: 25_600}
PACK = 16
# case, contender, unit -> what its median should be at most
MOST = {
    ("start", "job, full artifacts", "s"): 2.5,
    ("start", "job, minimal artifacts", "s"): 0.5,
    ("stores", "status", "s"): 5.0,
    ("stores", "report", "s"): 30.0,
    ("stores", "report", "MiB"): 500e6 / 2**20,
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One contender in one setting.

    Attributes:
        values: of each round, in `unit`.
        ratio: median over rounds of this contender by `against` in the same round, the larger the better; None for the
            reference itself.
        goal: what the ratio should reach; None where nothing was promised.
        most: what the median should be at most, in `unit`; likewise.
    """

    case: str
    setting: str
    contender: str
    unit: str
    values: tuple[float, ...]
    against: str | None = None
    ratio: float | None = None
    goal: float | None = None
    most: float | None = None

    @property
    def median(self) -> float:
        """Of the values."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None where there is none."""
        if self.most is not None:
            return self.median <= self.most
        return None if self.goal is None or self.ratio is None else self.ratio >= self.goal


def rows_of(
    case: str,
    setting: str,
    unit: str,
    values: Mapping[str, Sequence[float]],
    goals: Sequence[tuple[str, str, float | None]],
    less_is_better: bool = False,
) -> list[Row]:
    """A row for every contender; `goals` are (contender, against, least ratio)."""
    wanted = {contender: (against, goal) for contender, against, goal in goals}
    rows = []
    for name, taken in values.items():
        against, goal = wanted.get(name, (None, None))
        ratio = None
        if against is not None:
            pairs = zip(taken, values[against], strict=True)
            ratio = statistics.median(theirs / ours if less_is_better else ours / theirs for ours, theirs in pairs)
        most = MOST.get((case, name, unit))
        rows.append(Row(case, setting, name, unit, tuple(taken), against if ratio else None, ratio, goal, most))
    return rows


def epoch(rounds: int, root: str | None, say: Say) -> Iterator[Row]:
    """A whole epoch: bare loops, this harness, Lightning as in tutorials; with batch norm, too."""
    cores = len(os.sched_getaffinity(0))
    for batch, norm in [(batch, False) for batch in BATCHES] + [(batch, True) for batch in BATCHES[1:3]]:
        work = Work(batch, IMAGES[batch], cores, root=root, batch_norm=norm)
        asked = {"bare loop": ("bare", work, 1), "fastest loop": ("fastest", work, 1), "harness": ("harness", work, 1)}
        if root is not None and not norm:
            few = Work(batch, IMAGES[batch] // 4, cores, root=root)
            asked["Lightning"] = ("lightning", few, 1)
            asked["Lightning, 2 workers"] = ("lightning", Work(batch, few.images, cores, workers=2, root=root), 1)
        setting = f"batch {batch}{', batch norm' if norm else ''}, {_threads(cores)}"
        say(f"epoch, {setting}")
        with Teams(asked) as teams:
            rates = teams.rounds(rounds)
        goals = [
            ("harness", "fastest loop", 1 / 1.05 if batch >= 32 else 1 / 1.15),
            ("bare loop", "fastest loop", None),
            ("Lightning", "harness", None),
            ("Lightning, 2 workers", "harness", None),
        ]
        yield from rows_of("epoch", setting, "images/s", rates, goals)


def packed(rounds: int, root: str | None, say: Say) -> Iterator[Row]:
    """Many runs: one at a time with all threads, side by side, and packed, a pack a core."""
    cores = len(os.sched_getaffinity(0))
    for batch in BATCHES[:3]:
        one = Work(batch, IMAGES[batch], cores)
        each = Work(batch, IMAGES[batch], 1)
        several = Work(batch, IMAGES[batch] // 4, 1, replicas=PACK)
        asked = {
            "one at a time": ("harness", one, 1),
            "side by side": ("harness", each, cores),
            f"packs of {PACK}": ("pack", several, cores),
        }
        say(f"packed, batch {batch}")
        with Teams(asked) as teams:
            rates = teams.rounds(rounds)
        goal = {8: 2.0, 32: 1.3}.get(batch)
        goals = [(f"packs of {PACK}", "one at a time", goal), ("side by side", "one at a time", None)]
        yield from rows_of("packed", f"batch {batch}, {cores} cores", "images/s", rates, goals)


def side(rounds: int, root: str | None, say: Say) -> Iterator[Row]:
    """Jobs side by side, a thread each, against as many bare loops side by side."""
    cores = len(os.sched_getaffinity(0))
    for batch in (8, 32, 128):
        work, whole = Work(batch, IMAGES[batch], 1), Work(batch, IMAGES[batch], cores)
        asked = {
            "bare loops": ("bare", work, cores),
            "fastest loops": ("fastest", work, cores),
            "harness": ("harness", work, cores),
            "one process": ("harness", whole, 1),
        }
        say(f"side by side, batch {batch}")
        with Teams(asked) as teams:
            rates = teams.rounds(rounds)
        goals = [
            ("harness", "fastest loops", 0.9),
            ("bare loops", "fastest loops", None),
            ("one process", "harness", None),
        ]
        yield from rows_of("side", f"batch {batch}, {cores} processes", "images/s", rates, goals)


def starting(rounds: int, root: str | None, say: Say) -> Iterator[Row]:
    """Whole processes, from nothing: help, the first step of training; what a job costs beside its training."""
    for setting, unit, values, goals in start(rounds, say):
        yield from rows_of("start", setting, unit, values, goals, less_is_better=True)


def replicas(rounds: int, root: str | None, say: Say) -> Iterator[Row]:
    """Packs of growing size in one process, on the GPU where there is one, and their share of what the device can do.

    An image takes six operations a multiply-accumulate: two forward, four backward. Its traffic counts activations
    written and read once forward and once backward, in float32; weights and caches are left out.
    """
    import torch

    from lenet_lab.bench.contenders import lenet5
    from lenet_lab.models import layer_table

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    table = layer_table(lenet5(), (1, 28, 28))
    operations = 6 * sum(row.macs for row in table)
    traffic = 4 * 4 * sum(math.prod(map(int, row.output.split("x"))) for row in table)
    flops, bandwidth = arithmetic(device), memory(device)
    cores = len(os.sched_getaffinity(0))
    sizes = (4, 16, 64, 256) if gpu else (2, 4, 8, 16)
    for batch in BATCHES[:3]:
        images = IMAGES[batch] if gpu else IMAGES[batch] // 4
        asked = {"one run": ("harness", Work(batch, images, cores), 1)}
        asked |= {f"pack of {size}": ("pack", Work(batch, images, cores, replicas=size), 1) for size in sizes}
        say(f"replicas, batch {batch}")
        with Teams(asked) as teams:
            rates = teams.rounds(rounds)
        goals = [(name, "one run", 100.0 if gpu and name == "pack of 256" else None) for name in list(asked)[1:]]
        setting = f"batch {batch}, {device.type}"
        yield from rows_of("replicas", setting, "images/s", rates, goals)
        shares = {
            f"{name}, {what}": [100 * rate * each / limit for rate in taken]
            for name, taken in rates.items()
            for what, each, limit in (("arithmetic", operations, flops), ("memory", traffic, bandwidth))
        }
        yield from rows_of("replicas", setting, "%", shares, [])


def translated(rounds: int, root: str | None, say: Say) -> Iterator[Row]:
    """Packs as they are, and with the forward pass and the loss compiled; one thread, or one GPU."""
    import torch

    gpu = torch.cuda.is_available()
    for batch, size in ((8, 256), (32, 256)) if gpu else ((1, 5), (1, 10), (8, 16)):
        work = Work(batch, IMAGES[batch] if gpu else 200 * batch, 1, replicas=size)
        setting = f"batch {batch}, pack of {size}, {'cuda' if gpu else '1 thread'}"
        say(f"compiled, {setting}")
        with Teams({"as it is": ("pack", work, 1), "compiled": ("compiled", work, 1)}) as teams:
            rates = teams.rounds(rounds)
        yield from rows_of("compiled", setting, "images/s", rates, [("compiled", "as it is", None)])


def stores(rounds: int, root: str | None, say: Say) -> Iterator[Row]:
    """A store with 10,000 runs."""
    for setting, unit, values, goals in crowded(rounds, say):
        yield from rows_of("stores", setting, unit, values, goals, less_is_better=True)


def profiled(rounds: int, root: str | None, say: Say) -> Iterator[Row]:
    """Where an epoch's time goes; the profiler itself makes Python's part larger than it is."""
    for setting, unit, values, goals in profile(rounds, say):
        yield from rows_of("profile", setting, unit, values, goals)


CASES: dict[str, Callable[[int, str | None, Say], Iterator[Row]]] = {
    "epoch": epoch,
    "packed": packed,
    "side": side,
    "replicas": replicas,
    "compiled": translated,
    "start": starting,
    "stores": stores,
    "profile": profiled,
}


def run_case(name: str, rounds: int, root: str | None, say: Say) -> list[Row]:
    """Measure one case.

    Raises:
        RuntimeError: a contender has failed.
    """
    return list(CASES[name](rounds, root, say))


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
