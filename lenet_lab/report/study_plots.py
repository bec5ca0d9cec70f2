"""Figures of a study: interactions, error against cost, confusion matrices, the images that are got wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lenet_lab.report.facts import MOST_CURVES, Arm, Facts
from lenet_lab.report.plots import COLOURS, DASHES, INK, MARKS, key, lower, new, style
from lenet_lab.report.question import measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS, MOST_LEVELS = 6, 10
MOST_POINTS = 40
ON_WHITE = "#1f2329"  # ink on the white of a cell, which a dark page does not turn light
ALIKE = 1.01  # costs whose largest and smallest differ by less
_COSTS = {
    "params/macs": "multiply-accumulates an image",
    "params/total": "parameters",
    "time/train_s": "train time, s",
}


def interactions(facts: Facts) -> Figure:
    """A panel a pair of factors: parallel lines would mean that they do not interact."""
    asked = measure(facts.metric)
    pairs = crossed(facts)[:MOST_PANELS]
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    figure = new(max(6.2, 3.9 * columns), 3.7 * rows)
    for place, (first, second) in enumerate(pairs, 1):
        axes = figure.add_subplot(rows, columns, place)
        spots = {one.levels: one for one in facts.effects if one.factors == (first, second)}
        across = list(dict.fromkeys(levels[1] for levels in spots))
        for i, level in enumerate(dict.fromkeys(levels[0] for levels in spots)):
            ones = [spots[level, other] for other in across]
            shift = 0.05 * (i - 0.5)
            at = [x + shift for x in range(len(across))]
            look: dict[str, Any] = {"color": COLOURS[i % 10], "ls": DASHES[i % 3], "marker": MARKS[i % 10]}
            axes.plot(
                at, [asked.scale * one.mean for one in ones], lw=1.6, ms=5, label=f"{first}={_cut(level)}", **look
            )
            for x, one in zip(at, ones, strict=True):
                if one.mean_low is not None and one.mean_high is not None:
                    ends = [asked.scale * one.mean_low, asked.scale * one.mean_high]
                    axes.plot([x, x], ends, "-", lw=1.2, color=COLOURS[i % 10])
        axes.set_xticks(range(len(across)), [_cut(level) for level in across])
        axes.set_xlim(-0.4, len(across) - 0.6)
        axes.set_xlabel(second)
        axes.set_ylabel(lower(asked.head))
        axes.grid(axis="y")
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"mean, {facts.level:.0%} t interval over seeds", fontsize=9)
    return figure


def crossed(facts: Facts) -> list[tuple[str, ...]]:
    """The pairs of factors with few enough levels to be drawn."""
    levels: dict[tuple[str, ...], int] = Counter(one.factors for one in facts.effects)
    few = {one.factors[0] for one in facts.effects if len(one.factors) == 1 and levels[one.factors] <= MOST_LEVELS}
    return [pair for pair in levels if len(pair) == 2 and set(pair) <= few]


def costs(facts: Facts) -> dict[str, dict[int, float]]:
    """The costs in which arms differ by more than a hundredth: metric -> arm number -> mean."""
    found = {
        name: {arm.number: arm.metrics[name].mean for arm in facts.arms if {name, facts.metric} <= set(arm.metrics)}
        for name in _COSTS
    }
    return {
        name: points for name, points in found.items() if points and max(points.values()) > ALIKE * min(points.values())
    }


def pareto(facts: Facts) -> Figure:
    """A panel a cost; the line joins the arms that no other beats in both, by their means."""
    panels = costs(facts)
    figure = new(max(6.2, 3.9 * len(panels)), 3.6 + 0.1 * min(len(facts.arms), MOST_CURVES))
    for place, (name, points) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), place)
        _pareto(axes, facts, points)
        axes.set_xlabel(_COSTS[name])
    key(figure, facts.arms[:MOST_CURVES])
    return figure


def confusion(facts: Facts) -> Figure:
    """The mean mistakes of one arm or two, and the difference of the two."""
    from matplotlib.colors import LinearSegmentedColormap

    warm = LinearSegmentedColormap.from_list("warm", ["#ffffff", "#f2a65a", "#8f3a00"])
    two = LinearSegmentedColormap.from_list("two", ["#134f86", "#7db3de", "#ffffff", "#f2a65a", "#8f3a00"])
    matrices = [_mistaken(one.mean) for one in facts.confusions]
    most = max(float(np.nanmax(matrix)) for matrix in matrices) or 1.0
    panels: list[tuple[str, NDArray[np.float64], Any, float, float]] = [
        (f"{facts.arm(one.arm).short}: mean of {one.runs} runs", matrix, warm, 0.0, most)
        for one, matrix in zip(facts.confusions, matrices, strict=True)
    ]
    if len(matrices) == 2:
        apart = matrices[0] - matrices[1]
        size = float(np.nanmax(np.abs(apart))) or 1.0
        title = f"{facts.arm(facts.confusions[0].arm).short} less {facts.arm(facts.confusions[1].arm).short}"
        panels.append((title, apart, two, -size, size))
    figure = new(4.4 * len(panels), 4.3)
    for place, (title, matrix, colours, low, high) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        shades = colours.with_extremes(bad="#e4e8ec")
        axes.pcolormesh(matrix, cmap=shades, vmin=low, vmax=high, edgecolors="#d0d7de", linewidth=0.3)
        _numbers(axes, matrix, max(abs(low), abs(high)), signed=low < 0)
        k = len(matrix)
        axes.set_xticks(np.arange(k) + 0.5, [str(i) for i in range(k)])
        axes.set_yticks(np.arange(k) + 0.5, [str(i) for i in range(k)])
        axes.tick_params(length=0)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.set(title=title, xlabel="predicted class", ylabel="true class")
    return figure


def mistakes(facts: Facts, images: Mapping[int, NDArray[np.uint8]]) -> Figure:
    """A sheet of the images that most runs got wrong, dark ink on white, each with what was made of it."""
    shown = [one for one in facts.mistakes if one.index in images]
    columns = 10
    rows = -(-len(shown) // columns)
    figure = new(10.6, 0.2 + 1.5 * rows)
    for place, one in enumerate(shown, 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(255 - images[one.index].astype(np.float64), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        wrong, runs = sum(n for _, n, _ in one.wrong), sum(n for _, _, n in one.wrong)
        axes.set_title(f"{one.label} → {one.answer}", fontsize=9, loc="center", pad=3)
        axes.set_xlabel(f"{wrong} of {runs}", fontsize=8, labelpad=2)
    return figure


def _pareto(axes: Axes, facts: Facts, points: Mapping[int, float]) -> None:
    asked = measure(facts.metric)
    error = facts.metric.endswith("/acc")

    def height(arm: Arm) -> float:
        mean = arm.metrics[facts.metric].mean
        return 100 * (1 - mean) if error else asked.scale * mean

    sign = 1 if error else -asked.sign
    shown = [facts.arm(number) for number in sorted(points)][:MOST_POINTS]
    front, least = [], float("inf")
    for arm in sorted(shown, key=lambda arm: (points[arm.number], sign * height(arm))):
        if sign * height(arm) < least and not arm.diverged:
            front.append(arm)
            least = sign * height(arm)
    axes.plot([points[arm.number] for arm in front], [height(arm) for arm in front], "-", lw=1, color=INK, alpha=0.5)
    for arm in shown:
        look = {**style(arm), "ls": "none"}
        axes.plot([points[arm.number]], [height(arm)], ms=6.5, label=arm.short, **look)
        axes.annotate(
            arm.short, (points[arm.number], height(arm)), textcoords="offset points", xytext=(6, 4), fontsize=8
        )
    axes.set_ylabel(f"{asked.words.removesuffix(' accuracy')} error, %" if error else lower(asked.head))
    axes.margins(0.12)
    axes.locator_params(axis="x", nbins=5)
    axes.grid()


def _mistaken(mean: tuple[tuple[float, ...], ...]) -> NDArray[np.float64]:
    matrix = np.array(mean, dtype=float)
    np.fill_diagonal(matrix, np.nan)
    return matrix


def _numbers(axes: Axes, matrix: NDArray[np.float64], most: float, signed: bool) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value) and abs(value) >= 0.05:
            text = f"{value:+.1f}".replace("-", "−") if signed else f"{value:.1f}"
            colour = "white" if abs(value) > 0.62 * most else ON_WHITE
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=6.5, color=colour)


def _cut(text: str) -> str:
    return text if len(text) <= 18 else text[:17] + "…"
