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
    if all(p is None for p in ps):
        return (None,) * len(ps)
    from statsmodels.stats.multitest import multipletests

    adjusted = multipletests([1.0 if p is None else p for p in ps], method="holm")[1]
    return tuple(None if p is None else float(new) for p, new in zip(ps, adjusted, strict=True))
