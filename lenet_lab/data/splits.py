"""Which rows are trained on, validated on, tested on: pure functions of labels and a seed.

They draw from numpy's RandomState, whose streams numpy has frozen (NEP 19): a split is the same for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lenet_lab.records import LabError

MAX_SEED = 2**32 - 1
_VALIDATION, _TRAINING = 0, 1  # second word of the seed: the two choices are independent draws


def interleave(counts: Sequence[int]) -> NDArray[np.int64]:
    """Class ids in an order whose every prefix is stratified: item j of n of a class stands at (j + 1/2) / n.

    A prefix of m out of N items holds n m / N of a class, give or take one. Ties go to the lower class id.

    Returns int64 (sum of counts,).
    """
    classes = np.repeat(np.arange(len(counts)), counts)
    places = np.concatenate([(np.arange(n) + 0.5) / n for n in counts if n] or [np.empty(0)])
    return classes[np.lexsort((classes, places))]


def stratified_order(labels: NDArray[np.uint8], classes: int, rng: np.random.RandomState) -> NDArray[np.int64]:
    """All rows of `labels` (n,) in a random order whose every prefix is stratified, int64 (n,)."""
    members = [rng.permutation(np.flatnonzero(labels == k)) for k in range(classes)]
    sequence = interleave([len(rows) for rows in members])
    order = np.empty(len(labels), np.int64)
    for k, rows in enumerate(members):
        order[sequence == k] = rows
    return order


def hold_out(
    labels: NDArray[np.uint8], classes: int, size: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A stratified split: the rows that stay (n - size,) and the rows held out (size,), each ascending.

    A larger `size` holds out the same rows and more.
    """
    order = stratified_order(labels, classes, np.random.RandomState([seed, _VALIDATION]))
    return np.sort(order[size:]), np.sort(order[:size])


def subset(labels: NDArray[np.uint8], classes: int, size: int, seed: int) -> NDArray[np.int64]:
    """`size` rows in proportion to the classes, ascending; a larger size contains the smaller one."""
    order = stratified_order(labels, classes, np.random.RandomState([seed, _TRAINING]))
    return np.sort(order[:size])


def per_class(labels: NDArray[np.uint8], classes: int, size: int, seed: int) -> NDArray[np.int64]:
    """`size` rows of every class, ascending; a larger size contains the smaller one."""
    order = stratified_order(labels, classes, np.random.RandomState([seed, _TRAINING]))
    return np.sort(np.concatenate([order[labels[order] == k][:size] for k in range(classes)]))


def draw(labels: NDArray[np.uint8], classes: int, size: int, seed: int) -> NDArray[np.int64]:
    """`size` rows of every class without replacement, class by class in one stream, then in ascending order.

    The same rows as the usual way to make a reduced MNIST: for each digit in turn
    `RandomState(seed).choice(rows of the digit, size, replace=False)`, one generator for all digits.
    """
    rng = np.random.RandomState(seed)
    chosen = [rng.choice(np.flatnonzero(labels == k), size, replace=False) for k in range(classes)]
    return np.sort(np.concatenate(chosen))


def counts_after(
    counts: Sequence[int], val_size: int, train_size: int | None, per_class: int | None
) -> tuple[int, int]:
    """How many images are trained on and validated on, from the number of training images of each class.

    Raises:
        LabError: the sizes do not fit the set or each other; names the key and what is allowed.
    """
    total = sum(counts)
    if val_size >= total:
        raise LabError(f"data.val_size={val_size}: there are {total} training images; allowed: 0 to {total - 1}")
    left = np.bincount(interleave(counts)[val_size:], minlength=len(counts))
    if train_size is not None and per_class is not None:
        raise LabError(
            f"data.train_size={train_size}: data.per_class={per_class} is given too; allowed: one of the two"
        )
    if train_size is not None:
        if train_size > left.sum():
            raise LabError(f"data.train_size={train_size}: {_left(val_size)}; allowed: 1 to {left.sum()}")
        return train_size, val_size
    if per_class is not None:
        if per_class > left.min():
            raise LabError(f"data.per_class={per_class}: {_left(val_size)}; allowed: 1 to {left.min()}")
        return per_class * len(counts), val_size
    return int(left.sum()), val_size


def _left(val_size: int) -> str:
    return f"data.val_size={val_size} leaves fewer training images"
