"""The figures of one run, as PNG files: learning curves, confusion matrix, sheets of pictures.

Margins are set by hand: matplotlib's constrained layout takes as long as the drawing itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

INK, PAPER, BLUE, ORANGE = "#1b1f24", "#ffffff", "#1f5fa8", "#c4571a"
MOST_NAMED = 40  # classes up to which a confusion matrix shows its counts


@dataclass(frozen=True, eq=False)
class Tile:
    """Pictures below each other under a line or two of text: ink (k, H, W), 0 empty ground and 1 full ink."""

    label: str
    ink: NDArray[np.float32]
    colour: str = INK


def curves(path: Path, title: str, log_book: Sequence[Mapping[str, float]]) -> None:
    """Loss and error (percent) by epoch, training beside validation; on a log scale where they fall tenfold."""
    figure, head = _figure(title, 9.0, 3.5)
    both = figure.subplots(1, 2)
    figure.subplots_adjust(
        left=0.075, right=0.985, bottom=0.14, top=1 - (head + 0.2) / figure.get_figheight(), wspace=0.15
    )
    epochs = [row["epoch"] for row in log_book]
    names = {
        "train": ("training (running mean)", BLUE),
        "val": ("validation", ORANGE),
        "test_curve": ("test (shown only)", INK),
    }
    for axes, what in zip(both, ("loss", "error, %"), strict=True):
        shown = []
        for split, (label, colour) in names.items():
            if log_book and f"{split}/loss" in log_book[0]:
                values = [
                    row[f"{split}/loss"] if what == "loss" else 100 * (1 - row[f"{split}/acc"]) for row in log_book
                ]
                axes.plot(epochs, values, label=label, color=colour, marker="o", markersize=3.5)
                shown += values
        _scale(axes, shown)
        axes.set_xlabel("epoch")
        axes.set_title(what, loc="left", fontsize=10)
        axes.set_xlim(0.7, max(len(epochs), 1) + 0.3)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    both[0].legend(frameon=False)
    _save(figure, path)


def confusion(path: Path, title: str, matrix: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Counts with the diagonal blanked in colour, so that mistakes are what one sees."""
    names = _short(classes)
    count, longest = len(names), max(map(len, names))
    side = min(max(4.4, 0.44 * count), 14.0)
    margin, foot, bar = 0.5 + 0.085 * longest, 0.5 + 0.085 * longest * (longest > 2), 0.9
    width = margin + side + bar
    figure, _ = _figure(title, width, foot + side)
    height = figure.get_figheight()
    axes = figure.add_axes((margin / width, foot / height, side / width, side / height))
    off = matrix.astype(float)
    np.fill_diagonal(off, 0.0)
    most = max(off.max(), 1.0)
    image = axes.imshow(off, cmap="Oranges", vmin=0, vmax=most, interpolation="nearest")
    for row, column in np.argwhere(matrix > 0) if count <= MOST_NAMED else ():
        same = row == column
        colour = PAPER if not same and off[row, column] > 0.6 * most else INK
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5, "color": colour}
        axes.text(column, row, str(matrix[row, column]), weight="bold" if same else "normal", **style)
    places = range(0, count, 1 if count <= 2 * MOST_NAMED else -(-count // 50))
    size = 9 if count <= MOST_NAMED else 6
    axes.set_xticks(places, [names[i] for i in places], rotation=90 if longest > 2 else 0, fontsize=size)
    axes.set_yticks(places, [names[i] for i in places], fontsize=size)
    axes.set(xlabel="predicted", ylabel="true")
    beside = figure.add_axes(
        ((margin + side + 0.15) / width, (foot + side / 8) / height, 0.16 / width, 0.75 * side / height)
    )
    figure.colorbar(image, cax=beside, label="mistakes").locator = _whole()
    _save(figure, path)


def sheet(
    path: Path, title: str, note: str, tiles: Sequence[Tile], columns: int, empty: str = "nothing to show"
) -> None:
    """Tiles in rows, all with pictures of one size; `empty` is said where there are none."""
    depth, height, width = tiles[0].ink.shape if tiles else (1, 28, 28)
    rows = max(1, -(-len(tiles) // columns))
    text = 2 + 6 * max((tile.label.count("\n") + 1 for tile in tiles), default=1)  # pixels of the sheet
    across, down = width + 4, depth * (height + 1) + text + 3
    canvas = np.full((rows * down, columns * across), -1.0, dtype=np.float32)
    figure, head = _figure(f"{title}\n{note}", columns * across * 0.035, rows * down * 0.035)
    axes = figure.add_axes((0, 0, 1, 1 - head / figure.get_figheight()))
    for number, tile in enumerate(tiles):
        top, left = (number // columns) * down + text, (number % columns) * across + 2
        for k, ink in enumerate(tile.ink):
            start = top + k * (height + 1)
            canvas[start : start + height, left : left + width] = ink
        style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8, "color": tile.colour}
        axes.text(left + width / 2 - 0.5, top - 1, tile.label, parse_math=False, **style)
    if not tiles:
        axes.text(columns * across / 2, rows * down / 2, empty, ha="center", color=INK)
    axes.imshow(canvas, cmap="gray_r", vmin=-0.07, vmax=1, interpolation="nearest")  # the ground is a light grey
    axes.set_axis_off()
    _save(figure, path)


def mistakes(
    path: Path,
    title: str,
    ink: NDArray[np.float32],
    truth: Sequence[str],
    predicted: Sequence[str],
    confidence: Sequence[float],
) -> None:
    """Wrong answers, the surest first; ink (n, H, W)."""
    tiles = [Tile(_answer(t, p, c), x[None]) for x, t, p, c in zip(ink, truth, predicted, confidence, strict=True)]
    sheet(path, title, "the surest mistakes: true → predicted, confidence", tiles, 6, "no mistakes")


def confusing(
    path: Path,
    title: str,
    ink: NDArray[np.float32],
    truth: Sequence[str],
    predicted: Sequence[str],
    confidence: Sequence[float],
) -> None:
    """One picture a class: its surest mistake in orange or, where it has none, its least sure right answer in blue."""
    tiles = [
        Tile(_answer(t, p, c), x[None], BLUE if t == p else ORANGE)
        for x, t, p, c in zip(ink, truth, predicted, confidence, strict=True)
    ]
    note = "the most confusing of each class: the surest mistake or, without any, the least sure right answer"
    sheet(path, title, note, tiles, 10 if len(tiles) > 20 else 5)


def inputs(
    path: Path, title: str, before: NDArray[np.float32], after: NDArray[np.float32] | None, names: Sequence[str]
) -> None:
    """Training images as they are, above what the network is given of them; ink (n, H, W), None: the same."""
    pictures = before[:, None] if after is None else np.stack([before, after], axis=1)
    note = "the first images of epoch 1" + ("" if after is None else ": original above, as the network sees it below")
    sheet(path, title, note, [Tile(n, p) for n, p in zip(_short(names), pictures, strict=True)], 10)


def _answer(truth: str, predicted: str, confidence: float) -> str:
    """On one line where the names are short, else on two."""
    (one, two), sure = _short([truth, predicted], 11), f"{100 * confidence:.0f}%"
    brief = len(one) + len(two) <= 6
    if truth == predicted:
        return f"{one}, right  {sure}" if brief else f"{one},\nright  {sure}"
    return f"{one} → {two}  {sure}" if brief else f"{one} →\n{two}  {sure}"


def _scale(axes: Any, values: Sequence[float]) -> None:
    if values and min(values) > 0 and max(values) > 10 * min(values):
        from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

        axes.set_yscale("log")
        few = max(values) < 200 * min(values)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)


def _whole() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)


def _figure(title: str, width: float, height: float) -> tuple[Any, float]:
    """A figure with the title above `height` inches to draw in, and how many inches the title takes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [part for line in title.splitlines() for part in wrap(line, int(12 * width)) or [""]]
    head = 0.2 + 0.17 * len(lines)
    figure = Figure(figsize=(width, height + head), facecolor=PAPER)
    FigureCanvasAgg(figure)
    figure.suptitle("\n".join(lines), fontsize=10, y=1 - 0.08 / (height + head), va="top", parse_math=False)
    return figure, head


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})


def _short(names: Sequence[str], length: int = 12) -> list[str]:
    return [name if len(name) <= length else name[: length - 1] + "…" for name in names]
