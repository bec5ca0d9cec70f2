"""Two trained networks on the same test images. It speaks of this pair of networks, not of their arms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = Sequence[int] | NDArray[np.integer]


class McNemar(NamedTuple):
    """b: images that a alone has right; c: images that b alone has right; p: exact, two-sided."""

    b: int
    c: int
    p: float


def mcnemar(predicted_a: Labels, predicted_b: Labels, labels: Labels) -> McNemar:
    """McNemar's exact (binomial) test on the predicted classes (n,) of two networks for the same labels (n,).

    Source: McNemar, Psychometrika 12 (1947); for classifiers Dietterich, Neural Computation 10 (1998).

    Raises:
        ValueError: the three are not of one length, or empty.
    """
    a, b, truth = (np.asarray(values) for values in (predicted_a, predicted_b, labels))
    if not (a.shape == b.shape == truth.shape and truth.ndim == 1 and len(truth)):
        raise ValueError(f"predictions {a.shape} and {b.shape} for labels {truth.shape}: one of each for every image")
    right_a, right_b = a == truth, b == truth
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    if only_a + only_b == 0:
        return McNemar(0, 0, 1.0)
    from statsmodels.stats.contingency_tables import mcnemar as exact

    return McNemar(only_a, only_b, float(exact([[0, only_a], [only_b, 0]], exact=True).pvalue))
