"""Writes docs/performance.md and its picture from measurements: python docs/performance.py (after `make bench`)."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lenet_lab.bench import Row, judged, markdown
from lenet_lab.bench.profile import PYTHON

HERE = Path(__file__).resolve().parent
PAGE, DATA, PICTURE = HERE / "performance.md", HERE / "data" / "bench.json", HERE / "images" / "profile.png"
GPU_DATA = HERE / "data" / "bench-gpu.json"
GPU_EPOCH = HERE / "data" / "bench-gpu-epoch.json"
OTHER_DATA = HERE / "data" / "bench-other.json"  # parts of it, measured on another machine
STUDIES = HERE / "studies"
HEAVY = ("convolution, backward", "convolution, forward", "tanh", "pooling")
SECTIONS = (
    (
        "epoch",
        "A training epoch",
        """Everything from the end of one epoch to the end of the next, in one process with all cores, the same number of images for
each: `bare loop` is the loop that people write over tensors in memory, with torch's defaults and malloc's; `fastest loop` is the same loop with
the memory format, convolutions and optimizer that are fastest, found by trying all, and the harness's setting of malloc; `Lightning` is a
LightningModule with torchvision's data set, transforms and a `DataLoader`, its bars, loggers and checkpoints off (on a GPU with as many
images as on a CPU, which take it seconds); `2 workers` with that many loader processes, kept between epochs. The goals: at least 1/1.05 of the
fastest loop from batch 32 on, 1/1.15 at batch 8; on a CPU no slower than the bare loop, and 3 times as fast as Lightning at batch 128. Read the ratios with
care: that of one round differs by a fifth either way.""",
    ),
    (
        "again",
        "Once more",
        """More rounds of these two where their ratio lies near its goal.""",
    ),
    (
        "packed",
        "Many runs: training alone",
        """`one at a time`: runs one after the other, each with all cores. `side by side`: a run a core, one thread each, as
sweeps do it. `packs of 16`: a pack a core (`hydra/launcher=packed`). Rates are sums over all processes. Training epochs alone: validation,
checkpoints, tracking, the test and its figures, composing and the start of a sweep are left out. Those take their time in packs too, so a whole sweep can
gain less; `bench sweep` times that.""",
    ),
    (
        "sweep",
        "Whole sweeps",
        """`python -m lenet_lab -m seed="range(32)"` by the clock, from nothing, each with a store of its own: composing, training, validation,
checkpoints, tracking, the test and its figures. `jobs`: a process a run, as many at a time as cores. `packs`: the same with `hydra/launcher=packed`.""",
    ),
    (
        "side",
        "Side by side",
        """As many processes as cores, one thread each, at the same time; `one process` has all the threads. The goal: at
least 0.9 of bare loops side by side.""",
    ),
    (
        "replicas",
        "Packs of growing size",
        """One process with all cores, or one GPU. The shares are of what this device was measured to do at most: float32 products of large
matrices, and copying. An image counts six operations a multiply-accumulate (four in the first layer, whose input needs no gradient), and its activations
written and read once forward and once backward; on a CPU weights are left out. There the shares of memory mean little: caches hold the weights,
and the activations of small batches too, so that much of this traffic never gets to memory. On a GPU the goal is 100 times one run at a time with
256 replicas, for batches of 8 and 32.""",
    ),
    (
        "compiled",
        "Packs, compiled",
        """`torch.compile` translates the forward pass and the loss. On the CPU long packs on single images are compiled without asking
(`trainer.compile: null`); on a GPU `trainer.compile=true` asks for it, and packs get CUDA graphs where their inputs allow them. The time that compiling
takes is not in these rates.""",
    ),
    (
        "start",
        "Start-up",
        """Whole processes, from nothing, in empty folders. `bare imports` imports Hydra, torch, torchvision, Lightning and MLflow and
