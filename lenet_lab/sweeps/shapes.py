"""Which cells of a sweep can be trained as one pack, and how many at a time. Nothing here needs an engine."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from lenet_lab.cell import Ready, build, device_of, make_ready
from lenet_lab.config.compose import cell_of
from lenet_lab.config.keys import identity
from lenet_lab.config.schema import Config
from lenet_lab.models import layer_table

if TYPE_CHECKING:
    from lenet_lab.sweeps.plan import Planned

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
    if device_of(config.trainer).type == "cuda":
        free, most = torch.cuda.mem_get_info()[0], MOST_GPU
    else:
        free, most = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), MOST_CPU
    return max(1, min(most, int(free / 2 / workers / (4 * (8 * weights + 4 * activations)))))


def together(
    config: Any, waiting: Sequence[tuple[int, Planned]], compose: Callable[[int], Any], workers: int
) -> list[list[tuple[int, Planned]]]:
    """Packs of cells of one shape, as large as memory and `sweep.pack` allow, and enough of them for all workers."""
    groups: dict[Any, list[tuple[int, Planned]]] = {}
    for index, planned in waiting:
        groups.setdefault(planned.shape or index, []).append((index, planned))
    packs = []
    for members in groups.values():
        most = 1
        if len(members) > 1:
            cfg = compose(members[0][0])
            ready = make_ready(cell_of(cfg, cfg.hydra.runtime.choices, members[0][1].overrides))
            most = min(config.sweep.pack or room(ready.config, workers), -(-len(members) // workers))
        packs += [members[low : low + most] for low in range(0, len(members), most)]
    return packs
