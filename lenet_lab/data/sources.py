"""The table of data sets: a set in torchvision's MNIST layout is one row."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from lenet_lab.data.arrays import Tables
from lenet_lab.data.digits import DigitsSource
from lenet_lab.data.files import MNIST_BOX, IdxSource, Where


class Source(Protocol):
    """What a row of the table gives."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of class 0, 1, ..."""

    @property
    def moments(self) -> tuple[float, float] | None:
        """Mean and standard deviation of x/255 over all its training images; None: computed at load."""

    @property
    def train_counts(self) -> tuple[int, ...]:
        """Training images of each class."""

    @property
    def test_counts(self) -> tuple[int, ...]:
        """Test images of each class."""

    @property
    def drawn(self) -> bool:
        """Whether the set is a draw out of the source."""

    @property
    def box(self) -> int | None:
        """The side of the square that what is drawn fills in an image; None: its images are whole pictures."""

    def prepare(self, where: Where) -> None:
        """Make sure that the source can be read."""

    def digest(self, where: Where) -> str:
        """What identifies the source's files, without decoding images where that can be."""

    def read(self, where: Where) -> Tables:
        """Everything, verified."""


MNIST = IdxSource(
    folder="MNIST",
    classes=tuple("0123456789"),
    train_counts=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    test_counts=(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    moments=(0.1307, 0.3081),
    box=MNIST_BOX,
    sha256={
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    },
    more_mirrors=("https://storage.googleapis.com/cvdf-datasets/mnist/",),
)

# `gz_sha256`: the published files, as `_CHECKSUMS` in torchvision's prototype datasets has them.
SOURCES: dict[str, Source] = {
    "mnist": MNIST,
    "reduced_mnist": replace(MNIST, drawn=True),
    "fashion_mnist": IdxSource(
        folder="FashionMNIST",
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        train_counts=(6000,) * 10,
        test_counts=(1000,) * 10,
        moments=(0.2860, 0.3530),
        gz_sha256={
            "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        },
        more_mirrors=("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",),
    ),
    "kmnist": IdxSource(
        folder="KMNIST",
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        train_counts=(6000,) * 10,
        test_counts=(1000,) * 10,
        gz_sha256={
            "t10k-images-idx3-ubyte": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "t10k-labels-idx1-ubyte": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            "train-images-idx3-ubyte": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "train-labels-idx1-ubyte": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        },
    ),
    "digits": DigitsSource(),
}
