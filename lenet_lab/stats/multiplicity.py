"""p values of a family of comparisons, adjusted so that one false positive in the family is as rare as it says."""

from __future__ import annotations

from collections.abc import Sequence


def holm(ps: Sequence[float | None]) -> tuple[float | None, ...]:
    """Holm's step-down adjustment, in the order given.

    None is a comparison that could not be tested: it stays None and still counts in the size of the family, so
    that what could not be tested never makes the others look better.
    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6 (1979).

    Raises:
        ValueError: a p outside [0, 1].
    """
    for p in ps:
        if p is not None and not 0 <= p <= 1:
            raise ValueError(f"p={p}: a number from 0 to 1")
    known = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(ps) - rank) * p))
        adjusted[i] = largest
    return tuple(adjusted)
