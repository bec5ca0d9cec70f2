"""Test images by their index, for a report to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lenet_lab.records import LabError, RunRecord

if TYPE_CHECKING:
    from lenet_lab.report.figures import Images

_DRAW = ("draw_seed", "train_per_class", "test_per_class")


def test_images(record: RunRecord, wanted: Sequence[int]) -> Images:
    """The images (28, 28) that a run was tested on, as grey levels, from the data set as it lies on this machine.

    Raises:
        LabError: it is not here, or is another one.
    """
    from lenet_lab.data import Data

    params = record.params  # read as it lies: what the networks saw of it would want torch
    draw: Any = {key: int(params[f"data.{key}"]) for key in _DRAW if params.get(f"data.{key}", "null") != "null"}
    data = Data(
        name=params.get("data", ""), val_size=0, download=False, **draw
    )  # the networks' own inputs would want torch
    tables = data.source.read(data.where)
    if tables.digest != record.tags.get("lenet.data_digest"):
        raise LabError("the data set on this machine is not the one that the runs were tested on")
    rows = data.take(tables.test, "test")
    place = {int(index): at for at, index in enumerate(rows.index)}
    return {index: rows.images[place[index]] for index in wanted if index in place}
