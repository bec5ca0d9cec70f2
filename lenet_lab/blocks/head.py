"""The output layer: from the last hidden units to one number a class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import nn


class Head(ABC):
    """A layer from (n, features) to (n, classes), read by the objective's decision rule."""

    @abstractmethod
    def build(self, features: int, classes: int) -> nn.Module:
        """The layer."""


@dataclass(frozen=True)
class LinearHead(Head):
    """Logits: a fully connected layer without activation."""

    def build(self, features: int, classes: int) -> nn.Module:
        return nn.Linear(features, classes)
