"""Whether a stored classical model's numbers are sound: the compiled code that gets them trusts sizes and indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lenet_lab.models.classical import Learned


def sound(name: str, learned: Learned, features: int, classes: int) -> bool:
    """Whether it is a state of the model `name`, for images of so many pixels and so many classes.

    Anything may be raised where a part of it is missing, or of another kind.
    """
    return bool(CHECKS[name](learned, features, classes))


def _svm(learned: Learned, features: int, classes: int) -> bool:
    machine = learned.estimator
    vectors, k = machine.support_vectors_, len(machine.classes_)
    return (
        _classifier(machine, "SVC", features, classes)
        and _array(vectors, (int(machine._n_support.sum()), features))
        and _array(machine._n_support, (k,), "i")
        and bool((machine._n_support >= 0).all())
        and _array(machine.support_, (len(vectors),), "i")
        and _array(machine._dual_coef_, (k - 1, len(vectors)))
        and _array(machine._intercept_, (k * (k - 1) // 2,))
        and machine._probA.size == machine._probB.size == 0
        and machine._sparse is False
    )


def _kmeans(learned: Learned, features: int, classes: int) -> bool:
    clusters = len(learned.estimator.cluster_centers_)
    return (
        type(learned.estimator).__name__ == "KMeans"
        and _array(learned.estimator.cluster_centers_, (clusters, features))
        and _array(learned.shares, (clusters, classes))
    )


def _knn(learned: Learned, features: int, classes: int) -> bool:
    found = learned.estimator
    images, labels = found._fit_X, found._y
    return (
        _classifier(found, "KNeighborsClassifier", features, classes)
        and (found._fit_method, found._tree, found.n_samples_fit_) == ("brute", None, len(images))
        and _array(images, (len(labels), features))
        and _array(labels, (len(images),), "i")
        and labels.min() >= 0
        and labels.max() < len(found.classes_)
    )


def _logreg(learned: Learned, features: int, classes: int) -> bool:
    found = learned.estimator
    rows = len(found.classes_) if len(found.classes_) > 2 else 1
    return (
        _classifier(found, "LogisticRegression", features, classes)
        and _array(found.coef_, (rows, features))
        and _array(found.intercept_, (rows,))
    )


def _random_forest(learned: Learned, features: int, classes: int) -> bool:
    forest = learned.estimator
    return (
        _classifier(forest, "RandomForestClassifier", features, classes)
        and (forest.n_classes_, forest.n_outputs_) == (len(forest.classes_), 1)
        and all(_tree(tree, features, len(forest.classes_)) for tree in forest.estimators_)
    )


def _tree(classifier: Any, features: int, classes: int) -> bool:
    """Whether it leads from its root to a leaf whatever it is shown: children come after their parent."""
    tree = classifier.tree_
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    places, inner = np.arange(tree.node_count), left != -1
    return (
        type(classifier).__name__ == "DecisionTreeClassifier"
        and (classifier.n_classes_, classifier.n_outputs_) == (classes, 1)
        and (tree.n_features, tree.n_outputs) == (features, 1)
        and tree.node_count > 0
        and tree.value.shape == (tree.node_count, 1, classes)
        and bool((inner == (right != -1)).all())
        and bool((np.minimum(left, right)[inner] > places[inner]).all())
        and bool((np.maximum(left, right)[inner] < tree.node_count).all())
        and bool(((feature[inner] >= 0) & (feature[inner] < features)).all())
    )


def _classifier(estimator: Any, kind: str, features: int, classes: int) -> bool:
    """Whether it is of this kind, for images of so many pixels, and its classes are among ours."""
    present = estimator.classes_
    return (
        type(estimator).__name__ == kind
        and estimator.n_features_in_ == features
        and _array(present, (len(present),), "i")
        and 1 < len(present) <= classes
        and bool((np.diff(present) > 0).all())
        and present[0] >= 0
        and present[-1] < classes
    )


def _array(value: Any, shape: tuple[int, ...], kind: str = "f") -> bool:
    """Whether it is an array of numbers of this kind and shape."""
    return isinstance(value, np.ndarray) and value.dtype.kind == kind and value.shape == shape


CHECKS: dict[str, Callable[[Learned, int, int], bool]] = {
    "svm": _svm,
    "kmeans": _kmeans,
    "knn": _knn,
    "logreg": _logreg,
    "random_forest": _random_forest,
}
