"""Whole sweeps, by the clock: in packs and as jobs, with everything that a sweep does beside training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from lenet_lab.bench.starts import Measured, alternate, sweep

SEEDS, EPOCHS = 32, 10
WAYS = {"jobs": "lab", "packs": "packed"}


def whole(
    rounds: int,
    say: Callable[[str], None],
    batches: Sequence[int],
    seeds: int = SEEDS,
    epochs: int = EPOCHS,
) -> Iterator[Measured]:
    """The same seeds of LeNet-5 on the embedded digits, each way with a store of its own.

    Composing, validation, checkpoints, tracking, the test and its figures are in these seconds, and the start of the
    sweep.
    """
    for batch in batches:
        setting = f"{seeds} seeds, batch {batch}, digits, {epochs} epochs"
        say(f"sweep, {setting}")
        words = ["-m", "data=digits", f"epochs={epochs}", f"batch_size={batch}"]
        ways = {name: partial(sweep, [*words, f"hydra/launcher={way}"], seeds) for name, way in WAYS.items()}
        yield setting, "s", alternate(ways, max(3, rounds // 2)), [("packs", "jobs", None)]
