"""Objectives: the loss and the decision rule that belongs to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor
from torch.nn import functional

from lenet_lab.blocks.head import HEADS
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


@dataclass(frozen=True)
class MeanSquaredError(Objective):
    """Mean squared difference to the one-hot target, over the classes; the largest output wins.

    With `label_smoothing` e the target is (1 - e) one-hot plus e / classes. Scores are the outputs without their
    negative parts, scaled to sum 1; the softmax where no output is positive.
    """

    accepts = ("likelihoods", "logits")

    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        classes = outputs.shape[1]
        aim = functional.one_hot(targets, classes).to(outputs.dtype)
        if self.label_smoothing:
            aim = (1 - self.label_smoothing) * aim + self.label_smoothing / classes
        return (outputs - aim).square().mean(dim=1)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(dim=1)

    def scores(self, outputs: Tensor) -> Tensor:
        positive = outputs.clamp(min=0)
        total = positive.sum(dim=1, keepdim=True)
        return torch.where(total > 0, positive / total, outputs.softmax(dim=1))


class Nearest(Objective):
    """Reads distances: the nearest class wins, its score is the softmax of minus the distances."""

    accepts = ("distances",)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.argmin(dim=1)

    def scores(self, outputs: Tensor) -> Tensor:
        return outputs.neg().softmax(dim=1)


@dataclass(frozen=True)
class RbfMse(Nearest):
    """The distance to the right code alone: LeCun et al. 1998, eq. (8).

    It does not push wrong codes away, so trainable centres may all run together: the paper says why that is bad.
    """

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.gather(1, targets.unsqueeze(1)).squeeze(1)


@dataclass(frozen=True)
class Map(Nearest):
    """y_D + log(exp(-j) + sum_i exp(-y_i)): LeCun et al. 1998, eq. (9), for the right class D.

    `over=all`, as printed: i runs over all classes, and the loss is the cross-entropy of the logits [-y, -j], whose
    last class (rubbish) is never right. `over=incorrect`: i leaves the right class out, so that the pull to its code
    does not fade near it; the loss may then be negative. `j` says how near a wrong code must be to be pushed away:
    codes themselves are 4 times their bits apart, so a small j hardly ever pushes.
    With `label_smoothing` e the right class gets 1 - e and every class e / classes.
    """

    j: Annotated[float, Gt(0)] = 0.1
    over: Literal["all", "incorrect"] = "all"
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0

    def __post_init__(self) -> None:
        if self.label_smoothing and self.over == "incorrect":
            raise LabError(
                f"loss.label_smoothing={self.label_smoothing:g}: means nothing with loss.over=incorrect, which has no "
                "distribution over classes; allowed: 0, or loss.over=all"
            )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logits = functional.pad(outputs.neg(), (0, 1), value=-self.j)
        if self.over == "all":
            losses = functional.cross_entropy(logits, targets, reduction="none")
            if not self.label_smoothing:
                return losses
            each = logits.logsumexp(dim=1) + outputs.mean(dim=1)
            return (1 - self.label_smoothing) * losses + self.label_smoothing * each
        right = targets.unsqueeze(1)
        wrong = logits.scatter(1, right, -torch.inf).logsumexp(dim=1)
        return outputs.gather(1, right).squeeze(1) + wrong


def check_fit(head: Any, loss: Objective) -> None:
    """Loss and decision rule must fit what the head puts out.

    Raises:
        LabError: they do not; it names the losses that fit the head and the heads that fit the loss.
    """
    if head.outputs not in loss.accepts:
        losses = [f"loss={name}" for name, accepted in LOSSES.items() if head.outputs in accepted]
        heads = [f"head={name}" for name, outputs in HEADS.items() if outputs in loss.accepts]
        raise LabError(
            f"loss: {type(loss).__name__} reads {' or '.join(loss.accepts)}, and head={type(head).__name__} puts out "
            f"{head.outputs}; allowed with this head: {', '.join(losses)}; with this loss: {', '.join(heads)}"
        )


# The options of the group and the outputs that each can read, for the error above.
LOSSES: dict[str, tuple[str, ...]] = {
    "cross_entropy": CrossEntropy.accepts,
    "mse": MeanSquaredError.accepts,
    "rbf_mse": RbfMse.accepts,
    "map": Map.accepts,
}

# Config group: the dataclass of a node without `_target_`, and the class a `_target_` must descend from.
DEFAULTS: dict[str, type] = {"loss": CrossEntropy}
BASES: dict[str, type] = {"loss": Objective}
