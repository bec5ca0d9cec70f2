"""What one run does with each class, as comma-separated values (MLflow shows them as a table)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lenet_lab.report.csv import inert
from lenet_lab.stats import classification

HEAD = ("class", "images", "errors", "precision", "recall", "f1", "most_taken_for", "times")


def table(matrix: NDArray[np.int64], classes: Sequence[str]) -> str:
    """One row a class of a confusion matrix (row = true), the macro means last; six decimals.

    `most_taken_for` is the class that its images were most often mistaken for, of equals the first; empty where
    there are no mistakes.
    """
    measures = np.stack(classification.per_class(matrix), axis=1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    names = [inert(name) for name in classes]
    for k, (name, counts) in enumerate(zip(names, matrix, strict=True)):
        others = counts.copy()
        others[k] = 0
        worst, times = int(others.argmax()), int(others.max())
        figures = [f"{value:.6f}" for value in measures[k]]
        writer.writerow([name, counts.sum(), others.sum(), *figures, names[worst] if times else "", times])
    errors = matrix.sum() - np.trace(matrix)
    writer.writerow(["macro", matrix.sum(), errors, *(f"{value:.6f}" for value in measures.mean(axis=0)), "", ""])
    return text.getvalue()
