"""The learning curves of two sides in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lenet_lab.report.run_figures import BLUE, INK, ORANGE, PAPER

Points = Sequence[tuple[int, float]]
# label of a side -> metric -> one curve a run
Sides = Mapping[str, Mapping[str, Sequence[Points]]]


def curves(path: Path, sides: Sides, metrics: Sequence[str]) -> None:
    """Write a PNG: a panel a metric, a colour a side, a thin line a run and a thick one their mean."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    shown = [name for name in metrics if any(side.get(name) for side in sides.values())]
    figure = Figure(figsize=(3.6 * max(1, len(shown)) + 0.4, 3.6), layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    looks = list(zip(sides, (BLUE, ORANGE), ("solid", (0, (5, 2))), strict=True))
    for place, name in enumerate(shown, 1):
        axes = figure.add_subplot(1, len(shown), place)
        scale = 100 if name.endswith("/acc") else 1
        for label, colour, dash in looks:
            runs = [[(step, scale * value) for step, value in points] for points in sides[label].get(name, ())]
            for points in runs if len(runs) > 1 else ():
                axes.plot(*zip(*points, strict=True), color=colour, lw=0.7, alpha=0.45)
            average = mean(runs)
            if average:
                axes.plot(*zip(*average, strict=True), color=colour, lw=1.9, ls=dash, marker="o", ms=3)
        axes.set_title(f"{name}, %" if scale == 100 else name, fontsize=10, loc="left", color=INK)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    handles = [Line2D([], [], color=colour, ls=dash, lw=1.9) for _, colour, dash in looks]
    names = [label.replace("$", r"\$") for label, _, _ in looks]
    figure.legend(handles, names, loc="outside lower center", frameon=False, fontsize=9)
    figure.savefig(path, format="png", dpi=130, metadata={"Software": None})


def mean(runs: Sequence[Points]) -> list[tuple[int, float]]:
    """The mean over the runs at each epoch that all of them reached."""
    if not runs:
        return []
    values = [dict(points) for points in runs]
    steps = sorted(set.intersection(*(set(points) for points in values)))
    return [(step, sum(points[step] for points in values) / len(values)) for step in steps]


def spark(values: Sequence[float], low: float, high: float, width: int = 40) -> str:
    """A curve as one line of block characters on the scale low to high; of more than `width` values every so many."""
    blocks = "▁▂▃▄▅▆▇█"
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    span = high - low
    return "".join(blocks[min(7, int(8 * (value - low) / span)) if span > 0 else 3] for value in values)
