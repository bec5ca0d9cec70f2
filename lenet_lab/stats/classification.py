"""What a classifier's scores say: pure functions of scores, losses and labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ECE_BINS = 15


def confusion(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Counts (classes, classes): row = true class, column = predicted class."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def per_class(
    matrix: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall and F1 of each class (classes,); 0 where undefined, as scikit-learn's `zero_division=0`."""
    right = np.diag(matrix).astype(float)
    precision = _ratio(right, matrix.sum(axis=0))
    recall = _ratio(right, matrix.sum(axis=1))
    return precision, recall, _ratio(2 * precision * recall, precision + recall)


def top_k(scores: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> float:
    """The share of examples whose class is among the k best scores (n, classes); of equals the lower class wins."""
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((ranked == labels[:, None]).any(axis=1).mean())


def calibration_error(scores: NDArray[np.float32], labels: NDArray[np.int64], bins: int = ECE_BINS) -> float:
    """Expected calibration error: |accuracy - confidence| over equal-width bins of the top score, weighted by size.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, eq. 3; bins are (low, high].
    """
    confidence = scores.max(axis=1).astype(float)
    right = (scores.argmax(axis=1) == labels).astype(float)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.abs(np.bincount(index, right - confidence, minlength=bins))
    return float(gaps.sum() / len(labels))


def surest_mistakes(
    scores: NDArray[np.float32], predicted: NDArray[np.int64], labels: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Rows of up to `count` wrong answers, those with the most confidence (the score of the answer given) first."""
    wrong = np.flatnonzero(predicted != labels)
    return wrong[np.argsort(-scores[wrong, predicted[wrong]], kind="stable")][:count]


def most_confusing(
    scores: NDArray[np.float32], predicted: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """One row for each class that there is, in their order: its surest mistake or, without any, its least sure right
    answer; of equals the first."""
    confidence, right = scores[np.arange(len(labels)), predicted], predicted == labels
    ranked = np.lexsort((np.where(right, confidence, -confidence), right, labels))
    return ranked[np.unique(labels[ranked], return_index=True)[1]]


def summary(
    scores: NDArray[np.float32],
    losses: NDArray[np.float32],
    predicted: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> Mapping[str, float]:
    """Loss, accuracy, errors, n, top-3, macro precision, recall and F1, expected calibration error."""
    matrix = confusion(labels, predicted, scores.shape[1])
    precision, recall, f1 = per_class(matrix)
    errors = int((predicted != labels).sum())
    return {
        "loss": float(losses.astype(float).mean()),
        "acc": 1.0 - errors / len(labels),
        "errors": float(errors),
        "n": float(len(labels)),
        "top3": top_k(scores, labels, 3),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
        "ece": calibration_error(scores, labels),
    }


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros_like(above, dtype=float), where=below > 0)
