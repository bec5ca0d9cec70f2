"""From tracked runs to facts; the same runs give the same facts, in whatever order they come."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import fmean

from lenet_lab import stats
from lenet_lab.records import Curves, LabError, RunRecord, order
from lenet_lab.report import answers, compare, layout
from lenet_lab.report.facts import (
    COMPLETE,
    CURVES,
    DIVERGED,
    MOST_CURVES,
    NOT_RECORDED,
    Arm,
    Band,
    Facts,
    Run,
    Spread,
)  # fmt: skip
from lenet_lab.report.labels import Settings, changes, constant_params, labels, printable, settings, web_link
from lenet_lab.report.question import CurveReader, Question, Reader
from lenet_lab.study import select

_METRICS = (
    "test/acc", "test/errors", "test/loss", "train_eval/acc", "params/total", "params/macs", "epochs", "epochs/best",
    "test/n",
)  # fmt: skip
# what decides which images a run is tested on, beside the files
_TEST_SET = ("data.draw_seed", "data.test_per_class")
_SPLIT = ("data.val_size", "data.split_seed", "data.train_size", "data.per_class", "data.train_per_class")


def build(
    records: Iterable[RunRecord],
    curves: Curves | CurveReader,
    question: Question | None = None,
    predictions: Reader | None = None,
) -> Facts:
    """The facts of these runs, whatever the order they come in.

    Args:
        curves: those of the runs, or what reads them: it is asked for those that are drawn.
        predictions: what reads a run's answers; None: nothing is said of answers.

    Runs that are complete or diverged count; of several with the same arm and seed only the one that ended
    last does, so that no seed is counted twice. Every other run is listed with the reason.

    Raises:
        LabError: a metric that no run has, a text that does not select one arm, or runs of different test sets.
    """
    question = question or Question()
    rows = sorted({row.run_id: row for row in records}.values(), key=order)
    reasons = _excluded(rows)
    members: dict[str, list[RunRecord]] = defaultdict(list)
    for row in rows:
        if not reasons[row.run_id]:
            members[row.arm].append(row)
    _check_metric(question, rows, bool(members))
    params = {arm: [row.params for row in several] for arm, several in members.items()}
    shown, common = settings(params)
    names = labels(shown, params)
    if question.study is not None and not question.study.factors:  # no grid: arms that change something of one of them
        with suppress(LabError):
            whole = select(constant_params(params), question.study.baseline)
            names = changes(names, shown, whole, printable(question.study.name, 40))
    arms = [_arm(arm, names[arm], shown[arm], several, question) for arm, several in members.items()]
    arms.sort(key=lambda arm: _rank(arm, question))
    by_label = {row.label: number for number, row in enumerate(arms, 1)}
    numbers = {arm: by_label[names[arm]] for arm in members}
    arms = [replace(row, number=number) for number, row in enumerate(arms, 1)]
    drawn = {numbers[arm]: several for arm, several in members.items() if numbers[arm] <= MOST_CURVES}
    if callable(curves):
        curves = curves([row.run_id for number in sorted(drawn) for row in drawn[number] if row.state == COMPLETE])
    for number, several in drawn.items():
        arms[number - 1] = replace(arms[number - 1], curves=_bands(several, curves))
    runs = [_run(row, numbers.get(row.arm), names.get(row.arm, ""), reasons[row.run_id]) for row in rows]
    counted = [run for run in runs if not run.excluded]
    counts = {
        name: _count(getattr(run, name) for run in counted)
        for name in ("data_digest", "test_set", "split", "code", "budget")
    }
    _check_mixed(question, counts["test_set"], zip(rows, runs, strict=True))
    fixed = {numbers[arm]: one for arm, one in constant_params(params).items()}
    compared = compare.compare(tuple(arms), members, numbers, fixed, question)
    looked = answers.look(compared, {numbers[arm]: several for arm, several in members.items()}, question, predictions)
    return Facts(
        title=printable(question.title, 200),
        metric=printable(question.metric, 200),
        level=question.level,
        arms=compared.arms,
        base=compared.base,
        contrasts=compared.contrasts,
        family=compared.family,
        effects=compared.effects,
        tests=compared.tests,
        factors=compared.factors,
        pivot=layout.pivot(compared.arms, compared.factors, compared.base, fixed, question),
        confusions=looked.confusions,
        mistakes=looked.mistakes,
        answers=looked.answers,
        remarks=(*compared.remarks, *looked.remarks),
        missing=len(question.asked - {row.key for row in rows if not reasons[row.run_id]}),
        runs=tuple(sorted(runs, key=lambda r: (r.arm or 0, r.seed is None, r.seed or 0, r.run_id))),
        common=common,
        data_digests=counts["data_digest"],
        test_sets=counts["test_set"],
        splits=counts["split"],
        codes=counts["code"],
        budgets=counts["budget"],
    )


def _check_metric(question: Question, rows: Sequence[RunRecord], some: bool) -> None:
    known = sorted({name for row in rows for name in row.metrics if row.state == COMPLETE})
    if some and known and question.metric not in known and question.metric != Question().metric:
        near = [name for name in known if not name.startswith("system/")]
        raise LabError(f"report: metric {question.metric!r}: no run has it; there are: {', '.join(near[:40])}")


def _check_mixed(
    question: Question, test_sets: Sequence[tuple[str, int]], rows: Iterable[tuple[RunRecord, Run]]
) -> None:
    known = [(name, n) for name, n in test_sets if NOT_RECORDED not in name]
    if len(known) < 2 or question.mixed:
        return
    options: dict[str, set[str]] = defaultdict(set)
    for row, run in rows:
        options[run.test_set].add(printable(row.params.get("data", "data not recorded"), 40))
    sets = ", ".join(f"{' or '.join(sorted(options[name]))} ({name}; {n} runs)" for name, n in known[:4])
    raise LabError(
        f"report: {len(known)} different test sets: {sets}; accuracies on them cannot be compared; "
        "name a sweep, a study or a filter such as \"params.data = 'mnist'\", or say --mixed"
    )


def _excluded(rows: Sequence[RunRecord]) -> dict[str, str]:
    """Why each run does not count, by run id; empty for the runs that do."""
    reasons = {row.run_id: "" if row.state in (COMPLETE, DIVERGED) else "not complete" for row in rows}
    replicas: dict[tuple[str, int | str], list[RunRecord]] = defaultdict(list)
    for row in rows:
        if not reasons[row.run_id]:
            replicas[row.arm, row.run_id if row.seed is None else row.seed].append(row)
    for several in replicas.values():
        *earlier, last = sorted(several, key=lambda r: (r.end_ms or 0, r.start_ms or 0, r.run_id))
        for row in earlier:
            reasons[row.run_id] = f"replaced by the later run {printable(last.run_id)} of the same arm and seed"
    return reasons


def _arm(arm: str, label: str, shown: Settings, rows: Sequence[RunRecord], question: Question) -> Arm:
    complete = [row for row in rows if row.state == COMPLETE]
    alone = [row for row in complete if row.tags.get("lenet.timing") == "alone"]
    names = dict.fromkeys((*_METRICS, question.metric))
    spreads = {name: _spread(name, complete, question.level) for name in names}
    spreads["time/train_s"] = _spread("time/train_s", alone, question.level)
    spreads["images_per_s"] = _spread("images_per_s", alone or complete, question.level)
    return Arm(
        number=0,
        arm=printable(arm),
        label=label,
        settings=shown,
        seeds=tuple(row.seed for row in complete),
        diverged=tuple(row.seed for row in rows if row.state == DIVERGED),
        metrics={name: spread for name, spread in spreads.items() if spread is not None},
        timed_alone=bool(alone),
        curves={},
    )


def _spread(name: str, rows: Sequence[RunRecord], level: float) -> Spread | None:
    values = tuple(row.metrics[name] for row in rows if math.isfinite(row.metrics.get(name, math.nan)))
    if not values:
        return None
    if len(values) == 1:
        return Spread(values, values[0], None, None, None)
    return Spread(values, stats.mean(values), stats.sample_sd(values), *stats.t_interval(values, level))


def _bands(rows: Sequence[RunRecord], curves: Curves) -> dict[str, Band]:
    complete = [row for row in rows if row.state == COMPLETE]
    bands = {name: _band([curves.get(row.run_id, {}).get(name, ()) for row in complete]) for name in CURVES}
    return {name: band for name, band in bands.items() if band.steps}


def _band(several: Sequence[Sequence[tuple[int, float]]]) -> Band:
    by_step: dict[int, list[float]] = defaultdict(list)
    for points in several:
        for step, value in dict(points).items():
            if math.isfinite(value):
                by_step[step].append(value)
    steps = tuple(sorted(by_step))
    return Band(
        steps=steps,
        n=tuple(len(by_step[s]) for s in steps),
        mean=tuple(fmean(by_step[s]) for s in steps),
        low=tuple(min(by_step[s]) for s in steps),
        high=tuple(max(by_step[s]) for s in steps),
    )


def _run(row: RunRecord, arm: int | None, label: str, excluded: str) -> Run:
    digest = printable(row.tags.get("lenet.data_digest", NOT_RECORDED), 80)
    return Run(
        run_id=printable(row.run_id),
        name=printable(row.name, 200),
        arm=arm,
        label=label,
        seed=row.seed,
        state=printable(row.state, 40),
        excluded=excluded,
        link=web_link(row.link),
        sweep=printable(row.sweep, 80),
        timing=printable(row.tags.get("lenet.timing", NOT_RECORDED), 40),
        data_digest=digest,
        test_set=" ".join([digest, *_said(row.params, _TEST_SET)]),
        split=" ".join(_said(row.params, _SPLIT)) or NOT_RECORDED,
        code=printable(row.tags.get("lenet.code", NOT_RECORDED), 80),
        budget=printable(row.params.get("epochs", NOT_RECORDED), 40),
        metrics={printable(name, 200): value for name, value in sorted(row.metrics.items())},
    )


def _said(params: Mapping[str, str], names: Sequence[str]) -> list[str]:
    return [
        f"{name}={printable(params[name], 40)}" for name in names if params.get(name, "null") not in ("null", "None")
    ]


def _rank(arm: Arm, question: Question) -> tuple[float, str]:
    spread = arm.metrics.get(question.metric)
    return (math.inf if spread is None else -question.measure.sign * spread.mean, arm.label)


def _count(values: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