nothing else; `first step` is the command line until its first update is done, on a store that is there; both end at once, without taking the
libraries apart. A job: what one more adds to a sweep with one worker, composing and forking included, whose training takes next to nothing (eleven jobs less one, by
ten). The goals: help and completion within 0.2 s of an empty Hydra application, a job under 2.5 s, under 0.5 s with
`tracking.artifacts=minimal`.""",
    ),
    (
        "stores",
        "Stores with 10,000 runs",
        """Copies of a real run, in 100 arms, in one SQLite store. The beginning of a run: from opening the store until the run is claimed and begun, in a
process that has the imports behind it. The goals: `status` under 5 s, the report under 30 s and 500 MB, the beginning of a run within 1.5
times that on a nearly empty store.""",
    ),
)
# of measurements by a method before the second, until they are made again
BEFORE = {
    "epoch": """*These figures are from before two changes. Lightning had a quarter of the images, so that what an epoch costs it once weighed four times. The bare loop had
the harness's setting of malloc, with which batches of 512 are about a quarter faster; at smaller ones no difference was seen (`lenet_lab/engines/execution.py`).*""",
    "again": "*These rounds were measured on the same day as those above and put into the file by hand, as whole images a second.*",
    "side": "*These figures are from before the bare loops were left to torch's defaults: they had the harness's setting of malloc.*",
    "replicas": "*These figures are from before the first layer counted four: the shares of arithmetic are a tenth too high.*",
    "start": """*These figures are from before three changes. `bare imports` counted how the interpreter takes its leave of the libraries, more than a second, and
`first step` neither that nor the step itself, so that its ratio flatters the harness. A job was read from the sweep's own line, which
has one decimal and leaves out composing and forking, so that it was dearer than it seems here. Order was always the same.*""",
    "stores": """*These figures are from before the beginning of a run was timed by itself: `nearly empty store` and `full store` are whole processes up to the
first step, of which the imports, the same in both, are most; the first round is among them, and the order was always the same.*""",
}


# of measurements by a method before the third
KERNELS = dict.fromkeys(
    ("epoch", "again", "packed", "side", "replicas", "compiled"),
    """*These figures are from before average pooling, tanh and the memory format were made faster: the harness now does better than here, packs not compiled too.*""",
)


def limits(rows: Sequence[Row]) -> str:
    """Where the time goes, in the figures of these measurements."""
    shares = {batch_of(row): row for row in rows if row.case == "profile" and row.contender == PYTHON}
    arithmetic = {
        batch: sum(
            row.median for row in rows if row.case == "profile" and batch_of(row) == batch and row.contender in HEAVY
        )
        for batch in shares
    }
    alone = {batch_of(row): row.ratio for row in rows if (row.case, row.contender) == ("side", "one process")}
    parts = [
        "## Where the time goes, and what limits it",
        "![shares of an epoch's time](images/profile.png)",
    ]
    if shares:
        parts.append(
            f"Shares by torch's profiler, one process by itself, one thread, {len(next(iter(shares.values())).values)} rounds, the set-up of "
            "training included; the profiler itself makes the last part larger than it is. What lies between the operators (Python, autograd's engine, "
            f"Lightning) takes {by_batch({batch: f'{row.median:.0f}%' for batch, row in shares.items()})}: the smaller the batch, the more "
            "there is to gain by training many replicas as one (`hydra/launcher=packed`), which calls each operator once for all. Convolutions, "
            f"tanh and pooling take {by_batch({batch: f'{share:.0f}%' for batch, share in arithmetic.items()})}."
        )
        if any(row.method < 3 for row in shares.values()):
            parts.append("*These shares are from before pooling and tanh were made faster.*")
    if alone:
        parts.append(
            "Threads share the operators of small batches badly: one process with all cores trains "
            f"{by_batch({batch: f'{ratio:.2f}' for batch, ratio in alone.items()})} of what a process a core does. {packs(rows)}".strip()
        )
    behind = [row for row in rows if (row.case, row.contender, row.against) == ("epoch", "harness", "fastest loop")]
    behind = [row for row in behind if row.ratio and row.goal and row.ratio < row.goal]
    if behind:
        parts.append(
            f"Where the harness is behind its goal against the fastest loop ({'; '.join(row.setting for row in behind)}) it does what that loop does not: sums of "
            "losses and of right answers at every step, and Lightning's hooks around it."
        )
    if gains(rows, "packs").get(8, 2.0) < 2:
        parts.append(
            "What keeps packs of 16 below twice at batch 8 on this processor: convolutions of few maps, in groups, take 46% of a step's operators, without oneDNN, "
            "which is no faster there (torch's profiler, 20 steps of one thread, once); as products of unfolded images they took as long."
        )
    return "\n\n".join(parts)


