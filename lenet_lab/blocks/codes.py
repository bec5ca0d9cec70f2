"""The aims of a radial output: one pattern of +1 and -1 a class.

The ten digits below are 7 wide and 12 tall as those of LeCun et al. 1998, and drawn by hand for this project: no copy
of the paper's figure. Any two of them differ in at least `NEAREST` of their 84 pixels.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from lenet_lab.records import LabError

WIDTH, HEIGHT = 7, 12
NEAREST = 30
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".tif", ".tiff", ".webp")

DIGITS = """
..###.. ...##.. .####.. ####### ##..... ####### ....### ####### .#####. .#####.
.##.##. ..###.. ##..##. ....### ##..... ##..... ..###.. ####### ##...## ##...##
.##.##. .####.. ##..##. ...##.. ##..##. ##..... .##.... .....## ##...## ##...##
.#...#. ##.##.. ....##. ..##... ##..##. ##..... ##..... .....## ##...## ##...##
##...## ...##.. ....##. .####.. ##..##. ##..... ##..... ....##. .#####. ##..###
##...## ...##.. ....##. ...###. ##..##. ######. ##..... ....##. ..###.. .######
##...## ...##.. ...##.. ....### ####### .....## ##.###. ...##.. .##.##. .....##
##...## ...##.. .###... .....## ####### ......# ###..## ..###.. ##...## .....##
.#...#. ...##.. ###.... .....## ....##. ......# ##...## ..##... ##...## ....##.
.##.##. ...##.. ##..... ....### ....##. ##....# ##...## ..##... ##...## ....##.
.##.##. ...##.. ####### ######. ....##. .##..## ##...## .###... ###.### ...##..
..###.. .###### ####### #####.. ....##. ..####. .#####. .##.... .#####. ...##..
"""


def digits() -> Tensor:
    """The bitmaps: float32 (10, 84), row by row from the top, ink +1 and ground -1."""
    rows = [line.split() for line in DIGITS.strip().splitlines()]
    ink = [[pixel == "#" for row in rows for pixel in row[digit]] for digit in range(10)]
    return torch.tensor(ink, dtype=torch.float32) * 2 - 1


def hamming(codes: Tensor) -> Tensor:
    """In how many places each two codes (n, bits) differ: int64 (n, n)."""
    return (codes[:, None] != codes[None]).sum(dim=2)


def nearest(codes: Tensor) -> int:
    """The smallest of the distances between two different rows of codes (n, bits)."""
    apart = hamming(codes)
    return int(apart[~torch.eye(len(codes), dtype=torch.bool)].min())


def codes_for(source: str | None, classes: int, bits: int) -> Tensor:
    """One code a class: float32 (classes, bits) of +1 and -1.

    Args:
        source: a folder of images, or None for the digits drawn here (the first `classes` of them).

    Raises:
        LabError: codes that do not suit the number of classes or of hidden units.
    """
    if source is not None:
        return from_folder(Path(source), classes, bits)
    if classes > 10:
        raise LabError(f"head.codes=null: ten digits are drawn, the data has {classes} classes; allowed: a folder")
    if bits != WIDTH * HEIGHT:
        raise LabError(
            f"head.codes=null: the digits drawn have {WIDTH * HEIGHT} pixels, the last hidden layer {bits} units; "
            f"allowed: a last hidden layer of {WIDTH * HEIGHT} units, or a folder of images"
        )
    return digits()[:classes]


def from_folder(folder: Path, classes: int, bits: int) -> Tensor:
    """Codes from images, one a class in the order of their names (numbers in them by value): (classes, bits).

    Grey of 128 and more is +1, darker -1; pixels row by row.

    Raises:
        LabError: no folder, no images, another number of them than classes, a size that is not `bits` pixels, a file
            that is no image, or two equal codes.
    """
    if not folder.is_dir():
        raise LabError(f"head.codes={folder}: no such folder; allowed: a folder with one image a class")
    files = sorted((p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()), key=_by_number)
    if len(files) != classes:
        raise LabError(
            f"head.codes={folder}: {len(files) or 'no'} images; allowed: {classes}, one a class, "
            f"named so that they sort ({', '.join(suffix[1:] for suffix in SUFFIXES)})"
        )
    codes = torch.stack([_read(file, bits) for file in files])
    if nearest(codes) == 0:
        first, second = (hamming(codes) == 0).triu(1).nonzero()[0].tolist()
        raise LabError(f"head.codes={folder}: {files[first].name} and {files[second].name} are the same code")
    return codes


def _read(file: Path, bits: int) -> Tensor:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            width, height = image.size  # known before anything is decoded
            if width * height != bits:
                raise LabError(
                    f"head.codes: {file} has {width}x{height} pixels; allowed: {bits} pixels (7x12 for 84), one for "
                    "each unit of the last hidden layer"
                )
            grey = bytearray(image.convert("L").tobytes())
    except LabError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise LabError(f"head.codes: {file} is no image that can be read") from None
    return torch.frombuffer(grey, dtype=torch.uint8).ge(128).float() * 2 - 1


def _by_number(file: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", file.stem)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts if p], file.name
