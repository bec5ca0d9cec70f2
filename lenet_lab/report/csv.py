"""The comparison as comma-separated values: full precision, shares of 0..1, an empty cell for nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from lenet_lab.report.facts import Arm, Facts, Run, Spread

_ARM_METRICS = (
    "test/acc", "test/errors", "test/loss", "train_eval/acc", "time/train_s", "images_per_s", "params/total",
    "epochs", "test/n",
)  # fmt: skip


def arms(facts: Facts) -> str:
    """One row an arm: id, label, the factors that vary, runs, and mean, sd and t interval of each metric."""
    factors = sorted({name for arm in facts.arms for name, _ in arm.settings})
    head = ["arm", "label", *(f"params.{name}" for name in factors), "n", "seeds", "diverged", "timed_alone"]
    for name in _ARM_METRICS:
        head += [f"{name}.{part}" for part in ("n", "mean", "sd", "low", "high")]
    return _written(head, (_arm(arm, factors) for arm in facts.arms))


def runs(facts: Facts) -> str:
    """One row a run, those that do not count among them, with every metric that was tracked."""
    metrics = sorted({name for run in facts.runs for name in run.metrics})
    head = [
        "run_id",
        "name",
        "arm",
        "seed",
        "state",
        "counts",
        "excluded",
        "sweep",
        "timing",
        "data_digest",
        "code",
    ]
    head += ["budget", "link", *(f"metrics.{name}" for name in metrics)]
    return _written(head, (_run(run, metrics) for run in facts.runs))


def inert(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula: a leading apostrophe where one might.

    See OWASP, "CSV Injection": = + - @ tab and carriage return start a formula, full-width forms too.
    """
    starts = text.lstrip()[:1]
    return f"'{text}" if (starts and starts in "=+-@＝＋－＠") or text[:1] in ("\t", "\r", "\n") else text


def _arm(arm: Arm, factors: Sequence[str]) -> list[str]:
    values = dict(arm.settings)
    row = [inert(arm.arm), inert(arm.label), *(inert(values.get(name, "")) for name in factors)]
    row += [str(arm.n), _seeds(arm.seeds), str(len(arm.diverged)), str(arm.timed_alone).lower()]
    for name in _ARM_METRICS:
        row += _parts(arm.metrics.get(name))
    return row


def _parts(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["0", "", "", "", ""]
    return [str(spread.n), *(_number(v) for v in (spread.mean, spread.sd, spread.low, spread.high))]


def _run(run: Run, metrics: Sequence[str]) -> list[str]:
    text = [run.sweep, run.timing, run.data_digest, run.code, run.budget, run.link or ""]
    return [
        *(inert(cell) for cell in (run.run_id, run.name, run.label)),
        "" if run.seed is None else str(run.seed),
        inert(run.state),
        str(not run.excluded).lower(),
        inert(run.excluded),
        *(inert(cell) for cell in text),
        *(_number(run.metrics.get(name)) for name in metrics),
    ]


def _seeds(seeds: Sequence[int | None]) -> str:
    return " ".join("none" if seed is None else str(seed) for seed in seeds)


def _number(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _written(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([inert(cell) for cell in head])
    writer.writerows(rows)
    return text.getvalue()
