"""Images of one's own: read safely, framed as the published sets are, and trained on as a folder or a table."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from lenet_lab.cell import build, make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.data import Data
from lenet_lab.data.folder import ImageFolder
from lenet_lab.data.images import MAX_PIXELS, framed, ground_is_bright, otsu, read_grey, whole
from lenet_lab.data.table import Table
from lenet_lab.records import LabError

RED, GREEN, BLUE = (200, 30, 60), (20, 180, 90), (10, 40, 220)


def luma(colour: tuple[int, int, int]) -> float:
    """ITU-R 601."""
    return float(np.dot(colour, (0.299, 0.587, 0.114)))


def seven(size: tuple[int, int] = (300, 400), at: tuple[int, int] = (150, 60), width: int = 14) -> Image.Image:
    """A 7 in dark ink on white paper, off the middle."""
    page = Image.new("L", size, 255)
    left, top = at
    ImageDraw.Draw(page).line(
        [(left, top), (left + 100, top), (left + 40, top + 160)], fill=20, width=width, joint="curve"
    )
    return page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """scikit-learn's digits 0 to 2, 8x8, as PNG files: 20 of each."""
    bunch = load_digits(n_class=3)
    for digit in range(3):
        (tmp_path / "root" / str(digit)).mkdir(parents=True)
        for row in np.flatnonzero(bunch.target == digit)[:20]:
            image = Image.fromarray((bunch.images[row] * 255 / 16).astype(np.uint8))
            image.save(tmp_path / "root" / str(digit) / f"{row:04}.png")
    return tmp_path / "root"


def table(folder: Path, name: str, n: int = 60, **changes: object) -> str:
    """The same digits as rows of pixels in the layout of Kaggle's train.csv."""
    bunch = load_digits(n_class=3)
    pixels = np.kron(bunch.images[:n], np.ones((1, 4, 4)))[:, 2:30, 2:30].reshape(n, 784) * 255 // 16
    frame = pd.DataFrame(pixels.astype(int), columns=[f"pixel{i}" for i in range(784)])
    frame.insert(0, "label", bunch.target[:n])
    for column, value in changes.items():
        frame[column] = frame[column].astype(object) if isinstance(value, str) else frame[column].astype(float)
        frame.loc[3, column] = value
    path = folder / name
    frame.to_parquet(path) if name.endswith(".parquet") else frame.to_csv(path, index=False)
    return str(path)


# reading


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_image_is_read_as_grey(tmp_path: Path, mode: str) -> None:
    """A bright spot on dark ground in every mode that PNG and JPEG have; the values by the formula of the luma."""
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        expected = (0, 200)
        pixels = np.zeros((6, 9), np.uint16)
        pixels[2, 3] = 200 * 257
        Image.fromarray(pixels).save(path)
    else:
        image = Image.new("RGB", (9, 6), BLUE)
        image.paste(GREEN, (0, 0, 9, 3)) if mode == "CMYK" else image.putpixel((3, 2), GREEN)
        expected = (0, 255) if mode == "1" else (luma(BLUE), luma(GREEN))
        if mode == "1":
            image = image.convert("L").point(lambda v: 255 * (v > 80))
        made = image.quantize(4) if mode == "P" else image.convert(mode)
        made.save(path, **({"quality": 100} if mode == "CMYK" else {}))
    grey = read_grey(path)
    assert (grey.dtype, grey.shape) == (np.uint8, (6, 9))
    tolerance = 4 if mode == "CMYK" else 1
    assert abs(int(grey[5, 8]) - expected[0]) <= tolerance
    assert abs(int(grey[2, 3]) - expected[1]) <= tolerance


