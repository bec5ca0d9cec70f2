"""What is measured: each case a list of rows, a rate or a time with its spread, beside what it is compared with."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from lenet_lab.bench.contenders import Work
from lenet_lab.bench.limits import arithmetic, memory
from lenet_lab.bench.profile import profile
from lenet_lab.bench.rows import Row, rows_of
from lenet_lab.bench.starts import start
from lenet_lab.bench.stores import crowded
from lenet_lab.bench.sweeps import whole
from lenet_lab.bench.teams import Teams

BATCHES = (8, 32, 128, 512)
IMAGES = {8: 6400, 32: 12_800, 128: 25_600, 512: 25_600}
WHOLE, SMALL_WHOLE = 60_000, 25_600  # of a whole epoch of MNIST, and of one with batches of 8, which take long enough
PACK = 16
GOAL_PACK = 256  # of the goal on a GPU
Say = Callable[[str], None]
GPU_STEPS = 800  # of an epoch, at least: Lightning's end of an epoch takes as long as some tens of a GPU's


@dataclass(frozen=True)
class Asked:
    """How to measure.

    Attributes:
        rounds: of each measurement.
        root: the folder of MNIST's files, or None.
        say: told what is being measured.
        batches: the batch sizes, None for those of the case.
        sizes: of packs, likewise.
    """

    rounds: int
    root: str | None
    say: Say
    batches: tuple[int, ...] | None = None
    sizes: tuple[int, ...] | None = None


def epoch_of(batch: int, gpu: bool = False) -> int:
    """Images of a whole epoch: what an epoch costs once weighs as it does on MNIST."""
    images = max(SMALL_WHOLE if batch <= 8 else WHOLE, 8 * batch)
    return max(images, GPU_STEPS * batch) if gpu else images


def images_of(batch: int, gpu: bool = False) -> int:
    """Images of an epoch where rates of training are compared, and epochs may be shorter."""
    images = max(IMAGES.get(batch, min(800 * batch, 25_600)), 8 * batch)
    return max(images, GPU_STEPS * batch) if gpu else images


def epoch(asked: Asked) -> Iterator[Row]:
    """A whole epoch: bare loops, this harness, Lightning as in tutorials; with batch norm, too."""
    cores, gpu, root = len(os.sched_getaffinity(0)), has_gpu(), asked.root
    batches = asked.batches or BATCHES
    for batch, norm in [(batch, False) for batch in batches] + [(batch, True) for batch in batches if 8 < batch < 512]:
        work = Work(batch, epoch_of(batch, gpu), cores, root=root, batch_norm=norm)
        who = {"bare loop": ("bare", work, 1), "fastest loop": ("fastest", work, 1), "harness": ("harness", work, 1)}
        if root is not None and not norm:
            alike = Work(batch, epoch_of(batch), cores, root=root)  # on a GPU fewer, which take it seconds all the same
            who["Lightning"] = ("lightning", alike, 1)
            who["Lightning, 2 workers"] = ("lightning", replace(alike, workers=2), 1)
        setting = f"batch {batch}{', batch norm' if norm else ''}, {'cuda' if gpu else _threads(cores)}"
        asked.say(f"epoch, {setting}")
        with Teams(who) as teams:
            rates = teams.rounds(asked.rounds)
        goals = [
            ("harness", "fastest loop", _least(batch)),
            ("bare loop", "fastest loop", None),
            ("Lightning", "harness", None),
            ("Lightning, 2 workers", "harness", None),
        ]
        yield from rows_of("epoch", setting, "images/s", rates, goals)


def again(asked: Asked) -> Iterator[Row]:
    """The harness and the fastest loop, three times as many rounds, where their ratio is near its goal."""
    cores, gpu = len(os.sched_getaffinity(0)), has_gpu()
    for batch in asked.batches or (32,):
        work = Work(batch, epoch_of(batch, gpu), cores)
        setting = f"batch {batch}, {'cuda' if gpu else _threads(cores)}"
        asked.say(f"again, {setting}")
        with Teams({"fastest loop": ("fastest", work, 1), "harness": ("harness", work, 1)}) as teams:
            rates = teams.rounds(3 * asked.rounds)
        yield from rows_of("again", setting, "images/s", rates, [("harness", "fastest loop", _least(batch))])


def packed(asked: Asked) -> Iterator[Row]:
    """Many runs: one at a time with all threads, side by side, and packed, a pack a core."""
    cores = len(os.sched_getaffinity(0))
    for batch in asked.batches or BATCHES[:3]:
        one = Work(batch, images_of(batch), cores)
        each = Work(batch, images_of(batch), 1)
        several = Work(batch, images_of(batch) // 4, 1, replicas=PACK)
        who = {
            "one at a time": ("harness", one, 1),
            "side by side": ("harness", each, cores),
            f"packs of {PACK}": ("pack", several, cores),
        }
        asked.say(f"packed, batch {batch}")
        with Teams(who) as teams:
            rates = teams.rounds(asked.rounds)
        goal = {8: 2.0, 32: 1.3}.get(batch)
        goals = [(f"packs of {PACK}", "one at a time", goal), ("side by side", "one at a time", None)]
        yield from rows_of("packed", f"batch {batch}, {cores} cores", "images/s", rates, goals)


def side(asked: Asked) -> Iterator[Row]:
    """Jobs side by side, a thread each, against as many bare loops side by side."""
    cores = len(os.sched_getaffinity(0))
    for batch in asked.batches or (8, 32, 128):
        work, whole = Work(batch, images_of(batch), 1), Work(batch, images_of(batch), cores)
        who = {
            "bare loops": ("bare", work, cores),
            "fastest loops": ("fastest", work, cores),
            "harness": ("harness", work, cores),
            "one process": ("harness", whole, 1),
        }
        asked.say(f"side by side, batch {batch}")
        with Teams(who) as teams:
            rates = teams.rounds(asked.rounds)
        goals = [
            ("harness", "fastest loops", 0.9),
            ("bare loops", "fastest loops", None),
            ("one process", "harness", None),
        ]
        yield from rows_of("side", f"batch {batch}, {cores} processes", "images/s", rates, goals)


def sweeping(asked: Asked) -> Iterator[Row]:
    """Whole sweeps as users start them, in packs and as jobs, by the clock."""
    for setting, unit, values, goals in whole(asked.rounds, asked.say, asked.batches or (8, 32)):
        yield from rows_of("sweep", setting, unit, values, goals)


def starting(asked: Asked) -> Iterator[Row]:
    """Whole processes, from nothing: help, the first step of training; what a job costs beside its training."""
    for setting, unit, values, goals in start(asked.rounds, asked.say):
        yield from rows_of("start", setting, unit, values, goals)


def replicas(asked: Asked) -> Iterator[Row]:
    """Packs of growing size in one process, on the GPU where there is one, and their share of what the device can do.

    An image takes six operations a multiply-accumulate, two forward and four backward; the first layer none for its
    input. Its traffic counts activations written and read once forward and once backward, in float32; on a GPU also the
    weights of each update, sixteen times (read forward and backward; gradient, two moments and weight written and read
    by what sums them, by Adam and by the step). Caches are left out.
    """
    import torch

    from lenet_lab.bench.contenders import lenet5
    from lenet_lab.models import layer_table

    gpu = has_gpu()
    device = torch.device("cuda" if gpu else "cpu")
    net = lenet5()
    table = layer_table(net, (1, 28, 28))
    macs = [row.macs for row in table if row.macs]
    operations = 6 * sum(macs) - 2 * macs[0]
    activations = sum(math.prod(map(int, row.output.split("x"))) for row in table)
    weights = sum(value.numel() for value in net.parameters())
    flops, bandwidth = arithmetic(device), memory(device)
    cores = len(os.sched_getaffinity(0))
    sizes = asked.sizes or ((4, 16, 64, 256) if gpu else (2, 4, 8, 16))
    for batch in asked.batches or BATCHES[:3]:
        images = images_of(batch) if gpu else images_of(batch) // 4
        traffic = 4 * (4 * activations + (16 * weights / batch if gpu else 0))
        who = {"one run": ("harness", Work(batch, images_of(batch, gpu) if gpu else images, cores), 1)}
        who |= {f"pack of {size}": ("pack", Work(batch, images, cores, replicas=size), 1) for size in sizes}
        if gpu:
            who |= {f"compiled, {max(sizes)}": ("compiled", Work(batch, images, cores, replicas=max(sizes)), 1)}
            if asked.root is not None:
                who |= {"Lightning": ("lightning", Work(batch, images_of(batch), cores, root=asked.root), 1)}
        asked.say(f"replicas, batch {batch}")
        with Teams(who) as teams:
            rates = teams.rounds(asked.rounds)
        # 100 times one run of this harness, where a step is small
        most = {f"pack of {GOAL_PACK}", f"compiled, {GOAL_PACK}"} if gpu and batch <= 32 else set()
        goals = [(name, "one run", 100.0 if name in most else None) for name in list(who)[1:]]
        setting = f"batch {batch}, {device.type}"
        yield from rows_of("replicas", setting, "images/s", rates, goals)
        shares = {
            f"{name}, {what}": [100 * rate * each / limit for rate in taken]
            for name, taken in rates.items()
            for what, each, limit in (("arithmetic", operations, flops), ("memory", traffic, bandwidth))
        }
        yield from rows_of("replicas", setting, "%", shares, [])


def translated(asked: Asked) -> Iterator[Row]:
    """Packs as they are, and with the forward pass and the loss compiled; one thread, or one GPU."""
    gpu = has_gpu()
    usual = ((8, 256), (32, 256)) if gpu else ((1, 5), (1, 10), (8, 16))
    batches, sizes = ([asked.batches, asked.sizes][i] or sorted({each[i] for each in usual}) for i in range(2))
    for batch, size in itertools.product(batches, sizes) if asked.batches or asked.sizes else usual:
        work = Work(batch, images_of(batch) if gpu else 200 * batch, 1, replicas=size)
        setting = f"batch {batch}, pack of {size}, {'cuda' if gpu else '1 thread'}"
        asked.say(f"compiled, {setting}")
        with Teams({"as it is": ("pack", work, 1), "compiled": ("compiled", work, 1)}) as teams:
            rates = teams.rounds(asked.rounds)
        yield from rows_of("compiled", setting, "images/s", rates, [("compiled", "as it is", None)])


def stores(asked: Asked) -> Iterator[Row]:
    """A store with 10,000 runs."""
    for setting, unit, values, goals in crowded(asked.rounds, asked.say):
        yield from rows_of("stores", setting, unit, values, goals)


def profiled(asked: Asked) -> Iterator[Row]:
    """Where an epoch's time goes; the profiler itself makes Python's part larger than it is."""
    for setting, unit, values, goals in profile(asked.rounds, asked.say):
        yield from rows_of("profile", setting, unit, values, goals)


# What a case may be asked for; the others have settings of their own.
BATCHED = ("epoch", "again", "packed", "side", "sweep", "replicas", "compiled")
SIZED = ("replicas", "compiled")
CASES: dict[str, Callable[[Asked], Iterator[Row]]] = {
    "epoch": epoch,
    "again": again,
    "packed": packed,
    "side": side,
    "sweep": sweeping,
    "replicas": replicas,
    "compiled": translated,
    "start": starting,
    "stores": stores,
    "profile": profiled,
}


def run_case(name: str, asked: Asked) -> Iterator[Row]:
    """Measure one case, a row as soon as it is there.

    Raises:
        RuntimeError: a contender has failed.
    """
    yield from CASES[name](asked)


def has_gpu() -> bool:
    """Whether the contenders will train on one."""
    import torch

    return torch.cuda.is_available()


def _least(batch: int) -> float:
    """The goal of the harness against the fastest loop."""
    return 1 / 1.05 if batch >= 32 else 1 / 1.15


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
