"""What training leaves, whoever did it: something that can be evaluated, counted and kept."""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lenet_lab.data.arrays import Split
from lenet_lab.engines import Evaluation, ask, evaluate
from lenet_lab.models.classical import Classical, Learned, Progress


@dataclass(frozen=True)
class Fitted(ABC):
    """A trained model with the weights that are tested.

    Attributes:
        learned: the training images it has learned from.
        figures: final metrics of its own: time, epochs, parameters.
        log_book: the figures of every epoch, empty where there are none.
        remark: what a person should know about it, in a line; empty where there is nothing.
    """

    learned: Split
    figures: Mapping[str, float]
    log_book: tuple[Mapping[str, float], ...]
    remark: str

    @abstractmethod
    def evaluate(self, split: Split) -> Evaluation:
        """One pass over a split."""

    @abstractmethod
    def save_model(self, folder: Path, example: torch.Tensor) -> None:
        """The whole model as the files of `folder`, which loads without unpickling.

        `example` are images (n, C, H, W) with n above 1.
        """

    @abstractmethod
    def save_weights(self, folder: Path) -> None:
        """What it has learned alone, as one file in `folder`."""


@dataclass(frozen=True)
class Network(Fitted):
    """A network in evaluation mode on the device that it is evaluated on, and its objective."""

    net: nn.Module
    objective: Any

    def evaluate(self, split: Split) -> Evaluation:
        return evaluate(self.net, self.objective, split)

    def save_model(self, folder: Path, example: torch.Tensor) -> None:
        """In MLflow's `pt2` format."""
        from lenet_lab.tracking.models import save_network

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("mlflow").setLevel(logging.ERROR)
            net = self.net.to("cpu").eval()
            save_network(folder, net, example.to(next(net.parameters()).dtype))

    def save_weights(self, folder: Path) -> None:
        from safetensors.torch import save_file

        state = {key: value.cpu().contiguous() for key, value in self.net.state_dict().items()}
        save_file(state, folder / "weights.safetensors")


@dataclass(frozen=True)
class Estimator(Fitted):
    """A classical model and what it has learned; `progress` is told how far each pass is."""

    model: Classical
    state: Learned
    classes: int
    threads: int
    progress: Progress

    def evaluate(self, split: Split) -> Evaluation:
        return ask(self.model, self.state, split, self.classes, self.threads, self.progress)

    def save_model(self, folder: Path, example: torch.Tensor) -> None:
        """As skops: no pickle."""
        folder.mkdir(exist_ok=True)
        self._save(folder / "estimator.skops")

    def save_weights(self, folder: Path) -> None:
        self._save(folder / "estimator.skops")

    def _save(self, path: Path) -> None:
        from lenet_lab.tracking.models import save_classical

        save_classical(path, self.state)