@pytest.mark.parametrize(("ink", "ground"), [(0, 255), (255, 0)])
def test_transparent_ground_is_the_opposite_of_the_ink(tmp_path: Path, ink: int, ground: int) -> None:
    image = Image.new("RGBA", (30, 30), (255 - ground, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((10, 5, 14, 24), fill=(ink, ink, ink, 255))
    image.save(tmp_path / "a.png")
    grey = read_grey(tmp_path / "a.png")
    assert (grey[0, 0], grey[12, 12]) == (ground, ink)
    assert ground_is_bright(grey) == (ground == 255)


def test_a_photograph_on_its_side_is_put_upright(tmp_path: Path) -> None:
    upright = seven()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif, quality=95)
    grey = read_grey(tmp_path / "a.jpg")
    assert grey.shape == (400, 300)
    assert np.abs(grey.astype(int) - np.asarray(upright)).mean() < 1


def bomb(side: int) -> bytes:
    """A small PNG file that says it is `side` x `side`."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 16))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def cut_short() -> bytes:
    stream = io.BytesIO()
    seven().save(stream, "PNG")
    return stream.getvalue()[:700]


def gif() -> bytes:
    stream = io.BytesIO()
    seven().save(stream, "GIF")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is no PNG or JPEG image, or is damaged"),
        (b"label,pixel0\n", "is no PNG or JPEG image, or is damaged"),
        (cut_short(), "is no PNG or JPEG image, or is damaged"),
        (gif(), "is no PNG or JPEG image, or is damaged"),
        (bomb(30_000), f"has more than {MAX_PIXELS:,} pixels, the most that are read"),
        (bomb(9_000), f"has more than {MAX_PIXELS:,} pixels, the most that are read"),
        (None, "No such file or directory"),
    ],
    ids=["empty", "text", "cut-short", "gif", "bomb", "large", "missing"],
)
def test_what_is_no_image_is_one_line(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LabError) as caught:
        read_grey(path)
    assert str(caught.value) == f"{path}: {why}"


# framing


def test_otsu_is_the_best_of_all_thresholds() -> None:
    """Against the definition: the least variance within the two classes, tried out for every threshold."""
    grey = np.random.RandomState(0).normal(90, 30, (40, 30)).clip(0, 255).astype(np.uint8)
    grey[10:20, 5:12] = 220

    def within(threshold: float) -> float:
        below, above = grey[grey <= threshold], grey[grey > threshold]
        return below.size * below.var() + above.size * above.var() if below.size and above.size else np.inf

    assert within(otsu(grey)) == pytest.approx(min(within(t) for t in range(256)))


def test_28x28_is_left_as_it_is() -> None:
    image = np.random.RandomState(0).randint(0, 256, (28, 28)).astype(np.uint8)
    assert np.array_equal(framed(image, 20), image)
    assert np.array_equal(whole(image), image)


@pytest.mark.parametrize("size", [(300, 400), (64, 64), (1200, 900)])
def test_a_digit_is_framed_as_mnist_is(size: tuple[int, int]) -> None:
    """20 pixels high, the centre of mass at that of MNIST's images, ground 0, ink 255, a pen of some pixels."""
    scale = min(size[0] / 300, size[1] / 400)
    page = seven().resize((round(300 * scale), round(400 * scale)))
    image = framed(255 - np.asarray(page), 20)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert np.ptp(rows) + 1 == 20
    assert 10 <= np.ptp(columns) + 1 <= 16
    centre = np.argwhere(image >= 0).T @ image.reshape(-1) / image.sum()
    assert np.allclose(centre, 14, atol=0.6)
    assert image.max() == 255
    assert image[0].max() == image[:, 0].max() == 0
    assert 1.2 < image.sum() / 255 / 32 < 3.5  # the two strokes together are about 32 pixels long


def test_whole_images_keep_their_aspect() -> None:
    page = np.full((40, 80), 90, np.uint8)
    page[10:30, 20:60] = 250
    image = whole(page)
    assert set(np.unique(image[:7])) == set(np.unique(image[-7:])) == {90}
    assert image[14, 14] == 250
    assert abs(int((image > 170).sum()) - 14 * 7) <= 14  # a pixel's line at an edge


@pytest.mark.parametrize("light", [0, 60, 120])
def test_light_noise_and_a_thin_pen_do_not_matter(light: int) -> None:
    """The same 7 on clean paper, and by slanting light, with noise and specks."""
    page = np.asarray(seven(width=5)).astype(float)
    y, x = np.mgrid[0:400, 0:300] / 400
    shot = page * (255 - light * (0.7 * y + 0.5 * x)) / 255 + np.random.RandomState(0).normal(0, 5, page.shape)
    shot[350:353, 20:23] = 30
    clean, dirty = (framed(255 - image.clip(0, 255).astype(np.uint8), 20) for image in (page, shot))
    assert np.corrcoef(clean.reshape(-1), dirty.reshape(-1))[0, 1] > 0.97


def test_nothing_drawn_is_one_line() -> None:
    for page in (np.full((50, 60), 200, np.uint8), np.random.RandomState(0).randint(100, 104, (50, 60), np.uint8)):
        with pytest.raises(LabError, match=r"^shows nothing: its ground and its ink are of the same grey$"):
            framed(page, 20)


@pytest.mark.mnist
@pytest.mark.slow
def test_framing_brings_mnist_back(mnist_root: Path) -> None:
    """MNIST's digits enlarged onto a page and framed again are what they were."""
    data = Data(name="mnist", root=str(mnist_root), val_size=0)
    digits = data.source.read(data.where).test.images[:40]
    alike = []
    for number, digit in enumerate(digits):
        page = Image.new("L", (300, 400), 0)
        page.paste(Image.fromarray(digit).resize((180, 180), Image.Resampling.BICUBIC), (3 * number, 5 * number))
        back = framed(np.asarray(page), 20)
        shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]  # the middle, before it is rounded, is near
        rolled = [np.roll(back, by, axis=(0, 1)) for by in shifts]
        alike.append(max(np.corrcoef(one.reshape(-1), digit.reshape(-1))[0, 1] for one in rolled))
    assert np.median(alike) > 0.97
    assert min(alike) > 0.9


