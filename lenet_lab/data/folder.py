"""`data=image_folder`: one's own images, a folder a class."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lenet_lab.data.files import MNIST_BOX, SIDE
from lenet_lab.data.images import SUFFIXES, Grey, framed, read_grey, whole
from lenet_lab.data.own import Found, Own, OwnSource, Part, check_same
from lenet_lab.records import LabError

IGNORED = ("thumbs.db", "desktop.ini")


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Own):
    """`<root>/<class>/...`, or `<root>/train/<class>/...` and `<root>/test/<class>/...`: PNG and JPEG, any size.

    Classes are the folders' names, sorted as text. Images become grey and 28x28.

    Attributes:
        root: the folder.
        ink: what is drawn: `dark` images are turned round as they are read, so that ink is bright as in MNIST.
        frame: `whole` image, its aspect kept; `digit`: what is drawn on it, in a box of 20x20 and centred as in MNIST.
    """

    name: Literal["image_folder"] = "image_folder"
    root: str | None = None
    ink: Literal["bright", "dark"] = "bright"
    frame: Literal["whole", "digit"] = "whole"

    @property
    def source(self) -> FolderSource:
        return FolderSource(self.test_share, self.test_seed, self._given("root"), self.ink, self.frame)

    @property
    def dark_ink(self) -> bool | None:
        return None if self.frame == "digit" else self.ink == "dark"


@dataclass(frozen=True)
class FolderSource(OwnSource):
    """The folder behind it."""

    root: str
    ink: str
    frame: str

    @property
    def box(self) -> int | None:
        return MNIST_BOX if self.frame == "digit" else None

    def find(self) -> Found:
        root = Path(self.root).expanduser()
        folders = _folders(root)
        if "train" not in folders:
            return Found(tuple(folders), self._part(root, folders), None)
        if set(folders) - {"train", "test"}:
            others = ", ".join(sorted(set(folders) - {"train", "test"})[:5])
            raise LabError(f"data.root: {root} holds train and also {others}; allowed beside it: test alone")
        train = _folders(root / "train")
        if "test" not in folders:
            return Found(tuple(train), self._part(root / "train", train), None)
        test = _folders(root / "test")
        check_same(train, test, f"data.root: {root}")
        return Found(tuple(train), self._part(root / "train", train), self._part(root / "test", test))

    def _part(self, folder: Path, classes: list[str]) -> Part:
        try:
            files = [(path, name) for name in classes for path in image_files(folder / name)]
            images = np.empty((len(files), SIDE, SIDE), np.uint8)
            for row, (path, _) in enumerate(files):
                images[row] = self._image(path)
        except LabError as error:
            raise LabError(f"data.root: {error}") from None
        if not files:
            raise LabError(f"data.root: no PNG or JPEG image in the folders of {folder}")
        return Part(images, [name for _, name in files])

    def _image(self, path: Path) -> Grey:
        grey = read_grey(path)
        return fitted(path, 255 - grey if self.ink == "dark" else grey, self.box)


def fitted(path: Path, grey: Grey, box: int | None) -> Grey:
    """The grey image of a file as (28, 28): its ink in a box, or the whole of it.

    Raises:
        LabError: there is no ink; names the file.
    """
    try:
        return whole(grey) if box is None else framed(grey, box)
    except LabError as error:
        raise LabError(f"{path}: {error}") from None


def image_files(folder: Path) -> list[Path]:
    """The images in a folder and those below it, sorted by path; hidden files are left out.

    Raises:
        LabError: a file that is named like no PNG or JPEG, or a folder that cannot be read.
    """
    found: list[Path] = []
    for where, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(where) / name
            if name.startswith(".") or name.lower() in IGNORED:
                continue
            if path.suffix.lower() not in SUFFIXES:
                raise LabError(f"{path}: is named like no image; allowed: {', '.join(SUFFIXES)}")
            found.append(path)
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _folders(root: Path) -> list[str]:
    """The names of the folders in `root`, sorted."""
    try:
        names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except FileNotFoundError:
        raise LabError(f"data.root={root}: is not there; allowed: a folder with one folder a class") from None
    except OSError as error:
        raise LabError(f"data.root: {root}: {error.strerror}") from None
    if not names:
        raise LabError(f"data.root={root}: holds no folders; allowed: a folder with one folder a class")
    return names


def _refuse(error: OSError) -> None:
    raise LabError(f"{error.filename}: {error.strerror}") from None
