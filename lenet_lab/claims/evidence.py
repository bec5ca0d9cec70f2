"""The runs that a source is judged by: those of its arms, one a seed, and numbers that are read off their curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lenet_lab.records import Curves, RunRecord

CONVERGED = "converged"
COUNT = ("complete", "diverged")  # states of runs that do
WITHIN = 0.001  # of the best accuracy, for good
_CURVES = ("val/acc", "test_curve/acc")
READ = (*_CURVES, "train/loss")


@dataclass(frozen=True)
class Evidence:
    """The runs of the arms of one source.

    Attributes:
        runs: arm -> its runs that count, one a seed, by rising seed.
        curves: run id -> metric -> points, at least of those in `READ`.
        superseded: runs of the same arms and seeds that do not count, since a later one is there.
    """

    runs: Mapping[str, Sequence[RunRecord]]
    curves: Curves
    superseded: int = 0

    @classmethod
    def gather(
        cls, arms: Mapping[str, str], aims: Mapping[str, int], records: Iterable[RunRecord], curves: Curves
    ) -> Evidence:
        """The runs of each arm, by the digest that its runs bear; of several with one seed the latest.

        Args:
            arms: name -> digest.
            aims: name -> how many seeds count, from 0 on; others are left alone, so that nobody stops when it suits.
        """
        by_digest: dict[str, list[RunRecord]] = {}
        for record in records:
            if record.state in COUNT:
                by_digest.setdefault(record.arm, []).append(record)
        found, superseded = {}, 0
        for name, digest in arms.items():
            last: dict[int, RunRecord] = {}
            for record in sorted(by_digest.get(digest, ()), key=lambda one: (one.end_ms or 0, one.run_id)):
                if record.seed is not None and record.seed < aims[name]:
                    superseded += record.seed in last
                    last[record.seed] = record
            found[name] = tuple(last[seed] for seed in sorted(last))
        return cls(found, curves, superseded)

    def values(self, arm: str, metric: str) -> dict[int, float]:
        """Seed -> the metric of the complete runs that have it; times of runs that had the machine to themselves."""
        found = {}
        for record in self.runs.get(arm, ()):
            if record.state != "complete" or record.seed is None:
                continue
            if metric.startswith("time/") and record.tags.get("lenet.timing") != "alone":
                continue
            value = self._value(record, metric)
            if math.isfinite(value):
                found[record.seed] = value
        return found

    def diverged(self, arm: str) -> int:
        """How many seeds of an arm diverged."""
        return sum(record.state == "diverged" for record in self.runs.get(arm, ()))

    def unsettled(self, arm: str, metric: str) -> int:
        """How many complete runs of an arm never stay within 0.1 points of their best, so that no epoch is theirs."""
        if metric != CONVERGED:
            return 0
        complete = [record for record in self.runs.get(arm, ()) if record.state == "complete"]
        return sum(math.isnan(self._value(record, metric)) for record in complete)

    def _value(self, record: RunRecord, metric: str) -> float:
        """A metric of a run: its last value, or `train/loss@1`: that after so many epochs; or `converged`."""
        curves = self.curves.get(record.run_id, {})
        name, at, epoch = metric.partition("@")
        if at:
            return dict(curves.get(name, ())).get(int(epoch), math.nan)
        if metric != CONVERGED:
            return record.metrics.get(metric, math.nan)
        points = next((curves[name] for name in _CURVES if curves.get(name)), ())
        return converged(points)


def converged(points: Sequence[tuple[int, float]]) -> float:
    """The first epoch from which on the accuracy stays within 0.1 points of the best of them all; NaN without any."""
    best, first = max((value for _, value in points), default=math.nan), math.nan
    for step, value in reversed(points):
        if value < best - WITHIN:
            break
        first = float(step)
    return first