# a folder


def test_a_folder_is_split_by_its_own_seed(folder: Path) -> None:
    data = ImageFolder(root=str(folder), val_size=6, test_share=0.25, normalize="unit")
    assert data.classes == ("0", "1", "2")
    assert data.counts() == (39, 6, 15)
    arrays = data.load()
    assert arrays.val is not None
    parts = (arrays.train, arrays.val, arrays.test)
    assert sorted(torch.cat([part.index for part in parts]).tolist()) == list(range(60))
    assert [np.bincount(part.labels, minlength=3).tolist() for part in parts] == [[13] * 3, [2] * 3, [5] * 3]
    files = sorted(folder.rglob("*.png"))
    for part in (arrays.train, arrays.test):
        for image, label, index in zip(part.images, part.labels, part.index, strict=True):
            assert files[index].parent.name == str(int(label))
            theirs = Image.open(files[index]).resize((28, 28), Image.Resampling.BILINEAR)
            assert np.abs(np.asarray(theirs) / 255 - image[0].numpy()).max() < 0.01
    assert not set(arrays.test.index.tolist()) & set(arrays.train.index.tolist())
    other = ImageFolder(root=str(folder), val_size=6, test_share=0.25, test_seed=1).load()
    assert other.test.index.tolist() != arrays.test.index.tolist()
    assert other.digest != arrays.digest == data.digest()


