"""Draws docs/images/codes.png, the codes of the radial heads and how far apart they are: python docs/codes.py."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lenet_lab.blocks.codes import HEIGHT, WIDTH, digits, hamming, nearest

IMAGE = Path(__file__).parent / "images" / "codes.png"


def draw(path: Path) -> None:
    """The ten bitmaps in two rows, and beside them the bits in which each two differ."""
    codes = digits()
    figure = Figure(figsize=(9.5, 4.0), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1])
    for digit, axes in enumerate(left.subplots(2, 5).flat):
        axes.imshow(codes[digit].reshape(HEIGHT, WIDTH), cmap="gray_r", vmin=-1, vmax=1)
        axes.set_xticks([x + 0.5 for x in range(WIDTH - 1)], [])
        axes.set_yticks([y + 0.5 for y in range(HEIGHT - 1)], [])
        axes.grid(color="0.75", linewidth=0.5)
        axes.tick_params(length=0)
        axes.set_title(str(digit), fontsize=9)
    left.suptitle(f"ink +1, ground -1: {WIDTH} wide, {HEIGHT} tall", fontsize=10)
    apart, axes = hamming(codes), right.subplots()
    axes.imshow(apart, cmap="Blues", vmin=0, vmax=90)
    for row in range(10):
        for column in range(10):
            smallest = int(apart[row, column]) == nearest(codes)
            weight = "bold" if smallest else "normal"
            axes.text(column, row, int(apart[row, column]), ha="center", va="center", fontsize=8, weight=weight)
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    right.suptitle(f"bits in which two codes differ, {nearest(codes)} at least", fontsize=10)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    draw(IMAGE)
