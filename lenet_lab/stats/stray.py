"""Seeds that ended somewhere else than the others of their arm."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

FEWEST, FAR = 5, 20.0
NORMAL = 1.4826  # times the median distance from the median: the standard deviation of normal values


def stray(values: Sequence[float], sign: int) -> tuple[float, ...]:
    """The values so far on the worse side of the others that neither mean nor t interval describes the arm.

    A network that has learned nothing among networks that have: farther from the median than 20 robust standard
    deviations (median absolute deviation; Hampel, JASA 69, 1974). Fewer than five values, or more than half of them
    equal, have none.

    Args:
        sign: 1 where more is better, -1 where less is.
    """
    if len(values) < FEWEST:
        return ()
    middle = median(values)
    reach = FAR * NORMAL * median(abs(value - middle) for value in values)
    return tuple(value for value in values if reach and sign * (middle - value) > reach)
