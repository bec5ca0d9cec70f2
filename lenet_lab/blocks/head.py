"""The output layer: from the last hidden units to one number a class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn


class Head(ABC):
    """A layer from (n, features) to (n, classes), read by the objective's decision rule.

    `outputs` says what its numbers are: `logits` (the largest wins, any real number), `distances` (0 or more, the
    smallest wins) or `likelihoods` (0 to 1, the largest wins).
    """

    outputs: ClassVar[Literal["logits", "distances", "likelihoods"]]

    @abstractmethod
    def build(self, features: int, classes: int) -> nn.Module:
        """The layer."""


@dataclass(frozen=True)
class LinearHead(Head):
    """Logits: a fully connected layer without activation."""

    outputs = "logits"

    def build(self, features: int, classes: int) -> nn.Module:
        return nn.Linear(features, classes)
