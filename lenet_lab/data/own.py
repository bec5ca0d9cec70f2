"""Sets of one's own: what a folder of images and a table of pixels have in common.

Nothing about such a set is known before it is read, so it is read once a process, and the digest of what was read,
names, labels and pixels, is what names its runs: the same pixels from other files are the same data.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from annotated_types import Gt, Lt
from numpy.typing import NDArray

from lenet_lab.data.arrays import Rows, Tables
from lenet_lab.data.files import MNIST_BOX, SIDE, Where
from lenet_lab.data.spec import Seed, Spec
from lenet_lab.data.splits import hold_out
from lenet_lab.records import LabError

MAX_CLASSES = 256


class Part(NamedTuple):
    """Images uint8 (n, 28, 28) and the name of each one's class."""

    images: NDArray[np.uint8]
    names: Sequence[str]


class Found(NamedTuple):
    """What the files hold: classes in order, training images, test images where the files have such a part."""

    classes: tuple[str, ...]
    train: Part
    test: Part | None


@dataclass(frozen=True)
class OwnSource(ABC):
    """The source behind a set of one's own: equal ones are read once."""

    test_share: float
    test_seed: int

    moments: ClassVar[None] = None
    drawn: ClassVar[bool] = False

    @abstractmethod
    def find(self) -> Found:
        """Read everything.

        Raises:
            LabError: something is missing, is not what it should be, or does not fit the rest.
        """

    @property
    def box(self) -> int | None:
        return MNIST_BOX

    @property
    def classes(self) -> tuple[str, ...]:
        return _read(self)[0]

    @property
    def train_counts(self) -> tuple[int, ...]:
        return _counts(self, _read(self)[1].train)

    @property
    def test_counts(self) -> tuple[int, ...]:
        return _counts(self, _read(self)[1].test)

    def prepare(self, where: Where) -> None:
        _read(self)

    def digest(self, where: Where) -> str:
        return _read(self)[1].digest

    def read(self, where: Where) -> Tables:
        return _read(self)[1]


@dataclass(frozen=True, kw_only=True)
class Own(Spec):
    """A set of one's own. Where it has no test part, one is held out, stratified.

    Attributes:
        test_share: of all images, where the files have no test part.
        test_seed: of that split.
    """

    test_share: Annotated[float, Gt(0), Lt(1)] = 0.2
    test_seed: Seed = 0

    def counts(self) -> tuple[int, int, int]:
        missing = [name for name, n in zip(self.classes, self.class_counts("train"), strict=True) if not n]
        if missing:
            raise LabError(f"data: no training image of class {_few(missing)}")
        if not sum(self.class_counts("test")):
            raise LabError(f"data.test_share={self.test_share}: leaves no test image; allowed: more, or more images")
        return super().counts()

    def _given(self, key: str) -> str:
        """A path that must be given.

        Raises:
            LabError: it is not.
        """
        value: Any = getattr(self, key)
        if not value:
            raise LabError(f"data.{key}: missing; data={self.name} needs a path")
        return str(value)


@lru_cache(maxsize=4)
def _read(source: OwnSource) -> tuple[tuple[str, ...], Tables]:
    classes, found, test = source.find()
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise LabError(f"data: {len(classes)} classes ({_few(classes)}); allowed: 2 to {MAX_CLASSES}")
    numbers = {name: number for number, name in enumerate(classes)}
    train = _rows(found, numbers)
    if test is None:
        size = round(len(train.labels) * source.test_share)
        kept, held = hold_out(train.labels, len(classes), size, source.test_seed)
        tables = Tables(train.take(kept), train.take(held), "")
    else:
        tables = Tables(train, _rows(test, numbers), "")
    return classes, Tables(tables.train, tables.test, _digest(classes, tables))


def check_same(train: Sequence[str], test: Sequence[str], where: str) -> None:
    """Training and test part must have the same classes.

    Raises:
        LabError: they do not; names those that only one has.
    """
    ours, theirs = sorted(set(train) - set(test)), sorted(set(test) - set(train))
    if ours or theirs:
        words = [f"only in {part}: {_few(names)}" for part, names in (("train", ours), ("test", theirs)) if names]
        raise LabError(f"{where}: the classes of train and test do not match; {'; '.join(words)}")


def square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (n, h, h) as (n, 28, 28); unchanged where they are so already."""
    from lenet_lab.data.images import whole

    if pixels.shape[1] == SIDE:
        return pixels
    return np.stack([whole(image) for image in pixels]) if len(pixels) else np.empty((0, SIDE, SIDE), np.uint8)


def _rows(part: Part, numbers: dict[str, int]) -> Rows:
    labels = np.array([numbers[name] for name in part.names], np.uint8)
    return Rows(part.images, labels, np.arange(len(labels)))


def _counts(source: OwnSource, rows: Rows) -> tuple[int, ...]:
    return _bincount(rows, len(source.classes))


def _bincount(rows: Rows, classes: int) -> tuple[int, ...]:
    return tuple(np.bincount(rows.labels, minlength=classes).tolist())


def _digest(classes: tuple[str, ...], tables: Tables) -> str:
    digest = hashlib.sha256("\0".join(classes).encode("utf-8", "surrogateescape"))
    for rows in (tables.train, tables.test):
        digest.update(b"\0%d\0" % len(rows.labels) + rows.labels.tobytes() + rows.index.tobytes())
        digest.update(np.ascontiguousarray(rows.images).tobytes())
    return digest.hexdigest()


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name)[1:-1][:40] for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "none"
