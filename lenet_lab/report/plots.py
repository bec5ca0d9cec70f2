"""Figures of any comparison: values, differences, learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lenet_lab.report.facts import CURVES, MOST_CURVES, Arm, Facts
from lenet_lab.report.question import measure
from lenet_lab.stats.stray import stray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2328"
# More arms than these do not fit one picture; the tables have them all.
MOST_ROWS = 40
# Dark and light enough to be told from a black and a white page alike (contrast 3:1 and more).
COLOURS = (
    "#2f7fc1",
    "#c4641a",
    "#1f9150",
    "#a05fc0",
    "#d1453b",
    "#128a94",
    "#c9518f",
    "#8a7d1a",
    "#7a6ff0",
    "#7d7d7d",
)
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))
MARKS = "osD^vPX<>h"


def accuracy(facts: Facts) -> Figure:
    """One line an arm: its seeds as points, mean and t interval; a filled diamond may be the best."""
    asked = measure(facts.metric)
    drawn = [arm for arm in facts.arms if facts.metric in arm.metrics]
    shown = drawn[:MOST_ROWS]
    figure = new(10.6, 1.1 + 0.34 * len(shown))
    axes = figure.add_subplot()
    for row, arm in enumerate(shown):
        spread = arm.metrics[facts.metric]
        seeds = [asked.scale * value for value in spread.values]
        axes.plot(seeds, [row + 0.18] * spread.n, "o", ms=4.5, mew=0, alpha=0.8, color=COLOURS[0])
        if spread.low is not None and spread.high is not None:
            axes.plot([asked.scale * spread.low, asked.scale * spread.high], [row, row], "-", lw=1.6, color=INK)
        fill = "none" if arm.best is False or arm.diverged else INK
        axes.plot([asked.scale * spread.mean], [row], "D", ms=5, mec=INK, mfc=fill)
    far = {arm.number: stray(arm.metrics[facts.metric].values, asked.sign) for arm in shown}
    if any(far.values()):  # drawn to them, the others would lie on each other
        near = []
        for arm in shown:
            spread, gone = arm.metrics[facts.metric], far[arm.number]
            near += [value for value in spread.values if value not in gone]
            near += [end for end in (spread.low, spread.high) if end is not None and not gone]
        _within(axes, [asked.scale * value for value in near])
        for row, arm in enumerate(shown):
            _outside(axes, row + 0.18, [asked.scale * value for value in far[arm.number]], asked.places, COLOURS[0])
    axes.set_yticks(range(len(shown)), [_line(arm) for arm in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(axis="x")
    marked = "filled diamond: mean, may be the best; open: mean" if any(a.best for a in shown) else "diamond: mean"
    axes.set_xlabel(f"{lower(asked.head)}   ({marked}; line: {facts.level:.0%} t interval; dots: seeds)")
    if len(shown) < len(drawn):
        axes.set_title(f"the first {len(shown)} of {len(drawn)} arms by mean")
    return figure


def differences(facts: Facts) -> Figure:
    """One line a comparison: the mean difference and its t interval about zero."""
    asked = measure(facts.metric)
    drawn = [one for one in facts.contrasts if one.mean is not None]
    shown = drawn[:MOST_ROWS]
    figure = new(10.6, 1.1 + 0.3 * len(shown))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, lw=1, alpha=0.6)
    for row, one in enumerate(shown):
        told = one.reading in ("better", "worse")
        colour = COLOURS[0] if told else COLOURS[9]
        if one.low is not None and one.high is not None:
            axes.plot([asked.scale * one.low, asked.scale * one.high], [row, row], "-", lw=1.8, color=colour)
        axes.plot([asked.scale * (one.mean or 0)], [row], "D", ms=5.5, mec=colour, mfc=colour if told else "white")
    away = {
        arm.number
        for arm in facts.arms
        if facts.metric in arm.metrics and stray(arm.metrics[facts.metric].values, asked.sign)
    }
    near = [
        asked.scale * end
        for one in shown
        if not away & {one.arm, one.base}
        for end in (one.low, one.mean, one.high)
        if end is not None
    ]
    if near and away:
        _within(axes, [0.0, *near])
        for row, one in enumerate(shown):
            if away & {one.arm, one.base}:
                _outside(axes, row - 0.32, [asked.scale * (one.mean or 0)], asked.places, COLOURS[0])
    single = len({one.base for one in shown}) == 1
    labels = [
        short(facts.arm(one.arm)) if single else f"{short(facts.arm(one.arm), 34)} − {short(facts.arm(one.base), 34)}"
        for one in shown
    ]
    axes.set_yticks(range(len(shown)), labels)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(axis="x")
    unit = f", {asked.points}" if asked.points else ""
    less = f" less that of {short(facts.arm(shown[0].base))}" if single else " of the first less the second"
    axes.set_xlabel(f"{asked.words}{less}{unit}\n(filled: told apart; line: {facts.level:.0%} paired t interval)")
    if len(shown) < len(drawn):
        axes.set_title(f"the first {len(shown)} of {len(drawn)} comparisons")
    return figure


def _within(axes: Axes, values: Sequence[float]) -> None:
    """Show these, with a margin; what lies beyond is cut off."""
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 1.0
    axes.set_xlim(low - margin, high + margin)


def _outside(axes: Axes, row: float, values: Sequence[float], places: int, colour: str) -> None:
    """Numbers, at the edge that they lie beyond."""
    low, high = axes.get_xlim()
    for place, arrow, side, gone in (
        (0.005, "◂ {}", "left", [value for value in values if value < low]),
        (0.995, "{} ▸", "right", [value for value in values if value > high]),
    ):
        if gone:
            text = arrow.format(", ".join(f"{value:,.{places}f}".replace("-", "−") for value in gone))
            axes.text(
                place, row, text, transform=axes.get_yaxis_transform(), ha=side, va="center", size=8, color=colour
            )


def learning_curves(facts: Facts) -> Figure:
    """One panel a metric: the mean over seeds of each arm, and the range as a band."""
    shown = [arm for arm in facts.arms if arm.curves]
    panels = [name for name in CURVES if any(name in arm.curves for arm in shown)]
    rows = -(-len(shown) // 2)
    figure = new(
        max(3.4 * len(panels) + 0.4, 7.2 if len(shown) > 1 else 0), 3.2 + 0.19 * rows
    )  # the key has its own width
    for place, name in enumerate(panels, 1):
        _panel(figure.add_subplot(1, len(panels), place), name, shown)
    cut = len(shown) == MOST_CURVES and len(facts.arms) > MOST_CURVES
    key(figure, shown, f"the first {len(shown)} of {len(facts.arms)} arms by mean" if cut else None)
    return figure


def key(figure: Figure, arms: Sequence[Arm], title: str | None = None) -> None:
    """One legend for all panels, below them."""
    handles: dict[Any, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    kept = [arm for arm in arms if arm.short in handles]
    figure.legend(
        [handles[arm.short] for arm in kept], [f"{arm.short}  {short(arm)}" for arm in kept],
        loc="outside lower center", ncols=2 if len(kept) > 1 else 1, frameon=False, title=title,
    )  # fmt: skip


def style(arm: Arm) -> dict[str, Any]:
    """Colour, dash and mark of an arm, the same in every figure."""
    i = arm.number - 1
    return {"color": COLOURS[i % len(COLOURS)], "ls": DASHES[i % len(DASHES)], "marker": MARKS[i % len(MARKS)]}


def new(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def short(arm: Arm, most: int = 60) -> str:
    return arm.label if len(arm.label) <= most else arm.label[: most - 1] + "…"


def lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _line(arm: Arm) -> str:
    diverged = f"  (+{len(arm.diverged)} diverged)" if arm.diverged else ""
    return f"{short(arm)}  {arm.short}{diverged}"


def _panel(axes: Axes, name: str, arms: Sequence[Arm]) -> None:
    from matplotlib.ticker import MaxNLocator

    scale = 100 if name.endswith("/acc") else 1
    for arm in arms:
        if name not in arm.curves:
            continue
        band = arm.curves[name]
        look = style(arm)
        mean, low, high = ([scale * v for v in values] for values in (band.mean, band.low, band.high))
        if max(band.n) > 1:
            axes.fill_between(band.steps, low, high, color=look["color"], alpha=0.15, lw=0)
        axes.plot(band.steps, mean, lw=1.6, ms=3.5, label=arm.short, **look)
    kind, _, what = name.partition("/")
    kind = {"val": "validation", "train": "training"}.get(kind, kind)
    axes.set_title(f"{kind} accuracy, %" if what == "acc" else f"{kind} {what}")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid()