def test_train_and_test_folders_and_dark_ink(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    for part in ("train", "test"):
        for digit in "012":
            (root / part / digit / "deeper").mkdir(parents=True)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        turned = Image.fromarray(255 - np.asarray(Image.open(path)))
        turned.save(root / ("test" if number % 4 == 0 else "train") / path.parent.name / "deeper" / path.name)
    (root / "train" / "0" / ".DS_Store").write_bytes(b"x")
    data = ImageFolder(root=str(root), val_size=0, ink="dark", normalize="unit")
    assert data.counts() == (45, 0, 15)
    arrays = ImageFolder(root=str(folder), val_size=0, normalize="unit").load()
    bright = torch.cat([arrays.train.images, arrays.test.images]).flatten(1)
    away = (data.load().train.images.flatten(1)[:, None] - bright[None]).abs().amax(dim=2)
    assert away.amin(dim=1).max() <= 1.01 / 255, "each is one of the others, but for the last digit"


def test_the_digest_is_that_of_the_content(folder: Path, tmp_path: Path) -> None:
    """The same pixels elsewhere are the same data; one pixel, one name of a class, one order more are not."""
    import shutil

    base = ImageFolder(root=str(folder), val_size=0).digest()
    copies = [tmp_path / name for name in ("same", "pixel", "class")]
    for copy in copies:
        shutil.copytree(folder, copy)
    first = min((copies[1] / "1").iterdir())
    pixels = np.asarray(Image.open(first)).copy()
    pixels[4, 4] ^= 128
    Image.fromarray(pixels).save(first)
    (copies[2] / "2").rename(copies[2] / "two")
    same, pixel, name = (ImageFolder(root=str(copy), val_size=0).digest() for copy in copies)
    assert same == base
    assert len({base, pixel, name}) == 3


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (
            lambda root: (root / "1" / "note.txt").write_text("x"),
            r"note\.txt: is named like no image; allowed: \.png, \.jpg, \.jpeg",
        ),
        (lambda root: (root / "1" / "a.png").write_text("x"), r"a\.png: is no PNG or JPEG image, or is damaged"),
        (lambda root: [path.unlink() for path in root.rglob("*.png")], "no PNG or JPEG image in the folders of"),
        (lambda root: [path.unlink() for path in (root / "1").iterdir()], "no training image of class 1"),
        (
            lambda root: (root / "train" / "1").mkdir(parents=True),
            "holds train and also 0, 1, 2; allowed beside it: test",
        ),
        (lambda root: [root.rename(root.with_name("gone"))], "is not there; allowed: a folder with one folder a class"),
    ],
    ids=["text", "damaged", "empty", "empty-class", "mixed", "gone"],
)
def test_a_bad_folder_is_one_line(folder: Path, spoil, why: str) -> None:  # type: ignore[no-untyped-def]
    spoil(folder)
    with pytest.raises(LabError, match=why) as caught:
        ImageFolder(root=str(folder), val_size=0).counts()
    assert "\n" not in str(caught.value)


