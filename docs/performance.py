"""Writes docs/performance.md and its picture from measurements: python docs/performance.py (after `make bench`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lenet_lab.bench import Row, markdown

HERE = Path(__file__).resolve().parent
PAGE, DATA, PICTURE = HERE / "performance.md", HERE / "data" / "bench.json", HERE / "images" / "profile.png"
GPU_DATA = HERE / "data" / "bench-gpu.json"
GPU_EPOCH = HERE / "data" / "bench-gpu-epoch.json"
OTHER_DATA = HERE / "data" / "bench-other.json"  # parts of it, measured on another machine
SECTIONS = (
    (
        "epoch",
        "A training epoch",
        """Everything from the end of one epoch to the end of the next, in one process with all cores: `bare loop` is the
loop that people write over tensors in memory, with torch's defaults; `fastest loop` is the same loop with the memory format, convolutions
and optimizer that are fastest, found by trying all; `Lightning` is a LightningModule with torchvision's data set, transforms and a
`DataLoader`, its bars, loggers and checkpoints off; `2 workers` with that many loader processes, kept between epochs. The goals: at
least 1/1.05 of the fastest loop from batch 32 on, 1/1.15 at batch 8. Read the ratios with care: that of one round differs by a
fifth either way.""",
    ),
    (
        "again",
        "Batch 32 once more",
        """More rounds of these two, on the same day.""",
    ),
    (
        "packed",
        "Many runs",
        """`one at a time`: runs one after the other, each with all cores. `side by side`: a run a core, one thread each, as
sweeps do it. `packs of 16`: a pack a core (`hydra/launcher=packed`). Rates are sums over all processes.""",
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
matrices, and copying. An image counts six operations a multiply-accumulate (four in the first layer, whose input needs no gradient; the
rows below are from before that and a tenth too high in arithmetic), and its activations written and read once forward and once
backward; on a CPU, whose caches hold them, weights are left out. On a GPU the goal is 100 times one run at a time with 256 replicas, for
batches of 8 and 32.""",
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
nothing else; `first step` is the command line up to the first step of training, on a store that is there. A `job in a warm process` is a job of a
sweep but the first, whose training takes next to nothing: its fixed cost. The goals: help and completion within 0.2 s of an empty Hydra
application, a job under 2.5 s, under 0.5 s with `tracking.artifacts=minimal`.""",
    ),
    (
        "stores",
        "Stores with 10,000 runs",
        """Copies of a real run, in 100 arms, in one SQLite store. The goals: `status` under 5 s, the report under 30 s and 500 MB, the first
step of a run within 1.5 times that on a nearly empty store.""",
    ),
)
LIMITS = """## Where the time goes, and what limits it

![shares of an epoch's time](images/profile.png)

Shares by torch's profiler, one thread, the set-up of training included; the profiler itself makes the last part larger than it is. At
batch 8 the operators are so small that calling them is most of the work: there it pays to train many replicas as one
(`hydra/launcher=packed`), which calls each operator once for all. With larger batches convolutions, tanh and pooling take over, and two threads
share an operator of this size badly: one thread a run and as many runs as cores is what the machine does best."""
GUIDANCE = """## What follows for users

- Leave `trainer.threads` and `sweep.workers` alone: a sweep runs a job a core with one thread each; a single run takes all cores.
- Small batches and many seeds: `hydra/launcher=packed`.
- The memory format, oneDNN and fused updates are chosen by batch size and by batch norm, which threads share badly in channels-last
  (`lenet_lab/engines/execution.py` says from which measurements), written into the run's execution record, and restored when a run is gone on
  with or trained again.
- Subnormal numbers count as zero while a network trains on the CPU. Networks whose gradients get that small crawl otherwise: two epochs with
  `head=rbf_gaussian` took 101 s, and take 20 (n=1 each).
- Images are evaluated 250 at a time on the CPU, where what lies between the layers stays in its cache: 0.77 to 0.96 of the time of 2,000
  at a time.
- `torch.compile` is used for packs on single images, as of the network of 1998, of 200,000 updates and more, without dropout and early stopping: a
  pack of five trains 1.7 times as fast, after 25 to 53 seconds of compiling. Elsewhere a step takes 0.83 to 1.35 times as long as uncompiled. `trainer.compile=true` and `false` say otherwise
  (`lenet_lab/engines/compiling.py` has the measurements). What was compiled lies in the user's cache, in `lenet_lab/compiled`.
- Max pooling of contiguous maps (those of batch norm, above all) goes by whole-tensor operations on the CPU: 0.42 to 0.54 of the time of torch's kernel
  forward and backward and a tenth of it forward alone, with the same numbers (`lenet_lab/blocks/maximum.py`).
- How little training it takes, ten seeds each, on 2 cores: to 99.0% two epochs, 8.6 s (99.10% on average, nine of ten seeds there;
  `experiment=speedrun`, [report](studies/speedrun/report.md)); to 99.34%, the best test accuracy that was printed of this network, three epochs, 15.5 s
  (99.38%, 99.33 to 99.43, seven of ten; four epochs, 21.3 s: 99.42%, nine of ten; `experiment=speedrun_9934`,
  [report](studies/speedrun_9934/report.md)). The headers of the files say how the recipes were found.
- `tracking.artifacts=minimal` keeps configuration, predictions and weights, for sweeps of hundreds of short runs.

## Measure your own

```
python -m lenet_lab bench                  # an epoch
python -m lenet_lab bench packed side      # many runs
make bench                                 # all of it, into docs/data/bench.json and this page
```"""


def page(
    measured: dict[str, Any], on_gpu: dict[str, Any] | None = None, elsewhere: dict[str, Any] | None = None
) -> str:
    """The page of these measurements."""
    parts = [
        "# Performance",
        "<!-- written by docs/performance.py from docs/data/bench.json -->",
        f"Measured with `python -m lenet_lab bench` on: {measured['machine']}.",
        "Contenders run in processes of their own and are asked in turn; a ratio is the median over rounds of two contenders' quotient within "
        "one round, n is the number of rounds. A goal is stated before the ratio that it was set for.",
    ]
    parts += _sections(measured)
    if elsewhere is not None:
        parts += [f"## On another machine\n\nMeasured on: {elsewhere['machine']}.", *_sections(elsewhere, "#")]
    if on_gpu is None:
        parts += ["## On a GPU", "Not measured yet: `make bench-gpu` does it, on a machine that has one."]
    else:
        parts += [f"## On a GPU\n\nMeasured on: {on_gpu['machine']}.", *_sections(on_gpu, "#")]
    return "\n\n".join([*parts, LIMITS, GUIDANCE]) + "\n"


def _sections(measured: dict[str, Any], deeper: str = "") -> list[str]:
    rows, parts = [_row(fields) for fields in measured["rows"]], []
    for case, title, about in SECTIONS:
        chosen = [row for row in rows if row.case == case]
        if chosen:
            parts += [f"##{deeper} {title}", about, markdown(chosen)]
            behind = [row.setting for row in chosen if row.contender == "bare loop" and row.ratio and row.ratio > 1]
            if behind:
                parts.append(
                    f"In {'; '.join(behind)} the bare loop was ahead of the fastest: the trials that chose its way are "
                    "measurements too."
                )
    return parts


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
