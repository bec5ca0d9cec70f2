"""Objectives: the loss and the decision rule that belongs to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Lt
from torch import Tensor
from torch.nn import functional

from lenet_lab.records import LabError


class Objective(ABC):
    """What a net's outputs (n, classes) mean: how wrong they are, what they decide, how sure they are.

    `accepts` names the kinds of outputs (see `blocks.head.Head`) that it can read.
    """

    accepts: ClassVar[tuple[str, ...]]

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each example, (n,), for class ids `targets`, int64 (n,); its mean is minimised."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> Tensor:
        """The class decided on, int64 (n,)."""

    @abstractmethod
    def scores(self, outputs: Tensor) -> Tensor:
        """A probability for each class, (n, classes); rows sum to 1, the largest is the predicted class."""


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """Softmax cross-entropy on logits, in nats; the largest logit wins.

    With `label_smoothing` e the target is 1 - e on the right class plus e / classes on every class (Szegedy
    et al. 2016); evaluation losses are smoothed in the same way.
    """

    accepts = ("logits",)

    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=self.label_smoothing)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(dim=1)

    def scores(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(dim=1)


def check_fit(head: Any, loss: Objective) -> None:
    """Loss and decision rule must fit what the head puts out.

    Raises:
        LabError: they do not; it names the losses that would.
    """
    if head.outputs not in loss.accepts:
        fitting = [name for name, accepted in LOSSES.items() if head.outputs in accepted]
        raise LabError(
            f"loss: {type(loss).__name__} reads {' or '.join(loss.accepts)}, and head={type(head).__name__} puts out "
            f"{head.outputs}; allowed with this head: {', '.join(f'loss={name}' for name in fitting)}"
        )


# The options of the group and the outputs that each can read, for the error above.
LOSSES: dict[str, tuple[str, ...]] = {"cross_entropy": CrossEntropy.accepts}

# Config group: the dataclass of a node without `_target_`, and the class a `_target_` must descend from.
DEFAULTS: dict[str, type] = {"loss": CrossEntropy}
BASES: dict[str, type] = {"loss": Objective}