def test_classes_that_do_not_match_are_named(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    (root / "test" / "3").mkdir(parents=True)
    folder.rename(root / "train")
    with pytest.raises(LabError, match=r"do not match; only in train: 0, 1, 2; only in test: 3$"):
        ImageFolder(root=str(root), val_size=0).digest()


def test_no_folder_given() -> None:
    with pytest.raises(LabError, match=r"^data\.root: missing; data=image_folder needs a path$"):
        make_ready(compose_cell(["data=image_folder"]))
    with pytest.raises(LabError, match=r"^data\.train: missing; data=table needs a path$"):
        make_ready(compose_cell(["data=table"]))


def test_three_classes_make_a_network_of_three(folder: Path) -> None:
    ready = make_ready(compose_cell(["data=image_folder", f"data.root={folder}"]))
    assert build(ready.config)(torch.zeros(2, 1, 28, 28)).shape == (2, 3)
    assert ready.data_digest == ready.config.data.digest()


# a table


@pytest.mark.parametrize("name", ["train.csv", "train.csv.gz", "train.parquet"])
def test_a_table_of_pixels(tmp_path: Path, name: str) -> None:
    """Kaggle's layout; the same rows in another format are the same data."""
    data = Table(train=table(tmp_path, name), val_size=0, test_share=0.25, normalize="unit")
    assert (data.classes, data.counts()) == (("0", "1", "2"), (45, 0, 15))
    frame = pd.read_parquet(table(tmp_path, "other.parquet"))
    arrays = data.load()
    for part in (arrays.train, arrays.test):
        rows = frame.iloc[part.index.numpy()]
        assert rows["label"].tolist() == part.labels.tolist()
        assert np.allclose(rows.drop(columns="label").to_numpy() / 255, part.images.flatten(1).numpy())
    assert arrays.digest == Table(train=str(tmp_path / "other.parquet"), val_size=0, test_share=0.25).digest()


def test_a_table_of_8x8_with_names_and_a_test_file(tmp_path: Path) -> None:
    bunch = load_digits(n_class=2)
    frame = pd.DataFrame((bunch.data * 15).astype(int))
    frame["what"] = np.array(["zero", "one"])[bunch.target]
    frame[:200].to_csv(tmp_path / "a.csv", index=False)
    frame[200:].to_csv(tmp_path / "b.csv", index=False)
    data = Table(train=str(tmp_path / "a.csv"), test=str(tmp_path / "b.csv"), label="what", val_size=0)
    assert (data.classes, data.counts()) == (("one", "zero"), (200, 0, len(frame) - 200))
    assert data.load().test.images.shape[1:] == (1, 28, 28)


def test_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.zeros((24, 4), int))
    frame["label"] = list(range(12)) * 2
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert Table(train=str(tmp_path / "a.csv"), val_size=0).classes == tuple(str(n) for n in range(12))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pixel7": 256}, r"row 4, column 'pixel7' holds 256; allowed: whole numbers from 0 to 255"),
        ({"pixel7": -1}, r"row 4, column 'pixel7' holds -1; allowed"),
        ({"pixel7": 1.5}, r"row 4, column 'pixel7' holds 1\.5; allowed"),
        ({"pixel7": np.nan}, r"row 4, column 'pixel7' holds nan; allowed"),
        ({"pixel7": "x"}, r"column 'pixel7' holds other values than numbers"),
        ({"label": np.nan}, r"row 4 has no label"),
    ],
    ids=["above", "below", "fraction", "missing", "text", "no-label"],
)
def test_a_bad_value_is_one_line(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    with pytest.raises(LabError, match=why):
        Table(train=table(tmp_path, "a.csv", **changes), val_size=0).digest()


def test_a_bad_table_is_one_line(tmp_path: Path) -> None:
    good = table(tmp_path, "a.csv")
    frame = pd.read_csv(good)
    frame.drop(columns="pixel3").to_csv(tmp_path / "few.csv", index=False)
    frame.drop(columns="label").to_csv(tmp_path / "test.csv", index=False)
    frame[frame.label != 2].to_csv(tmp_path / "two.csv", index=False)
    frame[:0].to_csv(tmp_path / "none.csv", index=False)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"label,a,b,c,d\n" * 1000)[:30])
    lines = {
        "few.csv": "has 783 columns of pixels; allowed: n\\*n, as 784 for 28x28",
        "test.csv": "has no column 'label' \\(data.label\\); its columns: pixel0, pixel1, pixel2, ...",
        "none.csv": "has no rows",
        "bad.parquet": "bad.parquet",
        "empty.csv": "No columns to parse from file",
        "cut.csv.gz": "cut.csv.gz",
        "gone.csv": "cannot read .* \\(No such file or directory\\)",
        "a.xlsx": "is no table; allowed: .parquet, .csv, .csv.gz",
    }
    for name, why in lines.items():
        with pytest.raises(LabError, match=why) as caught:
            Table(train=str(tmp_path / name), val_size=0).digest()
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("data.train")
    with pytest.raises(LabError, match=r"^data.test: .* do not match; only in train: 2$"):
        Table(train=good, test=str(tmp_path / "two.csv"), val_size=0).digest()
