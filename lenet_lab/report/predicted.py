"""Pictures beside what a network saw of them, and what it answered."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet_lab.report.run_figures import BLUE, INK, ORANGE, PAPER

MOST = 60
PAIRS = 3
TILE = 84
GAP = 10
TEXT = 26


class Entry(NamedTuple):
    """A file's name, its picture uint8 (h, w), what the network saw (H, W), its answer, how sure, the label if any."""

    name: str
    picture: NDArray[np.uint8]
    seen: NDArray[np.float32]
    answer: str
    probability: float
    label: str | None


def sheet(path: Path, title: str, entries: Sequence[Entry], levels: Sequence[float]) -> None:
    """The first `MOST` entries, three pairs a row.

    Args:
        levels: what the network's input holds for its darkest and its brightest grey.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = entries[:MOST]
    columns = min(PAIRS, len(shown))
    rows = -(-len(shown) // columns)
    wide, high = 2 * TILE + 3 * GAP, TILE + TEXT
    figure = Figure(figsize=(max(2.4 * columns, 4.8), 0.7 + 1.35 * rows), layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_axis_off()
    canvas = np.full((rows * high, columns * wide), np.nan)
    low, one = levels
    for number, entry in enumerate(shown):
        top, left = (number // columns) * high + TEXT, (number % columns) * wide + GAP
        seen = (entry.seen - low) / (one - low)
        for place, picture in ((left, entry.picture / 255), (left + TILE + GAP, seen)):
            canvas[top : top + TILE, place : place + TILE] = _tile(picture)
        wrong = entry.label is not None and entry.label != entry.answer
        text = f"{_short(entry.name, 14)}: {_short(entry.answer)}  {100 * entry.probability:.0f}%"
        text += f"  (is {_short(str(entry.label))})" if wrong else ""
        colour = ORANGE if wrong else INK if entry.label is None else BLUE
        axes.text(left, top - 5, text, fontsize=9, color=colour, va="bottom", parse_math=False)
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    more = f", the first {MOST} of {len(entries)}" if len(entries) > MOST else ""
    about = f"{title}\neach picture, what the network saw of it, its answer{more}"
    figure.suptitle(about, fontsize=10, parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class may be named in letters that the font lacks
        figure.savefig(path, format="png", dpi=110, metadata={"Software": None})


def _short(name: str, length: int = 12) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _tile(picture: NDArray[np.floating]) -> NDArray[np.floating]:
    """As (TILE, TILE), its aspect kept, nothing smoothed when it grows."""
    from PIL import Image

    height, width = picture.shape
    scale = TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    small = np.asarray(Image.fromarray(picture.astype(np.float32)).resize(size, kind))
    tile = np.full((TILE, TILE), np.nan)
    top, left = (TILE - small.shape[0]) // 2, (TILE - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return tile
