"""How long a sweep will take and how much room: from finished runs like its cells, else from a stated rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from lenet_lab.cell import Ready, build, params
from lenet_lab.models import layer_table
from lenet_lab.records import RunRecord

# Where nothing like a cell has been trained: an image costs three times its multiply-accumulates (forward and twice
# back) at so many a second a core, an update so long beside, a run so long for its figures, its model and its start.
# (LeNet-5, digits, batch 32, one thread of a 2-core AMD EPYC, another run beside it: 7,700 images/s, 2.2 s beside.)
MACS_S, UPDATE_S, RUN_S = 7e9, 0.6e-3, 2.5
BYTES = {"full": 500_000, "minimal": 210_000}
# what a finished run must share with a cell to speak for it, the closest first
LIKE = (
    ("the same arm", None),
    ("the same data, model and batch", ("data.name", "model", "batch_size.value")),
)


@dataclass(frozen=True)
class Forecast:
    """Seconds and bytes of what is left to train; `basis` says where they come from."""

    seconds: float
    bytes: float
    basis: str


def forecast(cells: Sequence[Ready], records: Sequence[RunRecord], workers: int) -> Forecast:
    """The cost of training these cells as jobs, `workers` at a time.

    Early stopping is not foreseen: a run is taken to last all its epochs. Runs of packs speak where no others do, and
    for training alone: what such a run took in all is what its pack took until then.
    """
    finished = [record for record in records if record.state == "complete" and record.metrics.get("images_per_s")]
    packed, jobs = ([record for record in finished if _packed(record) is wanted] for wanted in (True, False))
    rates = [
        (f"finished runs with {words}{how}", keys, _rates(chosen, keys))
        for words, keys in LIKE
        for how, chosen in (("", jobs), (", in packs", packed))
    ]
    beside = [record.metrics["time/total_s"] - record.metrics["time/train_s"] for record in jobs if _timed(record)]
    each: list[float] = []
    bases: dict[str, list[float]] = {}
    for ready in cells:
        seconds, basis, rate = _seconds(ready, rates)
        each.append(seconds + (median(beside) if beside else RUN_S))
        bases.setdefault(basis, []).append(rate)
    kept = sum(BYTES[ready.config.tracking.artifacts] for ready in cells)
    total = max(sum(each) / max(workers, 1), max(each, default=0.0))
    sources = "; ".join(f"{len(found)} from {basis} ({_span(found)} images/s)" for basis, found in bases.items())
    return Forecast(total, kept, sources)


def _span(rates: Sequence[float]) -> str:
    low, high = (f"{value:,.0f}" for value in (min(rates), max(rates)))
    return low if low == high else f"{low} to {high}"


Rates = Mapping[str, float]
Keys = tuple[str, ...] | None  # of params that runs share; None: the arm


def _rates(records: Iterable[RunRecord], keys: Keys) -> Rates:
    """Median images a second of the runs that share these params."""
    found: dict[str, list[float]] = {}
    for record in records:
        name = record.arm if keys is None else "\n".join(record.params.get(key, "") for key in keys)
        found.setdefault(name, []).append(record.metrics["images_per_s"])
    return {name: median(values) for name, values in found.items()}


def _seconds(ready: Ready, known: Sequence[tuple[str, Keys, Rates]]) -> tuple[float, str, float]:
    """Seconds of training, where they come from, and the images a second that they mean.

    Args:
        known: what runs have shown, in words; the params that they share with the cell; their rates. The closest first.
    """
    config = ready.config
    images = config.epochs * config.data.counts()[0]
    own = params(ready)
    for words, keys, rates in known:
        name = ready.arm if keys is None else "\n".join(own.get(key, "") for key in keys)
        if name in rates:
            return images / rates[name], words, rates[name]
    if config.model.engine != "gradient":
        return 0.0, "nothing, since they are not trained by gradients", 0.0
    macs = sum(row.macs for row in layer_table(build(config), config.data.in_shape))
    rule = f"a rule: 3 multiply-accumulates an image at {MACS_S:.0e} a second, {1e3 * UPDATE_S:g} ms an update"
    seconds = images * 3 * macs / MACS_S + images / config.batch_size.value * UPDATE_S
    return seconds, rule, images / seconds


def _packed(record: RunRecord) -> bool:
    return record.tags.get("lenet.timing") == "packed"


def _timed(record: RunRecord) -> bool:
    return {"time/total_s", "time/train_s"} <= record.metrics.keys()


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
