"""What a report is asked: which metric, against which baseline, which pairs, how the table is laid out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from numpy.typing import NDArray

from lenet_lab.records import Curves
from lenet_lab.study import Study

_SHARES = ("acc", "top3", "precision", "recall", "f1", "ece")
_HIGHER = ("acc", "top3", "precision", "recall", "f1", "images_per_s")
_WORDS = {
    "test": "test", "val": "validation", "train": "training", "train_eval": "training", "acc": "accuracy",
    "f1": "F1", "ece": "calibration error", "top3": "top-3 accuracy", "params/macs": "multiply-accumulates",
    "params/total": "parameters", "time/train_s": "train time", "time/total_s": "total time",
    "images_per_s": "images a second", "epochs": "epochs", "epochs/best": "epochs to the best validation score",
}  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """How a metric is shown: a number times `scale`, with `places` decimals; `sign` is 1 where more is better."""

    name: str
    words: str
    scale: float
    places: int
    sign: int
    unit: str

    @property
    def head(self) -> str:
        """As the heading of a column: `Test accuracy, %`."""
        text = self.words[:1].upper() + self.words[1:]
        return f"{text}, {self.unit}" if self.unit else text

    @property
    def points(self) -> str:
        """The unit of a difference."""
        return "points" if self.unit == "%" else self.unit


def measure(name: str) -> Measure:
    """The measure of a metric, known or not."""
    group, _, last = name.rpartition("/")
    words = _WORDS.get(name) or " ".join(_WORDS.get(part, part) for part in (group, last) if part)
    sign = 1 if last in _HIGHER else -1
    if last in _SHARES:
        return Measure(name, words, 100.0, 2, sign, "%")
    places = 4 if last == "loss" else 1
    return Measure(name, words, 1.0, places, sign, "s" if last.endswith("_s") and group == "time" else "")


@dataclass(frozen=True, eq=False)
class Predictions:
    """The answers of one run to the test images: their index in the set, class and predicted class, each (n,)."""

    index: NDArray
    label: NDArray
    predicted: NDArray
    classes: int


Reader = Callable[[Sequence[str]], Mapping[str, Predictions]]
"""Run ids -> the predictions of those that have any that can be read."""
CurveReader = Callable[[Sequence[str]], Curves]
"""Run ids -> their learning curves."""


@dataclass(frozen=True)
class Question:
    """What is asked of the runs.

    Attributes:
        title: of the report.
        metric: what arms are ranked and compared by.
        level: of every interval and test.
        baseline: text that selects the arm the others are compared with; None: the study's, else the default's.
        study: the study that the runs belong to.
        defaults: the params of the default configuration; an arm that has them in every factor is the baseline.
        pairs: further comparisons, each two texts that select an arm.
        rows, columns: params that lay out the table of cells; none: the factors, where the arms are a full grid.
        mcnemar: whether pairs of networks of one seed are compared by their answers.
        mixed: whether runs of different test sets may stand in one table.
        asked: the keys of the cells that were asked for.
    """

    title: str = "Comparison of arms"
    metric: str = "test/acc"
    level: float = 0.95
    baseline: str | None = None
    study: Study | None = None
    defaults: Mapping[str, str] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    mcnemar: bool = False
    mixed: bool = False
    asked: frozenset[str] = frozenset()

    @property
    def measure(self) -> Measure:
        """How the metric is shown."""
        return measure(self.metric)