def gains(rows: Sequence[Row], what: str) -> dict[int, float]:
    """How many times what one run at a time trains, by batch: packs, or runs side by side; in training alone."""
    return {
        batch_of(row): row.ratio
        for row in rows
        if row.case == "packed" and row.contender.startswith(what) and row.ratio
    }


def packs(rows: Sequence[Row]) -> str:
    """What packs and runs side by side gain, in words."""
    packed, side = gains(rows, "packs"), gains(rows, "side")
    if not packed or packed.keys() != side.keys():
        return ""
    ahead = [batch for batch, ratio in packed.items() if ratio > side[batch]]
    where = f"at batch {', '.join(map(str, ahead))}" if ahead else "nowhere"
    where = "in every row" if len(ahead) == len(packed) else where
    return (
        "In training alone, a run a core with one thread each brings "
        f"{by_batch({batch: f'{ratio:.2f} times' for batch, ratio in side.items()})} what one run at a time does, packs of 16, a pack a core, "
        f"{by_batch({batch: f'{ratio:.2f} times' for batch, ratio in packed.items()})}: packs are ahead {where}."
    )


def by_batch(figures: Mapping[int, str]) -> str:
    """Figures in words: 49% at batch 8, 32% at 32 and 21% at 128."""
    words = [f"{figure} at {'batch ' * (not index)}{batch}" for index, (batch, figure) in enumerate(figures.items())]
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])


def batch_of(row: Row) -> int:
    """The batch size that a setting begins with."""
    found = re.match(r"batch (\d+)", row.setting)
    return int(found[1]) if found else 0


def compiling(rows: Sequence[Row]) -> str:
    """What compiling a pack brings, in the figures of these measurements."""
    said = [
        f"{row.ratio:.2f} times as fast at {row.setting.removesuffix(', 1 thread')} (n={len(row.values)})"
        for row in rows
        if (row.case, row.contender) == ("compiled", "compiled") and row.ratio
    ]
    return f"Compiled packs train {'; '.join(said)} as uncompiled ones." if said else ""


def speedrun(name: str, epochs: int, least: float) -> str:
    """A study's arm of so many epochs: accuracy with its interval, seconds with their spread, and the seeds that got there."""
    folder = STUDIES / name
    (arm,) = (row for row in _table(folder / "arms.csv") if row["params.epochs"] == str(epochs))
    mine = [float(row["metrics.test/acc"]) for row in _table(folder / "runs.csv") if row["arm"] == f"epochs={epochs}"]
    mean, low, high = (100 * float(arm[f"test/acc.{what}"]) for what in ("mean", "low", "high"))
    seconds, spread = float(arm["time/train_s.mean"]), float(arm["time/train_s.sd"])
    there = sum(accuracy >= least - 1e-9 for accuracy in mine)
    return (
        f"{epochs} epochs, {seconds:.1f} ± {spread:.1f} s of training: {mean:.2f}% on average ({low:.2f} to {high:.2f}), {there} of {len(mine)} "
        "seeds there"
    )


