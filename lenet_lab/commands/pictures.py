"""Test images by their index, for a report to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lenet_lab.records import LabError, RunRecord

if TYPE_CHECKING:
    from lenet_lab.report.figures import Images

_DRAW = ("draw_seed", "train_per_class", "test_per_class")


def test_images(record: RunRecord, wanted: Sequence[int]) -> Images:
    """The images (28, 28) that a run was tested on, as grey levels, from the data set as it lies on this machine.

    Raises:
        LabError: it is not here, or is another one.
    """
    import numpy as np

    from lenet_lab.cell import load
    from lenet_lab.commands.errors import hydra_errors
    from lenet_lab.config.compose import compose_cell
    from lenet_lab.config.schema import parse

    given = [
        f"data.{key}={record.params[f'data.{key}']}"
        for key in _DRAW
        if record.params.get(f"data.{key}", "null") != "null"
    ]
    with hydra_errors():
        cell = compose_cell([f"data={record.params.get('data', '')}", "data.download=false", *given])
    arrays = load(parse(cell.resolved).data)
    if arrays.digest != record.tags.get("lenet.data_digest"):
        raise LabError("the data set on this machine is not the one that the runs were tested on")
    place = {int(index): at for at, index in enumerate(arrays.test.index)}
    pixels = arrays.test.images[[place[index] for index in wanted if index in place], 0].numpy()
    low, high = float(arrays.test.images.min()), float(arrays.test.images.max())
    levels = np.rint((pixels - low) / (high - low) * 255).astype(np.uint8)
    return dict(zip((index for index in wanted if index in place), levels, strict=True))
