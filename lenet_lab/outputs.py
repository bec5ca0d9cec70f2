"""What a finished run leaves: predictions, figures and the model, as files ready to be tracked."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lenet_lab.data import Arrays
from lenet_lab.engines import Evaluation
from lenet_lab.report import run_figures
from lenet_lab.stats import classification


def write_outputs(
    folder: Path,
    title: str,
    net: nn.Module,
    arrays: Arrays,
    test: Evaluation,
    log_book: Sequence[Mapping[str, float]],
    config: Any,
) -> dict[str, float]:
    """Write everything into `folder`; returns the `test/...` metrics.

    Args:
        net: on the CPU, in evaluation mode, with the tested weights.
        test: the test split as this network saw it.
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
        _figures(folder, title, arrays, scores, predicted, labels, log_book)
        save_model(folder / "model", net, arrays.test.images[:2])
    else:
        from safetensors.torch import save_file

        save_file(
            {key: value.contiguous() for key, value in net.state_dict().items()},
            folder / "weights.safetensors",
        )
    return metrics


def _figures(folder: Path, title: str, arrays: Arrays, scores: Any, predicted: Any, labels: Any, log_book: Any) -> None:
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


def save_model(folder: Path, net: nn.Module, example: torch.Tensor) -> None:
    """The network in MLflow's `pt2` format, which loads without unpickling, for any batch size."""
    from lenet_lab.tracking.models import save_network

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        save_network(folder, net, example)
