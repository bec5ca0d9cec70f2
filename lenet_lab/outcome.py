"""How a job ended, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        state: complete, diverged, failed, stopped, or without training: done (it was complete already), busy
            (another process trains it).
        delivered: whether the store has everything.
        figures: the final metrics, where there are any.
    """

    key: str
    name: str
    state: str
    run_id: str | None = None
    error: str | None = None
    seconds: float = 0.0
    delivered: bool = True
    figures: Mapping[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, to cross a process boundary."""
        return asdict(self)
