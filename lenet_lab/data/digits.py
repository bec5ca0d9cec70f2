"""scikit-learn's bundled 8x8 digits, brought to the 28x28 grey values of MNIST: the set that needs no files.

1,797 images of 0..16 (UCI "Optical Recognition of Handwritten Digits", its test part). There is no official
split of them: the test part here is a fixed stratified draw of 360.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet_lab.data.arrays import Rows, Tables
from lenet_lab.data.files import SIDE, Where
from lenet_lab.data.splits import hold_out, interleave
from lenet_lab.records import LabError

TEST_IMAGES = 360
_SPLIT_SEED = 0
_COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)
_DIGEST = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
_LEVELS = 16


def _bilinear() -> NDArray[np.int64]:
    """The (28, 8) matrix of bilinear interpolation, times 14.

    Row i weighs the two pixels on either side of (i + 1/2) 8/28 - 1/2.
    """
    numerators = np.clip(4 * np.arange(SIDE) - 5, 0, 14 * 7)
    low, rest = np.divmod(numerators, 14)
    weights = np.zeros((SIDE, 8), np.int64)
    weights[np.arange(SIDE), low] += 14 - rest
    weights[np.arange(SIDE), np.minimum(low + 1, 7)] += rest
    return weights


def enlarge(images: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Images (n, 8, 8) of 0..16 as (n, 28, 28) of 0..255: bilinear, corners not aligned, halves rounded up.

    In whole numbers throughout, so that every machine gets the same bytes: the sums are 14 x 14 x 16 at most, which
    float64 holds exactly, and its products are faster.
    """
    weights = _bilinear().astype(np.float64)
    sums = (weights @ images.astype(np.float64) @ weights.T).astype(np.int32)
    scale = 14 * 14 * _LEVELS
    return ((2 * 255 * sums + scale) // (2 * scale)).astype(np.uint8)


def _bundled() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (n, 8, 8) and labels (n,) from scikit-learn's own file, without the two seconds of importing it.

    Raises:
        LabError: the file is not there, or is no table of whole numbers.
    """
    found = find_spec("sklearn")
    where = Path(found.origin).parent if found is not None and found.origin is not None else Path()
    try:
        table = np.loadtxt(where / "datasets" / "data" / "digits.csv.gz", delimiter=",").astype(np.uint8)
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1].copy()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise LabError(f"data=digits: scikit-learn's digits.csv.gz: {error}; install scikit-learn again") from None


@dataclass(frozen=True, eq=False)
class DigitsSource:
    """The row of the table of sources."""

    classes: tuple[str, ...] = tuple("0123456789")
    moments: tuple[float, float] | None = None
    drawn: bool = False
    box: int = SIDE

    @property
    def test_counts(self) -> tuple[int, ...]:
        """Test images of each class."""
        return tuple(np.bincount(interleave(_COUNTS)[:TEST_IMAGES]).tolist())

    @property
    def train_counts(self) -> tuple[int, ...]:
        """Training images of each class."""
        return tuple(np.subtract(_COUNTS, self.test_counts).tolist())

    def prepare(self, where: Where) -> None:
        """Nothing to do: the images come with scikit-learn."""

    def digest(self, where: Where) -> str:
        """SHA-256 of the 8x8 images and the labels, a byte each, in scikit-learn's order."""
        return _DIGEST

    def read(self, where: Where) -> Tables:
        """All images and labels; index = row of `sklearn.datasets.load_digits`.

        Raises:
            LabError: scikit-learn's file is not the known one.
        """
        images, labels = _bundled()
        found = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
        if found != _DIGEST:
            raise LabError(
                f"data={where.option}: scikit-learn's digits.csv.gz is damaged: "
                f"the SHA-256 of its values is {found}, not {_DIGEST}; install scikit-learn again"
            )
        rows = Rows(enlarge(images), labels, np.arange(len(labels)))
        train, test = hold_out(labels, len(self.classes), TEST_IMAGES, _SPLIT_SEED)
        return Tables(rows.take(train), rows.take(test), found)
