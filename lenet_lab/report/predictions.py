"""Predictions of a run, from its file: checked, nothing of it unpickled."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from lenet_lab.records import LabError
from lenet_lab.report.question import Predictions

FILE = "predictions.npz"
MOST_BYTES = 256 << 20


def read(content: bytes) -> Predictions:
    """What `predictions.npz` says.

    Raises:
        LabError: it is damaged, or not the answers of a classifier.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MOST_BYTES:
                raise ValueError("too large")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            index, label, predicted = (arrays[name] for name in ("index", "label", "predicted"))
            classes = int(arrays["scores"].shape[1])
    except (ValueError, KeyError, IndexError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise LabError(f"{FILE}: cannot be read: {error}") from None
    for values in (index, label, predicted):
        if values.ndim != 1 or values.shape != label.shape or values.dtype.kind != "i" or not len(values):
            raise LabError(f"{FILE}: is no list of answers")
    if min(label.min(), predicted.min()) < 0 or max(label.max(), predicted.max()) >= classes <= 1000:
        raise LabError(f"{FILE}: names a class that the scores do not have")
    return Predictions(index, label, predicted, classes)