def _table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def guidance(rows: Sequence[Row], elsewhere: Sequence[Row]) -> str:
    """What follows for users; figures that are in no file name the place where they were written down."""
    times = by_batch({batch: f"{ratio:.2f} times" for batch, ratio in gains(rows, "packs").items()})
    small = "- Small batches and many seeds: `hydra/launcher=packed`" + (
        f", which trains {times} as fast as one run at a time." if times else "."
    )
    return f"""## What follows for users

- Leave `trainer.threads` and `sweep.workers` alone: a sweep runs a job a core with one thread each; a single run takes all cores.
{small}
- The memory format, oneDNN and fused updates are chosen by batch size, threads, pooling and batch norm (`lenet_lab/engines/execution.py` says from which
  measurements), written into the run's execution record, and restored when a run is gone on with or trained again.
- Subnormal numbers count as zero while a network trains on the CPU. Networks whose gradients get that small crawl otherwise: two epochs with
  `head=rbf_gaussian` took 101 s, and take 20 (n=1 each, one thread; `lenet_lab/engines/execution.py`).
- Images are evaluated 250 at a time on the CPU, where what lies between the layers stays in its cache: 0.77 to 0.96 of the time of 2,000
  at a time (one thread; `lenet_lab/data/module.py`).
- `torch.compile` is used for packs on single images, as of the network of 1998, of 200,000 updates and more, without dropout and early stopping.
  {compiling([*rows, *elsewhere])} Compiling takes 25 to 53 seconds. By `lenet_lab/engines/compiling.py` (one thread of an EPYC, medians of 4
  rounds) a step that is not of such a pack takes 0.89 to 1.29 times as long as uncompiled. `trainer.compile=true` and `false` say otherwise. What was compiled lies in
  the user's cache, in `lenet_lab/compiled`.
- Max and average pooling of large maps go by whole-tensor operations on the CPU, with the same numbers: average pooling takes a quarter of the time of torch's
  kernel on contiguous maps (half on channels-last ones), max pooling half. Tanh goes by oneDNN's kernel, in a fifth to a quarter of the time, with the same
  precision (`lenet_lab/blocks/average.py`, `maximum.py`, `tanh.py`: medians of 7 to 60 calls, one thread of an EPYC). On contiguous maps, average pooling and
  tanh in these ways train 1.14 times as many images a second at batch 32 and 1.41 times at 128 with one thread, 1.24 times at 128 and 1.32 times at 512 with two
  (medians of 4 alternating rounds). With two threads and batches of 32 they did not pay (0.84 times, ranges
  that overlap); average pooling there goes by torch's kernel.
- How little training it takes, ten seeds each, one run at a time with two threads (which processor was not recorded); means with 95% intervals, seconds with standard
  deviations. To 99.0%: {speedrun("speedrun", 2, 0.99)}; {speedrun("speedrun", 3, 0.99)}
  (`experiment=speedrun`, [report](studies/speedrun/report.md)). To 99.34%, the best test accuracy that was printed of this network:
  {speedrun("speedrun_9934", 3, 0.9934)}; {speedrun("speedrun_9934", 4, 0.9934)} (`experiment=speedrun_9934`,
  [report](studies/speedrun_9934/report.md)). The headers of the files say how the recipes were found.
- `tracking.artifacts=minimal` keeps configuration, predictions and weights, for sweeps of hundreds of short runs.

## Measure your own

```
python -m lenet_lab bench                    # an epoch
python -m lenet_lab bench packed side sweep  # many runs
make bench                                   # all of it, into docs/data/bench.json and this page
```"""


