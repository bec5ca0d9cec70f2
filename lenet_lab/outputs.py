"""What a finished run leaves: predictions, figures and the model, as files ready to be tracked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lenet_lab.data import Arrays
from lenet_lab.engines import Evaluation
from lenet_lab.fitted import Fitted
from lenet_lab.report import run_figures
from lenet_lab.stats import classification


def write_outputs(
    folder: Path, title: str, fitted: Fitted, arrays: Arrays, test: Evaluation, config: Any
) -> dict[str, float]:
    """Write everything into `folder`; returns the `test/...` metrics.

    Args:
        test: the test split as `fitted` saw it.
    """
    scores, losses = test.scores.float().numpy(), test.losses.float().numpy()
    predicted, labels = test.predicted.numpy(), test.labels.numpy()
    np.savez_compressed(
        folder / "predictions.npz",
        index=arrays.test.index.numpy(),
        label=labels,
        predicted=predicted,
        scores=scores,
        loss=losses,
    )
    metrics = {f"test/{key}": value for key, value in classification.summary(scores, losses, predicted, labels).items()}
    if config.tracking.artifacts == "full":
        _figures(folder, title, arrays, scores, predicted, labels, fitted.log_book)
        fitted.save_model(folder / "model", arrays.test.images[:2])
    else:
        fitted.save_weights(folder)
    return metrics


def _figures(folder: Path, title: str, arrays: Arrays, scores: Any, predicted: Any, labels: Any, log_book: Any) -> None:
    if log_book:
        run_figures.curves(folder / "curves.png", title, log_book)
    matrix = classification.confusion(labels, predicted, len(arrays.classes))
    run_figures.confusion(folder / "confusion.png", title, matrix, arrays.classes)
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-scores[wrong, predicted[wrong]], kind="stable")][:30]
    names = arrays.classes
    run_figures.mistakes(
        folder / "misclassified.png",
        title,
        arrays.test.images[surest, 0].numpy(),
        [names[i] for i in labels[surest]],
        [names[i] for i in predicted[surest]],
        [float(scores[i, predicted[i]]) for i in surest],
    )
