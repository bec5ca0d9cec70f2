"""The group `data`: which set, how it is split, what a network sees of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Ge, Le, Lt
from numpy.typing import NDArray

from lenet_lab.data import splits
from lenet_lab.data.arrays import Arrays, Rows, Split, Tables
from lenet_lab.data.augment import Levels
from lenet_lab.data.files import Where
from lenet_lab.data.sources import SOURCES, Source
from lenet_lab.records import LabError

if TYPE_CHECKING:
    from torch import Tensor

Seed = Annotated[int, Ge(0), Le(splits.MAX_SEED)]


@dataclass(frozen=True, kw_only=True)
class Spec(ABC):
    """One choice of data: rows first (draw, validation, subset), then pixels (size, inversion, scale).

    Attributes:
        name: the option of the group.
        size, fit: height and width of the inputs, and how images get there.
        normalize, invert: see `lenet_lab.data.inputs`; `standard` stays standard under inversion.
        noise: the share of pixels that are inverted in every image, training images too.
        val_size: stratified validation images out of the training images; 0: no validation split.
        split_seed: of the validation split and of the subset.
        train_size: stratified subset of what is left to train on; a larger one contains a smaller. None: all.
        per_class: the same as so many images of every class. None: all.
    """

    name: str
    size: Literal[28, 32] = 28
    fit: Literal["pad", "resize"] = "pad"
    normalize: Literal["unit", "standard", "symmetric", "lecun1998"] = "standard"
    invert: bool = False
    noise: Annotated[float, Ge(0), Lt(1)] = 0.0
    val_size: Annotated[int, Ge(0)]
    split_seed: Seed = 0
    train_size: Annotated[int, Ge(1)] | None = None
    per_class: Annotated[int, Ge(1)] | None = None

    @property
    @abstractmethod
    def source(self) -> Source:
        """Where its images come from."""

    @property
    def where(self) -> Where:
        """Where the source's files may be."""
        return Where(self.name)

    def take(self, rows: Rows, part: Literal["train", "test"]) -> Rows:
        """What the choice has of a part of its source: all of it, where it is no draw."""
        return rows

    def class_counts(self, part: Literal["train", "test"]) -> tuple[int, ...]:
        """The same as images of each class.

        Raises:
            LabError: a draw that the source cannot give.
        """
        return self.source.train_counts if part == "train" else self.source.test_counts

    @property
    def dark_ink(self) -> bool | None:
        """Whether a new image for it must be turned round to be read as its own were; None: by the look of it."""
        return None

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of class 0, 1, ..."""
        return self.source.classes

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an input."""
        return (1, self.size, self.size)

    def counts(self) -> tuple[int, int, int]:
        """How many images are trained on, validated on and tested on; reads no file of a set that is pinned.

        Raises:
            LabError: the sizes do not fit the set or each other.
        """
        train, test = self.class_counts("train"), self.class_counts("test")
        return (*splits.counts_after(train, self.val_size, self.train_size, self.per_class), sum(test))

    def prepare(self) -> None:
        """Make sure that the files are there, downloading them where that is allowed. Verifies nothing else.

        Raises:
            LabError: they are nowhere, or cannot be read.
        """
        self.source.prepare(self.where)

    def digest(self) -> str:
        """SHA-256 (hex) that identifies the source's content; the same as that of `load`.

        Known without any file for digits and sets whose plain files are pinned; else the files are read.
        """
        return self.source.digest(self.where)

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of x/255 over all training images of the source."""
        return self.source.moments or _moments(self.source.read(self.where))

    def load(self, moments: tuple[float, float] | None = None) -> Arrays:
        """The splits, verified, in memory.

        Args:
            moments: to normalise by, instead of the source's own.

        Raises:
            LabError: the files are nowhere, cannot be read or are not what they must be.
        """
        tables = self.source.read(self.where)
        train, test = self.take(tables.train, "train"), self.take(tables.test, "test")
        k = len(self.classes)
        kept, held = splits.hold_out(train.labels, k, self.val_size, self.split_seed)
        train, val = train.take(kept), train.take(held)
        if self.train_size is not None:
            train = train.take(splits.subset(train.labels, k, self.train_size, self.split_seed))
        elif self.per_class is not None:
            train = train.take(splits.per_class(train.labels, k, self.per_class, self.split_seed))
        moments = moments or self.source.moments or _moments(tables)
        return Arrays(
            train=self._split(train, moments),
            val=self._split(val, moments) if self.val_size else None,
            test=self._split(test, moments),
            classes=self.classes,
            digest=tables.digest,
            name=self.name,
            levels=self.levels(moments),
            moments=moments,
        )

    def inputs(self, images: Tensor, moments: tuple[float, float]) -> Tensor:
        """Grey images uint8 (n, 1, 28, 28), ink bright, as a network sees them: float32 (n, 1, size, size).

        Args:
            moments: mean and standard deviation of x/255 over the training images.
        """
        from lenet_lab.data import inputs

        mean, std = moments
        images = inputs.fit(images, self.size, self.fit)
        if self.invert:
            images, mean = inputs.invert(images), 1 - mean
        return inputs.normalize(images, self.normalize, mean, std)

    def levels(self, moments: tuple[float, float]) -> Levels:
        """What `inputs` makes of grey 0, grey 255 and empty ground."""
        import torch

        from lenet_lab.data import inputs

        mean, std = moments
        greys = torch.tensor([0, 255], dtype=torch.uint8)
        zero, one = inputs.normalize(greys, self.normalize, 1 - mean if self.invert else mean, std).tolist()
        return Levels(zero, one, one if self.invert else zero)

    def _split(self, rows: Rows, moments: tuple[float, float]) -> Split:
        import torch

        from lenet_lab.data import inputs

        images = torch.from_numpy(_writable(rows.images)).unsqueeze(1)
        labels, index = torch.from_numpy(rows.labels.astype(np.int64)), torch.from_numpy(rows.index)
        images = inputs.noise(images, index, self.noise, self.split_seed)
        return Split(self.inputs(images, moments), labels, index)


@dataclass(frozen=True, kw_only=True)
class Data(Spec):
    """A published set, or a draw out of one.

    Attributes:
        name: row of the table of sources.
        root: folder with the set's files in torchvision's layout, before LENET_LAB_DATA and the user's cache.
        download: whether a set that is nowhere may be downloaded into the cache.
        draw_seed, train_per_class, test_per_class: the draw that makes `reduced_mnist`; other sets have none.
    """

    root: str | None = None
    download: bool = True
    draw_seed: Seed | None = None
    train_per_class: Annotated[int, Ge(1)] | None = None
    test_per_class: Annotated[int, Ge(1)] | None = None

    def __post_init__(self) -> None:
        if self.name not in SOURCES:
            raise LabError(f"data.name={self.name}: no such data set; allowed: {', '.join(SOURCES)}")
        for key in ("draw_seed", "train_per_class", "test_per_class"):
            value = getattr(self, key)
            if self.source.drawn and value is None:
                raise LabError(f"data.{key}: missing; data={self.name} needs a number")
            if not self.source.drawn and value is not None:
                raise LabError(f"data.{key}={value}: data={self.name} is not a draw; allowed: null")
        self.counts()

    @property
    def source(self) -> Source:
        return SOURCES[self.name]

    @property
    def where(self) -> Where:
        return Where(self.name, self.root, self.download)

    def take(self, rows: Rows, part: Literal["train", "test"]) -> Rows:
        size = self._drawn(part)
        if size is None or self.draw_seed is None:
            return rows
        return rows.take(splits.draw(rows.labels, len(self.classes), size, self.draw_seed))

    def class_counts(self, part: Literal["train", "test"]) -> tuple[int, ...]:
        counts, size = super().class_counts(part), self._drawn(part)
        if size is None:
            return counts
        if size > min(counts):
            most = min(counts)
            raise LabError(f"data.{part}_per_class={size}: the smallest class has {most}; allowed: 1 to {most}")
        return (size,) * len(counts)

    def _drawn(self, part: Literal["train", "test"]) -> int | None:
        return self.train_per_class if part == "train" else self.test_per_class


def _writable(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """torch wants memory it could write to; rows that were taken are copies already."""
    return images if images.flags.writeable else images.copy()


def _moments(tables: Tables) -> tuple[float, float]:
    """Mean and standard deviation of x/255 over all training images of the source, from their histogram."""
    counts = np.bincount(tables.train.images.reshape(-1), minlength=256)
    values = np.arange(256) / 255
    mean = float(np.average(values, weights=counts))
    return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))


# Config group: the dataclass of a node without `_target_`, and the class a `_target_` must descend from.
DEFAULTS: dict[str, type] = {"data": Data}
BASES: dict[str, type] = {"data": Spec}
