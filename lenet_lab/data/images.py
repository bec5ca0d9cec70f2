"""Pictures of one's own: read safely, made grey, and brought to the 28x28 of the published sets.

Grey is float or uint8 (h, w) in 0..255; `ink` is what was drawn, `ground` what it was drawn on. Nothing here draws
random numbers.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lenet_lab.data.files import SIDE
from lenet_lab.records import LabError

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 64_000_000
MAX_BYTES = 1 << 26
WORK = 400
CONTRAST = 16
PEN = 2.4
MIDDLE = 14.5

Grey = NDArray[np.uint8]


def read_grey(path: Path) -> Grey:
    """A PNG or JPEG file as uint8 (h, w), upright by its EXIF tag, in the luma of ITU-R 601.

    What is transparent becomes white under dark ink and black under bright ink. 16 bits become 8.

    Raises:
        LabError: it cannot be read, is no such image, is damaged, or is larger than any photograph.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LabError(f"{path}: is longer than {MAX_BYTES >> 20} MiB, the most that is read of an image")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                return _grey(ImageOps.exif_transpose(image))
    except LabError:
        raise
    except Image.DecompressionBombError:
        raise LabError(f"{path}: has more than {MAX_PIXELS:,} pixels, the most that are read") from None
    except OSError as error:
        why = error.strerror or "is no PNG or JPEG image, or is damaged"
        raise LabError(f"{path}: {why}") from None
    except Exception:  # whatever damage or malice makes of an image file
        raise LabError(f"{path}: is no PNG or JPEG image, or is damaged") from None


def _grey(image: Image.Image) -> Grey:
    if image.mode.startswith("I"):  # 16 bits
        return np.round(np.asarray(image).astype(float) / 257).clip(0, 255).astype(np.uint8)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB").convert("L"))
    whole = image.convert("RGBA")
    alpha = np.asarray(whole.getchannel("A")).astype(float) / 255
    luma = np.asarray(whole.convert("RGB").convert("L")).astype(float)
    ground = 255.0 if (luma * alpha).sum() < 127.5 * alpha.sum() else 0.0
    return np.round(luma * alpha + ground * (1 - alpha)).astype(np.uint8)


def ground_is_bright(grey: Grey) -> bool:
    """Whether the ground is brighter than the ink: most of the border lies on the brighter side of Otsu's threshold."""
    border = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    return bool(np.mean(border > otsu(grey)) > 0.5)


def otsu(grey: Grey) -> float:
    """The threshold that parts the grey values best, between two of them (Otsu 1979): darker are those at or below."""
    counts = np.bincount(grey.reshape(-1), minlength=256).astype(float)
    below = np.cumsum(counts)
    sums = np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below - sums * below[-1]) ** 2 / (below * above)
    between = np.where((below > 0) & (above > 0), between, -1.0)
    best = np.flatnonzero(between == between.max())
    return float(best.mean())  # of equals, as across a gap without any value, the middle


def whole(grey: Grey) -> Grey:
    """The whole picture as (28, 28): its aspect kept, the rest filled with the median of its border."""
    height, width = grey.shape
    if (height, width) == (SIDE, SIDE):
        return grey
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return _place(_resized(grey, SIDE), float(np.median(border)), (0.0, 0.0))


def framed(grey: Grey, box: int) -> Grey:
    """One bright object on dark ground as (28, 28) in the manner of MNIST; a picture of 28x28 comes back as it is.

    Uneven light is taken out, the ground becomes 0 and the ink 255; specks are dropped; what is left is scaled until it
    fits a square of `box` pixels, its aspect kept, and put where its centre of mass is in the middle of the picture, as
    far as it then stays inside. A pen so thin that the scaling would leave less than `PEN` pixels is thickened first.

    Source of box and centre: http://yann.lecun.com/exdb/mnist/. `MIDDLE`, the middle of pixel 14, is where the centres
    of mass of the test images lie (14.49 +- 0.29), and `PEN` is between the quartiles of the width of their strokes.

    Raises:
        LabError: there is no ink.
    """
    if grey.shape == (SIDE, SIDE):
        return grey
    ink = _ink(_flat(_reduced(grey)))
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small = _resized(_thickened(ink, box), box)
    return _place(small * (255 / max(float(small.max()), 1.0)), 0.0, _to_middle(small))