def page(
    measured: dict[str, Any], on_gpu: dict[str, Any] | None = None, elsewhere: dict[str, Any] | None = None
) -> str:
    """The page of these measurements."""
    parts = [
        "# Performance",
        "<!-- written by docs/performance.py from docs/data/bench.json -->",
        f"Measured with `python -m lenet_lab bench` on: {measured['machine']}.",
        "Contenders run in processes of their own and are asked in turn, every other round in reverse order, where nothing else is said; a ratio is the median over "
        "rounds of two contenders' quotient within one round, seconds beside it that of their difference, n is the number of rounds. A goal stands in the row of the "
        "ratio, or of the figure, that it speaks of; it is met or missed by the median.",
    ]
    parts += _sections(measured)
    if elsewhere is not None:
        parts += [f"## On another machine\n\nMeasured on: {elsewhere['machine']}.", *_sections(elsewhere, "#")]
    if on_gpu is None:
        parts += ["## On a GPU", "Not measured yet: `make bench-gpu` does it, on a machine that has one."]
    else:
        parts += [f"## On a GPU\n\nMeasured on: {on_gpu['machine']}.", *_sections(on_gpu, "#")]
    rows = _rows(measured)
    return "\n\n".join([*parts, limits(rows), guidance(rows, _rows(elsewhere or {"rows": []}))]) + "\n"


def _sections(measured: dict[str, Any], deeper: str = "") -> list[str]:
    rows, parts = _rows(measured), []
    for case, title, about in SECTIONS:
        chosen = [row for row in rows if row.case == case]
        if chosen:
            parts += [f"##{deeper} {title}", about]
            if case in BEFORE and any(row.method < 2 for row in chosen):
                parts.append(BEFORE[case])
            if case in KERNELS and any(row.method < 3 for row in chosen):
                parts.append(KERNELS[case])
            parts.append(markdown(chosen))
            behind = [row.setting for row in chosen if row.contender == "bare loop" and row.ratio and row.ratio > 1]
            if behind:
                parts.append(
                    f"In {'; '.join(behind)} the bare loop was ahead of the fastest: the trials that chose its way are "
                    "measurements too."
                )
    return parts


def _rows(measured: dict[str, Any]) -> list[Row]:
    return judged([_row(fields) for fields in measured["rows"]])


def _row(fields: dict[str, Any]) -> Row:
    return Row(**{**{k: v for k, v in fields.items() if k != "median"}, "values": tuple(fields["values"])})


def draw(measured: dict[str, Any], file: Path) -> None:
    """The shares of an epoch's time as bars, one a batch size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in map(_row, measured["rows"]) if row.case == "profile"]
    settings = list(dict.fromkeys(row.setting for row in rows))
    parts = list(dict.fromkeys(row.contender for row in rows))
    colours = (
        "#0072b2",
        "#56b4e9",
        "#009e73",
        "#b2df8a",
        "#e69f00",
        "#d55e00",
        "#cc79a7",
        "#f0e442",
        "#999999",
        "#dddddd",
    )
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    left = [0.0] * len(settings)
    for part, colour in zip(parts, colours, strict=True):
        shares = [
            next(row.median for row in rows if (row.setting, row.contender) == (setting, part)) for setting in settings
        ]
        axes.barh(settings, shares, left=left, color=colour, label=part, edgecolor="white", linewidth=0.5)
        for at, share, position in zip(left, shares, range(len(settings)), strict=True):
            if share >= 4:
                axes.text(at + share / 2, position, f"{share:.0f}", ha="center", va="center", fontsize=8)
        left = [at + share for at, share in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("% of an epoch's time")
    axes.set_xlim(0, 100)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=4, fontsize=8, frameon=False)
    figure.savefig(file, dpi=110)


def rendered() -> str:
    """The page of what lies in docs/data."""
    gpu, epoch, other = (
        json.loads(file.read_text()) if file.exists() else None for file in (GPU_DATA, GPU_EPOCH, OTHER_DATA)
    )
    if gpu and epoch:
        gpu["rows"] = epoch["rows"] + gpu["rows"]
    return page(json.loads(DATA.read_text()), gpu or epoch, other)


if __name__ == "__main__":
    PAGE.write_text(rendered())
    draw(json.loads(DATA.read_text()), PICTURE)
