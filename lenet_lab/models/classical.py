"""Classical classifiers by scikit-learn, on the pixels: baselines that no gradient trains."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from torch import nn

from lenet_lab.models.parts import Model, Parts
from lenet_lab.records import LabError

Pixels = NDArray[np.float32]
Labels = NDArray[np.int64]
Scores = NDArray[np.float64]
Progress = Callable[[float], None]
Positive = Annotated[int, Gt(0)]


@dataclass(frozen=True)
class Learned:
    """What a classical model has learned.

    Attributes:
        estimator: of scikit-learn, fitted.
        shares: what it lacks to score with, float64 (rows, classes); None where it lacks nothing.
    """

    estimator: Any
    shares: Scores | None = None


class Classical(Model):
    """A scikit-learn estimator that learns from pixels (n, C*H*W) and gives every class a score.

    `max_train`: learn from no more than so many training images, a stratified draw of the run's seed; None: from all.
    """

    engine = "classical"
    unused = (
        "pool", "norm", "activation", "init", "dropout", "head", "loss", "optimizer", "lr", "batch_size",
        "weight_decay", "schedule", "averaging", "early_stopping", "augment", "epochs", "order", "checkpoint",
        "test_curve",
        "trainer.devices", "trainer.nodes", "trainer.strategy", "trainer.precision", "trainer.fast_dev",
    )  # fmt: skip
    name: ClassVar[str]

    max_train: Annotated[int, Ge(10)] | None

    def build(self, parts: Parts) -> nn.Module:
        """There is none. Raises `LabError`."""
        raise LabError(f"model={self.name}: is no network, so it has no layers; allowed: the other models")

    @abstractmethod
    def fit(self, pixels: Pixels, labels: Labels, classes: int, seed: int, threads: int, progress: Progress) -> Learned:
        """Learn from pixels (n, d) and class ids (n,).

        Args:
            classes: how many there are; `labels` may lack some.
            seed: of all its draws, 0 to 2^32 - 1.
            progress: told the share of the work that is done, where the library says.
        """

    def scores(self, learned: Learned, pixels: Pixels, classes: int) -> Scores:
        """A number for each class (n, classes); rows sum to 1, the largest is the decision, of equals the first."""
        return _spread(learned.estimator.predict_proba(pixels), learned.estimator.classes_, classes)

    def parameters(self, learned: Learned) -> int | None:
        """Numbers learned, where their number says something."""
        return None


@dataclass(frozen=True)
class SVM(Classical):
    """A support vector machine (Cortes and Vapnik 1995), one against one, by libsvm.

    Its time grows faster than the square of the number of images. Scores are the softmax of the decision values:
    they rank the classes and are no calibrated probabilities. `gamma`: of the kernels rbf and poly; None is
    1 / (features * variance).
    """

    name = "svm"

    c: Annotated[float, Gt(0)] = 10.0
    kernel: Literal["rbf", "linear", "poly"] = "rbf"
    gamma: Annotated[float, Gt(0)] | None = None
    max_train: Annotated[int, Ge(10)] | None = 10_000

    def fit(self, pixels: Pixels, labels: Labels, classes: int, seed: int, threads: int, progress: Progress) -> Learned:
        from sklearn.svm import SVC

        machine = SVC(C=self.c, kernel=self.kernel, gamma=self.gamma or "scale", cache_size=500, break_ties=True)
        return Learned(machine.fit(pixels, labels))

    def scores(self, learned: Learned, pixels: Pixels, classes: int) -> Scores:
        from scipy.special import softmax

        values = learned.estimator.decision_function(pixels)
        values = values if values.ndim == 2 else np.column_stack([-values, values])
        return _spread(softmax(values, axis=1), learned.estimator.classes_, classes)


@dataclass(frozen=True)
class KMeans(Classical):
    """Clusters of images (Lloyd's k-means), each labelled by the vote of the training images in it.

    A score is the class's share of the cluster. `restarts`: of so many starts by k-means++ the one with the
    smallest inertia is kept.
    """

    name = "kmeans"

    clusters: Annotated[int, Ge(2)] = 256
    restarts: Positive = 1
    max_iter: Positive = 100
    max_train: Annotated[int, Ge(10)] | None = None

    def fit(self, pixels: Pixels, labels: Labels, classes: int, seed: int, threads: int, progress: Progress) -> Learned:
        from sklearn import cluster

        if self.clusters > len(pixels):
            raise LabError(f"model.clusters={self.clusters}: more than images; allowed: 2 to {len(pixels)}")
        found = cluster.KMeans(self.clusters, n_init=self.restarts, max_iter=self.max_iter, random_state=seed)
        found.fit(pixels)
        counts = np.zeros((self.clusters, classes))
        np.add.at(counts, (found.labels_, labels), 1)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        shares[counts.sum(axis=1) == 0] = 1 / classes
        return Learned(found, shares)

    def scores(self, learned: Learned, pixels: Pixels, classes: int) -> Scores:
        from sklearn.metrics import pairwise_distances_argmin

        assert learned.shares is not None
        return learned.shares[pairwise_distances_argmin(pixels, learned.estimator.cluster_centers_)]

    def parameters(self, learned: Learned) -> int:
        return int(learned.estimator.cluster_centers_.size)


@dataclass(frozen=True)
class KNN(Classical):
    """The vote of the nearest training images, by Euclidean distance to every one of them.

    A score is the share of the votes. `weights`: votes count alike, or by the inverse of the distance.
    """

    name = "knn"

    neighbors: Positive = 3
    weights: Literal["uniform", "distance"] = "distance"
    max_train: Annotated[int, Ge(10)] | None = None

    def fit(self, pixels: Pixels, labels: Labels, classes: int, seed: int, threads: int, progress: Progress) -> Learned:
        from sklearn.neighbors import KNeighborsClassifier

        if self.neighbors > len(pixels):
            raise LabError(f"model.neighbors={self.neighbors}: more than images; allowed: 1 to {len(pixels)}")
        found = KNeighborsClassifier(self.neighbors, weights=self.weights, algorithm="brute", n_jobs=threads)
        return Learned(found.fit(pixels, labels))


@dataclass(frozen=True)
class LogisticRegression(Classical):
    """Multinomial logistic regression with an L2 penalty, by L-BFGS. `c`: the inverse of the penalty's strength."""

    name = "logreg"

    c: Annotated[float, Gt(0)] = 0.01
    max_iter: Positive = 200
    max_train: Annotated[int, Ge(10)] | None = None

    def fit(self, pixels: Pixels, labels: Labels, classes: int, seed: int, threads: int, progress: Progress) -> Learned:
        from sklearn import linear_model

        return Learned(linear_model.LogisticRegression(C=self.c, max_iter=self.max_iter).fit(pixels, labels))

    def parameters(self, learned: Learned) -> int:
        return int(learned.estimator.coef_.size + learned.estimator.intercept_.size)


@dataclass(frozen=True)
class RandomForest(Classical):
    """A random forest (Breiman 2001); a score is the mean over the trees of the class's share of the leaf.

    `max_depth`: None lets the trees grow until their leaves are pure or smaller than two `min_leaf`.
    """

    name = "random_forest"

    trees: Positive = 100
    max_depth: Positive | None = None
    min_leaf: Positive = 1
    max_train: Annotated[int, Ge(10)] | None = None

    def fit(self, pixels: Pixels, labels: Labels, classes: int, seed: int, threads: int, progress: Progress) -> Learned:
        """Ten trees at a time: the same trees as all at once."""
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(
            max_depth=self.max_depth, min_samples_leaf=self.min_leaf, random_state=seed, n_jobs=threads, warm_start=True
        )
        for trees in [*range(10, self.trees, 10), self.trees]:
            forest.set_params(n_estimators=trees).fit(pixels, labels)
            progress(trees / self.trees)
        return Learned(forest.set_params(n_jobs=1))  # in one order: a sum over threads has none


def _spread(scores: Scores, present: Labels, classes: int) -> Scores:
    """Scores (n, k) of the class ids `present` (k,) as (n, classes), 0 for the others."""
    if len(present) == classes:
        return scores
    full = np.zeros((len(scores), classes))
    full[:, present] = scores
    return full
