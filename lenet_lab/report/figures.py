"""Figures of the comparison as SVG and PNG bytes; the same facts give the same bytes on one machine.

Drawn with matplotlib's objects and its own defaults: neither the caller's figures nor a personal matplotlibrc
comes in. Labels are plain text, never TeX: they may hold anything.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lenet_lab.report.facts import CURVES, LEVEL, Arm, Facts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2328"
ALT = {
    "accuracy": "Test accuracy of each arm: every seed, mean and interval",
    "learning_curves": "Learning curves of each arm: mean and range over seeds by epoch",
}
# More arms than these do not fit one picture; the tables have them all.
MOST_ROWS, MOST_CURVES = 40, 10

# Dark and light enough to be told from a black and a white page alike (contrast 3:1 and more).
_COLOURS = (
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
_DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "lenet_lab",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.formatter.useoffset": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "savefig.dpi": 160,
}  # fmt: skip


def render(facts: Facts) -> dict[str, bytes]:
    """Every figure that the facts have something for, as `<name>.svg` and `<name>.png`."""
    import matplotlib

    drawings = {"accuracy": _accuracy, "learning_curves": _learning_curves}
    files = {}
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes; the tables have it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcParams.update(matplotlib.rcParamsDefault)
        matplotlib.rcParams.update(_STYLE)
        for name, draw in drawings.items():
            if (figure := draw(facts)) is not None:
                files[f"{name}.svg"] = _saved(figure, "svg", {"Date": None, "Creator": None, "Title": ALT[name]})
                files[f"{name}.png"] = _saved(figure, "png", {"Software": None})
    return files


def _accuracy(facts: Facts) -> Figure | None:
    """One line an arm: its seeds as points, mean and t interval."""
    from matplotlib.figure import Figure

    drawn = [arm for arm in facts.arms if "test/acc" in arm.metrics]
    shown = drawn[:MOST_ROWS]
    if not shown:
        return None
    figure = Figure(figsize=(10.6, 1.1 + 0.34 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    for row, arm in enumerate(shown):
        accuracy = arm.metrics["test/acc"]
        seeds = [100 * value for value in accuracy.values]
        axes.plot(seeds, [row + 0.18] * accuracy.n, "o", ms=4.5, mew=0, alpha=0.8, color=_COLOURS[0])
        if accuracy.low is not None and accuracy.high is not None:
            axes.plot([100 * accuracy.low, 100 * accuracy.high], [row, row], "-", lw=1.6, color=INK)
        axes.plot([100 * accuracy.mean], [row], "D", ms=5, color=INK)
    axes.set_yticks(range(len(shown)), [_short(arm) + _suffix(arm) for arm in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.set_xlabel(f"test accuracy, %   (diamond: mean; line: {LEVEL:.0%} t interval; dots: seeds)")
    if len(shown) < len(drawn):
        axes.set_title(f"the first {len(shown)} of {len(drawn)} arms by mean")
    return figure


def _learning_curves(facts: Facts) -> Figure | None:
    """One panel a metric: the mean over seeds of each arm, and the range as a band."""
    from matplotlib.figure import Figure

    drawn = [arm for arm in facts.arms if arm.curves]
    shown = drawn[:MOST_CURVES]
    panels = [name for name in CURVES if any(name in arm.curves for arm in shown)]
    if not panels:
        return None
    rows = -(-len(shown) // 2)
    figure = Figure(figsize=(3.4 * len(panels) + 0.4, 3.2 + 0.19 * rows), layout="constrained")
    for place, name in enumerate(panels, 1):
        _panel(figure.add_subplot(1, len(panels), place), name, shown)
    handles: dict[Any, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = [_short(arm) for arm in shown]
    keys = [handles[f"arm {i}"] for i in range(len(shown)) if f"arm {i}" in handles]
    kept = [labels[i] for i in range(len(shown)) if f"arm {i}" in handles]
    title = f"the first {len(shown)} of {len(drawn)} arms by mean" if len(shown) < len(drawn) else None
    figure.legend(keys, kept, loc="outside lower center", ncols=2 if len(shown) > 1 else 1, frameon=False, title=title)
    return figure


def _panel(axes: Axes, name: str, arms: Sequence[Arm]) -> None:
    from matplotlib.ticker import MaxNLocator

    scale = 100 if name.endswith("/acc") else 1
    for i, arm in enumerate(arms):
        if name not in arm.curves:
            continue
        band = arm.curves[name]
        colour = _COLOURS[i % len(_COLOURS)]
        mean, low, high = ([scale * v for v in values] for values in (band.mean, band.low, band.high))
        if max(band.n) > 1:
            axes.fill_between(band.steps, low, high, color=colour, alpha=0.18, lw=0)
        axes.plot(band.steps, mean, color=colour, lw=1.6, ls=_DASHES[i % len(_DASHES)], marker="o", ms=3,
                  label=f"arm {i}")  # fmt: skip
    kind, _, what = name.partition("/")
    kind = {"val": "validation", "train": "training"}.get(kind, kind)
    axes.set_title(f"{kind} accuracy, %" if what == "acc" else f"{kind} {what}")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid()


def _short(arm: Arm, most: int = 60) -> str:
    return arm.label if len(arm.label) <= most else arm.label[: most - 1] + "…"


def _suffix(arm: Arm) -> str:
    return f"  (+{len(arm.diverged)} diverged)" if arm.diverged else ""


def _saved(figure: Figure, kind: str, metadata: dict[str, str | None]) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=kind, facecolor="white", metadata=metadata)
    return content.getvalue()
