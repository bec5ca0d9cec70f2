"""The columns of the comparison, for the formats that people read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lenet_lab.report.facts import LEVEL, Arm
from lenet_lab.report.numbers import decimals, interval, percent, plus_minus, span


@dataclass(frozen=True)
class Column:
    """A column: its heading, the text of an arm's cell, and the number it sorts by (None sorts last)."""

    head: str
    text: Callable[[Arm], str]
    value: Callable[[Arm], float | None]


def _metric(head: str, name: str, places: int) -> Column:
    show = percent if places < 0 else decimals(places)
    return Column(head, lambda arm: plus_minus(arm.metrics.get(name), show) + _own_n(arm, name), _mean(name))


def _mean(name: str) -> Callable[[Arm], float | None]:
    return lambda arm: arm.metrics[name].mean if name in arm.metrics else None


def _own_n(arm: Arm, name: str) -> str:
    """A number taken over fewer runs than the arm has says so."""
    spread = arm.metrics.get(name)
    return "" if spread is None or spread.n == arm.n else f" (n={spread.n})"


def _runs(arm: Arm) -> str:
    return f"{arm.n} (+{len(arm.diverged)} diverged)" if arm.diverged else str(arm.n)


def _throughput(arm: Arm) -> str:
    spread = arm.metrics.get("images_per_s")
    mark = "" if spread is None or arm.timed_alone else " †"
    return plus_minus(spread, decimals(0)) + mark


_PERCENT = -1

COLUMNS = (
    Column("Runs (n)", _runs, lambda arm: float(arm.n)),
    _metric("Test accuracy, %", "test/acc", _PERCENT),
    Column(
        f"{LEVEL:.0%} interval, %",
        lambda arm: interval(arm.metrics.get("test/acc"), percent),
        _mean("test/acc"),
    ),
    _metric("Test errors", "test/errors", 1),
    _metric("Test loss", "test/loss", 4),
    _metric("Train accuracy, %", "train_eval/acc", _PERCENT),
    _metric("Train time, s", "time/train_s", 1),
    Column("Images/s", _throughput, _mean("images_per_s")),
    Column("Parameters", lambda arm: span(arm.metrics.get("params/total")), _mean("params/total")),
    Column("Epochs", lambda arm: span(arm.metrics.get("epochs")), _mean("epochs")),
)

CAPTION = (
    "Values are mean ± sample standard deviation over seeds; the interval is Student's t interval for the "
    "mean of the test accuracy. Arms come by falling mean."
)