def _reduced(grey: Grey) -> Grey:
    """At most about `WORK` pixels a side, each the mean of a block."""
    factor = max(grey.shape) // WORK
    return np.asarray(Image.fromarray(grey).reduce(factor)) if factor > 1 else grey


def _flat(grey: Grey) -> Grey:
    """Without the light's slope: less the quadratic surface through the border, but for what ink lies on it."""
    height, width = grey.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)
    border = np.ones(grey.shape, bool)
    border[1:-1, 1:-1] = False
    ground, values = terms[border], grey[border].astype(float)
    for _ in range(3):
        surface = np.linalg.lstsq(ground, values)[0]
        away = values - ground @ surface
        kept = away <= max(float(away.std()), 1.0)
        ground, values = ground[kept], values[kept]
    return np.round(grey - terms @ surface).clip(0, 255).astype(np.uint8)


def _ink(grey: Grey) -> NDArray[np.float64]:
    """Ground 0, ink 255, and between them a slope around Otsu's threshold; without specks."""
    from scipy import ndimage

    threshold = otsu(grey)
    bright = grey > threshold
    if not bright.any() or np.median(grey[bright]) - np.median(grey[~bright]) < CONTRAST:
        raise LabError("shows nothing: its ground and its ink are of the same grey")
    ground, ink = float(np.median(grey[~bright])), float(np.median(grey[bright]))
    low = (ground + threshold) / 2
    drawn = ((grey - low) / max(ink - low, 1.0)).clip(0, 1) * 255
    pieces, count = ndimage.label(drawn > 0, np.ones((3, 3)))
    mass = ndimage.sum_labels(drawn, pieces, np.arange(count + 1))
    mass[0] = 0
    return np.where((mass >= mass.max() / 20)[pieces], drawn, 0.0)


def _thickened(ink: NDArray[np.float64], box: int) -> NDArray[np.float64]:
    """Strokes of at least `PEN` pixels after the scaling.

    Across a stroke of width w the distance to the ground is w/4 in the mean.
    """
    from scipy import ndimage

    scale = box / max(ink.shape)
    width = 4 * float(ndimage.distance_transform_edt(np.pad(ink > 127, 1))[1:-1, 1:-1][ink > 127].mean())
    more = round((PEN / scale - width) / 2)
    if more < 1:
        return ink
    y, x = np.ogrid[-more : more + 1, -more : more + 1]
    return np.asarray(ndimage.grey_dilation(np.pad(ink, more), footprint=x * x + y * y <= more * more))


def _resized(grey: NDArray[np.generic], box: int) -> NDArray[np.float64]:
    """The larger side `box`, the aspect kept; a pixel is a mean over those that it covers."""
    height, width = grey.shape
    scale = box / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    kind = Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(grey.astype(np.float32)).resize(size, kind)).astype(float)


def _to_middle(grey: NDArray[np.float64]) -> tuple[float, float]:
    """How far down and right of the middle the picture must be to have its centre of mass at `MIDDLE`."""
    lines = grey.sum(axis=1), grey.sum(axis=0)
    down, right = (MIDDLE - float(np.average(np.arange(len(x)) + 0.5, weights=x)) - (SIDE - len(x)) / 2 for x in lines)
    return down, right


def _place(grey: NDArray[np.float64], ground: float, shift: tuple[float, float]) -> Grey:
    """`grey` in the middle of (28, 28) of `ground`, then moved by `shift` as far as that leaves it inside."""
    field = np.full((SIDE, SIDE), ground)
    rooms = [SIDE - side for side in grey.shape]
    top, left = (int(np.clip(np.floor(room / 2 + by + 0.5), 0, room)) for room, by in zip(rooms, shift, strict=True))
    field[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    return np.round(field).clip(0, 255).astype(np.uint8)
