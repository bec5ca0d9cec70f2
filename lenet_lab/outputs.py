"""What a finished run leaves: predictions, figures and the model, as files ready to be tracked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lenet_lab.blocks.streams import key
from lenet_lab.data import Arrays, Split
from lenet_lab.data.augment import Levels
from lenet_lab.data.batches import order
from lenet_lab.engines import Evaluation
from lenet_lab.fitted import Fitted
from lenet_lab.report import per_class, run_figures
from lenet_lab.stats import classification

SHOWN = 20  # training images that `inputs.png` shows


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
    matrix = classification.confusion(labels, predicted, len(arrays.classes))
    (folder / "per_class.csv").write_text(per_class.table(matrix, arrays.classes), encoding="utf-8")
    if config.tracking.artifacts == "full":
        if fitted.log_book:
            run_figures.curves(folder / "curves.png", title, fitted.log_book)
        run_figures.confusion(folder / "confusion.png", title, matrix, arrays.classes)
        _pictures(folder, title, arrays, scores, predicted, labels)
        _inputs(folder / "inputs.png", title, fitted.learned, arrays, config)
        fitted.save_model(folder / "model", arrays.test.images[:2])
    else:
        fitted.save_weights(folder)
    return metrics


def _pictures(folder: Path, title: str, arrays: Arrays, scores: Any, predicted: Any, labels: Any) -> None:
    names = arrays.classes
    rows_of = {
        "misclassified.png": (run_figures.mistakes, classification.surest_mistakes(scores, predicted, labels, 30)),
        "confusing.png": (run_figures.confusing, classification.most_confusing(scores, predicted, labels)[:100]),
    }
    for file, (draw, rows) in rows_of.items():
        draw(
            folder / file,
            title,
            _ink(arrays.test.images[rows], arrays.levels),
            [names[i] for i in labels[rows]],
            [names[i] for i in predicted[rows]],
            [float(scores[i, predicted[i]]) for i in rows],
        )


def _inputs(path: Path, title: str, split: Split, arrays: Arrays, config: Any) -> None:
    """The images that training saw first, before and after augmentation."""
    first = order(len(split), config.seed, 0)[:SHOWN]
    images = split.images[first.to(split.images.device)].cpu()
    seen = config.augment.apply(images, key(config.seed, "augment", 0), torch.arange(len(first)), arrays.levels)
    after = None if seen is images else _ink(seen, arrays.levels)
    names = [arrays.classes[int(i)] for i in split.labels[first.to(split.labels.device)]]
    run_figures.inputs(path, title, _ink(images, arrays.levels), after, names)


def _ink(images: Tensor, levels: Levels) -> Any:
    """Inputs (n, C, H, W) as ink (n, H, W): 0 on empty ground, 1 where it is fullest."""
    full = levels.zero + levels.one - levels.ground
    return ((images[:, 0] - levels.ground) / (full - levels.ground)).numpy()
