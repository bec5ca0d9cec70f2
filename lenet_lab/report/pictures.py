"""Pictures for a notebook: PNG bytes that Jupyter shows by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet_lab.report import run_figures
from lenet_lab.report.run_figures import Tile
from lenet_lab.stats.classification import surest_mistakes


class Picture(bytes):
    """A PNG."""

    def _repr_png_(self) -> bytes:
        return bytes(self)


def sheet(title: str, pictures: Mapping[str, NDArray[np.float32]], columns: int = 8) -> Picture:
    """Pictures (H, W) under their names, each from its own smallest value (white) to its largest (black)."""
    tiles = [Tile(name, _enlarged(_stretched(picture))[None]) for name, picture in pictures.items()]
    with tempfile.TemporaryDirectory() as folder:
        run_figures.sheet(Path(folder) / "x.png", title, "", tiles, columns)
        return Picture((Path(folder) / "x.png").read_bytes())


def mistakes(
    title: str,
    images: NDArray[np.float32],
    scores: NDArray[np.float32],
    predicted: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: Sequence[str],
) -> Picture:
    """The surest wrong answers, at most 18; images (n, H, W)."""
    surest = surest_mistakes(scores, predicted, labels, 18)
    truth, said = ([classes[k] for k in answers[surest]] for answers in (labels, predicted))
    sure = [float(scores[i, predicted[i]]) for i in surest]
    with tempfile.TemporaryDirectory() as folder:
        ink = np.stack([_stretched(images[i]) for i in surest]) if len(surest) else images[:0]
        run_figures.mistakes(Path(folder) / "x.png", title, ink, truth, said, sure)
        return Picture((Path(folder) / "x.png").read_bytes())


def _enlarged(picture: NDArray[np.float32], least: int = 28) -> NDArray[np.float32]:
    """A whole number of pixels for each, so that a name fits above."""
    times = max(1, round(least / picture.shape[1]))
    return np.kron(picture, np.ones((times, times), dtype=np.float32))


def _stretched(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = float(picture.min()), float(picture.max())
    return (picture - low) / ((high - low) or 1.0)
