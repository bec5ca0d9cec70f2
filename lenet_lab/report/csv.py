"""The comparison as comma-separated values: full precision, shares of 0..1, an empty cell for nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from lenet_lab.report.facts import Arm, Contrast, Facts, Run, Spread

_ARM_METRICS = (
    "test/acc", "test/errors", "test/loss", "train_eval/acc", "time/train_s", "images_per_s", "params/total",
    "params/macs", "epochs", "epochs/best", "test/n",
)  # fmt: skip
_NUMBERS = (
    "mean", "sd", "low", "high", "p", "adjusted", "t_p", "attainable", "effect", "improvement", "detectable",
)  # fmt: skip


def arms(facts: Facts) -> str:
    """One row an arm: id, label, the factors that vary, runs, and mean, sd and t interval of each metric."""
    factors = sorted({name for arm in facts.arms for name, _ in arm.settings})
    metrics = list(dict.fromkeys((facts.metric, *_ARM_METRICS)))
    head = ["number", "arm", "label", *(f"params.{name}" for name in factors), "n", "seeds", "diverged"]
    head += ["timed_alone", "may_be_best"]
    for name in metrics:
        head += [f"{name}.{part}" for part in ("n", "mean", "sd", "low", "high")]
    return _written(head, (_arm(arm, factors, metrics) for arm in facts.arms))


def comparisons(facts: Facts) -> str:
    """One row a comparison, paired by seed: see `Contrast`."""
    head = ["arm", "label", "base", "base_label", "metric", "n", "seeds", *_NUMBERS, "needed", "reading"]
    return _written(head, (_contrast(facts, one) for one in facts.contrasts))


def effects(facts: Facts) -> str:
    """One row a level of a factor, or a pair of levels of two: the mean there and the effect, with intervals."""
    head = ["factors", "levels", "mean", "mean_low", "mean_high", "effect", "low", "high"]
    rows = (
        [inert(" ".join(one.factors)), inert(" ".join(one.levels))]
        + [_number(v) for v in (one.mean, one.mean_low, one.mean_high, one.effect, one.low, one.high)]
        for one in facts.effects
    )
    return _written(head, rows)


def runs(facts: Facts) -> str:
    """One row a run, those that do not count among them, with every metric that was tracked."""
    metrics = sorted({name for run in facts.runs for name in run.metrics})
    head = ["run_id", "name", "arm_number", "arm", "seed", "state", "counts", "excluded", "sweep", "timing"]
    head += ["data_digest", "code", "budget", "link", *(f"metrics.{name}" for name in metrics)]
    return _written(head, (_run(run, metrics) for run in facts.runs))


def inert(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula: a leading apostrophe where one might.

    See OWASP, "CSV Injection": = + - @ tab and carriage return start a formula, full-width forms too.
    """
    starts = text.lstrip()[:1]
    return f"'{text}" if (starts and starts in "=+-@＝＋－＠") or text[:1] in ("\t", "\r", "\n") else text


def _arm(arm: Arm, factors: Sequence[str], metrics: Sequence[str]) -> list[str]:
    values = dict(arm.settings)
    row = [str(arm.number), inert(arm.arm), inert(arm.label), *(inert(values.get(name, "")) for name in factors)]
    row += [str(arm.n), _seeds(arm.seeds), str(len(arm.diverged)), str(arm.timed_alone).lower()]
    row.append("" if arm.best is None else str(arm.best).lower())
    for name in metrics:
        row += _parts(arm.metrics.get(name))
    return row


def _parts(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["0", "", "", "", ""]
    return [str(spread.n), *(_number(v) for v in (spread.mean, spread.sd, spread.low, spread.high))]


def _contrast(facts: Facts, one: Contrast) -> list[str]:
    named = [text for n in (one.arm, one.base) for text in (str(n), inert(facts.arm(n).label))]
    numbers = [_number(getattr(one, name)) for name in _NUMBERS]
    needed = "" if one.needed is None else str(one.needed)
    return [*named, inert(facts.metric), str(one.n), _seeds(one.seeds), *numbers, needed, one.reading]


def _run(run: Run, metrics: Sequence[str]) -> list[str]:
    text = [run.sweep, run.timing, run.data_digest, run.code, run.budget, run.link or ""]
    return [
        inert(run.run_id),
        inert(run.name),
        "" if run.arm is None else str(run.arm),
        inert(run.label),
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
