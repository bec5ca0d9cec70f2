"""Data sets that are four IDX files: where they are looked for, and how they are checked at every load."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lenet_lab.data.arrays import Rows, Tables
from lenet_lab.data.idx import file_size, gunzip, parse
from lenet_lab.records import LabError

ENVIRONMENT = "LENET_LAB_DATA"
SIDE = 28
MNIST_BOX = 20


@dataclass(frozen=True)
class Where:
    """Where files may come from; `option` is the set's name in errors."""

    option: str
    root: str | None = None
    download: bool = True

    def roots(self) -> list[tuple[str, Path]]:
        """Folders in the order in which they are searched, each with what sets it; the cache is the last."""
        given = [("data.root", self.root), (ENVIRONMENT, os.environ.get(ENVIRONMENT))]
        return [*((key, Path(value).expanduser()) for key, value in given if value), ("the cache", cache())]


def cache() -> Path:
    """The user's own folder for downloaded sets."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lenet_lab" / "data"


@dataclass(frozen=True, eq=False)
class IdxSource:
    """A set in torchvision's MNIST layout: `<root>/<folder>/raw/` holds four IDX files, plain or as .gz.

    Checked at every load: a file's SHA-256 wherever `sha256` (of the plain file) or `gz_sha256` pins it or
    `<root>/<folder>/SHA256SUMS` names it; the IDX header, shape and length; how many images each class has.
    Plain files of a set that is pinned as .gz alone, without SHA256SUMS, have only the last two and the mean
    grey value to show, so the .gz is preferred where both are there.

    Attributes:
        folder: the folder, and the class in torchvision.datasets whose mirrors and MD5 sums serve a download.
        moments: mean and standard deviation of x/255 over the training images; None: computed.
        drawn: a set drawn out of this source (`data.train_per_class`, ...) instead of all of it.
        box: the side of the square that what is drawn fills in its 28x28.
    """

    folder: str
    classes: tuple[str, ...]
    train_counts: tuple[int, ...]
    test_counts: tuple[int, ...]
    moments: tuple[float, float] | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    gz_sha256: Mapping[str, str] = field(default_factory=dict)
    more_mirrors: tuple[str, ...] = ()
    drawn: bool = False
    box: int = SIDE

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The four files and the shape each must have."""
        train, test = sum(self.train_counts), sum(self.test_counts)
        return {
            "t10k-images-idx3-ubyte": (test, SIDE, SIDE),
            "t10k-labels-idx1-ubyte": (test,),
            "train-images-idx3-ubyte": (train, SIDE, SIDE),
            "train-labels-idx1-ubyte": (train,),
        }

    def locate(self, where: Where) -> Path:
        """The folder with the four files; where they are nowhere, they are downloaded into the cache.

        Raises:
            LabError: no files, some of the four only, a folder that is not there or cannot be read.
        """
        looked = [f"{key} {root / self.folder / 'raw'}" for key, root in where.roots()]
        for key, root in where.roots():
            if self._complete(key, root):
                return root / self.folder / "raw"
        nowhere = f"data={where.option}: no {self.folder} files in {', '.join(looked)}"
        hint = f"set data.root to a folder with {self.folder}/raw, or use data=digits, which needs no files"
        if not where.download:
            raise LabError(f"{nowhere}; data.download=false; {hint}")
        from lenet_lab.data.download import fetch

        try:
            return fetch(self, cache())
        except LabError as error:
            raise LabError(f"{nowhere}; {error}; {hint}") from None

    def _complete(self, key: str, root: Path) -> bool:
        raw = root / self.folder / "raw"
        try:
            names = {path.name for path in raw.iterdir()}
        except FileNotFoundError:
            if key != "the cache" and not root.is_dir():
                raise LabError(
                    f"data.root: {key}={root} is not there; allowed: a folder that holds {self.folder}/raw"
                ) from None
            return False
        except OSError as error:
            raise LabError(f"data.root: cannot read {raw}, given by {key} ({error.strerror})") from None
        missing = [name for name in self.shapes if name not in names and f"{name}.gz" not in names]
        if 0 < len(missing) < len(self.shapes):
            raise LabError(f"data.root: {raw} is incomplete: {', '.join(missing)} missing; complete or remove it")
        return not missing

    def content(self, raw: Path, name: str) -> bytes:
        """The verified bytes of one plain IDX file, unpacked from its .gz if need be.

        Raises:
            LabError: cannot be read, or is not the file that it must be; names the file.
        """
        size = file_size(self.shapes[name])
        plain, packed = raw / name, raw / f"{name}.gz"
        if packed.is_file() and (name in self.gz_sha256 or not plain.is_file()):
            path = packed
            outer = _read(packed, packed_limit(size))
            self._check(packed, outer, self.gz_sha256.get(name))
            content = gunzip(outer, size, str(packed))
        else:
            path = plain
            content = _read(plain, size)
            self._check(plain, content, _listed(raw.parent / "SHA256SUMS", name))
        self._check(path, content, self.sha256.get(name))
        parse(content, self.shapes[name], str(path))
        return content

    def _check(self, path: Path, content: bytes, expected: str | None) -> None:
        found = hashlib.sha256(content).hexdigest()
        if expected is not None and found != expected:
            raise LabError(
                f"data.root: {path} is damaged or not {self.folder}'s: "
                f"its SHA-256 is {found}, not {expected}; "
                "replace it, or remove its folder to have it downloaded again"
            )

    def prepare(self, where: Where) -> None:
        """Make sure that the files are there, by a download if need be."""
        self.locate(where)

    def digest(self, where: Where) -> str:
        """SHA-256 of the four files' SHA256SUMS text: from the table where pinned, else of the files."""
        if set(self.sha256) == set(self.shapes):
            return _digest(self.sha256)
        return self.read(where).digest

    def read(self, where: Where) -> Tables:
        """All images and labels, verified."""
        raw = self.locate(where)
        files = {name: self.content(raw, name) for name in self.shapes}
        train = self._rows(raw, files, "train", self.train_counts)
        test = self._rows(raw, files, "t10k", self.test_counts)
        if not self.sha256 and self.moments is not None and abs(train.images.mean() / 255 - self.moments[0]) > 0.01:
            raise LabError(f"data.root: {raw} does not hold {self.folder}: the mean grey value is another set's")
        return Tables(train, test, _digest({name: hashlib.sha256(data).hexdigest() for name, data in files.items()}))

    def _rows(self, raw: Path, files: Mapping[str, bytes], part: str, counts: tuple[int, ...]) -> Rows:
        names = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        images, labels = (parse(files[name], self.shapes[name], str(raw / name)) for name in names)
        found = np.bincount(labels, minlength=len(counts)).tolist()
        if tuple(found) != counts:
            raise LabError(f"data.root: {raw / names[1]} is not {self.folder}'s: it holds other numbers of each class")
        return Rows(images, labels, np.arange(len(labels)))


def packed_limit(size: int) -> int:
    """The most bytes that `size` bytes may take as .gz: deflate adds little to what it cannot shrink."""
    return size + size // 1000 + 1024


def _digest(sums: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()).hexdigest()


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise LabError(f"data.root: {path} is longer than {limit} bytes, so it is another file")
        return path.read_bytes()
    except OSError as error:
        raise LabError(f"data.root: cannot read {path} ({error.strerror})") from None


def _listed(sums: Path, name: str) -> str | None:
    """The SHA-256 that a SHA256SUMS file gives for `name`, if there is one."""
    if not sums.is_file():
        return None
    pairs = (line.split() for line in _read(sums, 1 << 16).decode("ascii", "replace").splitlines())
    return {pair[1].removeprefix("*"): pair[0] for pair in pairs if len(pair) == 2}.get(name)
