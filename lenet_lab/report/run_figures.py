"""The figures of one run, as PNG files: learning curves, confusion matrix, most confident mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

INK, PAPER, BLUE, ORANGE = "#1b1f24", "#ffffff", "#1f5fa8", "#c4571a"


def curves(path: Path, title: str, log_book: Sequence[Mapping[str, float]]) -> None:
    """Loss and error (percent) by epoch, training beside validation."""
    figure = _figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in log_book]
    names = {
        "train": ("training (running mean)", BLUE),
        "val": ("validation", ORANGE),
        "test_curve": ("test (shown only)", INK),
    }
    for split, (label, colour) in names.items():
        if log_book and f"{split}/loss" in log_book[0]:
            style: dict[str, Any] = {"label": label, "color": colour, "marker": "o", "markersize": 3.5}
            left.plot(epochs, [row[f"{split}/loss"] for row in log_book], **style)
            right.plot(epochs, [100 * (1 - row[f"{split}/acc"]) for row in log_book], **style)
    for axes, what in ((left, "loss"), (right, "error, %")):
        axes.set(xlabel="epoch", ylabel=what)
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    _save(figure, path, title)


def confusion(path: Path, title: str, matrix: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Counts with the diagonal blanked in colour, so that mistakes are what one sees."""
    figure = _figure(6.4, 5.8)
    axes = figure.subplots()
    off = matrix.astype(float)
    np.fill_diagonal(off, 0.0)
    image = axes.imshow(off, cmap="Oranges", vmin=0, vmax=max(off.max(), 1.0))
    for row, column in np.ndindex(matrix.shape):
        count = int(matrix[row, column])
        if count:
            dark = row != column and off[row, column] > 0.6 * max(off.max(), 1.0)
            weight = "bold" if row == column else "normal"
            axes.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                fontsize=7.5,
                color=PAPER if dark else INK,
                weight=weight,
            )
    axes.set_xticks(range(len(classes)), _short(classes), rotation=45 if max(map(len, classes)) > 2 else 0, ha="center")
    axes.set_yticks(range(len(classes)), _short(classes))
    axes.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, ax=axes, label="mistakes", shrink=0.8)
    _save(figure, path, title)


def mistakes(
    path: Path,
    title: str,
    images: NDArray[np.float32],
    truth: Sequence[str],
    predicted: Sequence[str],
    confidence: Sequence[float],
) -> None:
    """Up to 30 wrong answers, the surest first; images (n, H, W)."""
    count = min(len(images), 30)
    rows = max(1, -(-count // 6))
    figure = _figure(7.2, 0.7 + 1.3 * rows)
    axes = figure.subplots()
    axes.set_axis_off()
    if not count:
        axes.text(0.5, 0.5, "no mistakes", ha="center")
    else:
        height, width = images.shape[1:]
        cell = (height + 9, width + 6)  # room for a line of text above, a gap beside
        sheet = np.full((rows * cell[0], 6 * cell[1]), np.nan, dtype=np.float32)
        for index in range(count):
            top, left = (index // 6) * cell[0] + 8, (index % 6) * cell[1] + 3
            sheet[top : top + height, left : left + width] = images[index]
            label = f"{_short([truth[index]])[0]} → {_short([predicted[index]])[0]}  {100 * confidence[index]:.0f}%"
            axes.text(left + width / 2, top - 1.5, label, fontsize=8, ha="center", va="bottom", color=INK)
        axes.imshow(sheet, cmap="gray_r")
    _save(figure, path, f"{title}\ntrue → predicted, confidence")


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path, title: str) -> None:
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})


def _short(names: Sequence[str]) -> list[str]:
    return [name if len(name) <= 12 else name[:11] + "…" for name in names]
