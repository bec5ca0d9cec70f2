"""Which cells of a sweep can be trained as one pack, and how many at a time. Nothing here needs an engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from heapq import heapreplace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from lenet_lab.cell import Ready, build, device_of, make_ready
from lenet_lab.config.compose import cell_of
from lenet_lab.config.keys import identity
from lenet_lab.config.schema import Config
from lenet_lab.models import layer_table
from lenet_lab.sweeps.memory import share

if TYPE_CHECKING:
    from lenet_lab.sweeps.plan import Planned

SLACK = 1.25  # a pack's cells take at best that much less time than as many alone (engines/execution.py)
MOST_CPU, MOST_GPU = 16, 512  # caution, not a measurement: `sweep.pack` says otherwise


def shape(ready: Ready) -> tuple[str, ...] | None:
    """What runs of one pack have in common; None for a run that has to train by itself.

    They may differ in seed, rate, the size of the penalty and initial weights.
    """
    config, trainer = ready.config, ready.config.trainer
    alone = (
        config.model.engine != "gradient"
        or not config.optimizer.scalable
        or config.averaging.on
        or trainer.distributed
        or trainer.precision == "16-mixed"  # one scaler would couple them
    )
    if alone:
        return None
    own = {**identity(ready.cell.resolved), "data_digest": ready.data_digest}
    for key in ("seed", "lr", "init"):
        own.pop(key)
    own["weight_decay"] = {"penalty": own["weight_decay"].get("penalty", "l2")}
    return tuple(f"{key}={own[key]!r}" for key in sorted(own))


def room(config: Config, workers: int) -> int:
    """Replicas that one of so many workers trains well together: half of the free memory, up to what pays off.

    A replica is counted with its weights eight times (gradients, optimizer, best and last ones, copies) and its
    activations of a batch four times.
    """
    net = build(config)
    weights = sum(p.numel() for p in net.parameters())
    shapes = [row.output.split("x") for row in layer_table(net, config.data.in_shape)]
    activations = sum(math.prod(map(int, sizes)) for sizes in shapes) * config.batch_size.value
    device, size = device_of(config.trainer), 8 if config.trainer.precision == "64-true" else 4
    most = MOST_GPU if device.type == "cuda" else MOST_CPU
    return max(1, min(most, share(device, workers) // 2 // (size * (8 * weights + 4 * activations))))


def together(
    config: Any, waiting: Sequence[tuple[int, Planned]], compose: Callable[[int], Any], workers: int
) -> list[list[tuple[int, Planned]]]:
    """Packs of cells of one shape, in the order of their cells: of `sweep.pack`, or by `cuts` within memory."""
    groups: dict[Any, list[tuple[int, Planned]]] = {}
    for index, planned in waiting:
        groups.setdefault(planned.shape or index, []).append((index, planned))
    several, most = list(groups.values()), config.sweep.pack
    if most:
        return [members[low : low + most] for members in several for low in range(0, len(members), most)]
    rooms = []
    for members in several:
        rooms.append(1)
        if len(members) > 1:
            cfg = compose(members[0][0])
            ready = make_ready(cell_of(cfg, cfg.hydra.runtime.choices, members[0][1].overrides))
            rooms[-1] = room(ready.config, workers)
    packs = []
    for members, sizes in zip(several, cuts([len(members) for members in several], rooms, workers), strict=True):
        ends = list(accumulate(sizes, initial=0))
        packs += [members[low:high] for low, high in pairwise(ends)]
    return packs


def cuts(groups: Sequence[int], rooms: Sequence[int], workers: int) -> list[list[int]]:
    """Groups of so many cells cut into the sizes of packs, alike within a group and none above the group's room.

    As few as the rooms allow, but enough that all workers are busy, and more where that would save more than a quarter
    of the time, if every cell takes as long: that an odd pack at the end would keep one worker busy, say.
    """
    parts = [-(-cells // most) for cells, most in zip(groups, rooms, strict=True)]
    tried: list[tuple[int, list[list[int]]]] = []
    sizes: list[list[int]] = []
    while len(tried) < workers:
        sizes = [_alike(cells, number) for cells, number in zip(groups, parts, strict=True)]
        packs = [size for group in sizes for size in group]
        if len(packs) >= workers:
            tried.append((_time(packs, workers), sizes))
        largest = max(packs, default=1)
        if largest == 1:
            break
        parts[next(place for place, group in enumerate(sizes) if group[0] == largest)] += 1
    least = min((time for time, _ in tried), default=0)
    return next((each for time, each in tried if time <= SLACK * least), sizes)


def _alike(cells: int, packs: int) -> list[int]:
    """So many cells in so many packs, the larger ones first."""
    return [cells // packs + (pack < cells % packs) for pack in range(packs)]


def _time(packs: Sequence[int], workers: int) -> int:
    """When the last of some workers ends that take packs in turn, if a cell takes 1."""
    ends = [0] * workers
    for size in packs:
        heapreplace(ends, ends[0] + size)
    return max(ends)
