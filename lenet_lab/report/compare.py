"""Arms against arms, paired by seed: contrasts with the baseline, the arms that may be best, effects of factors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from lenet_lab.records import LabError, RunRecord
from lenet_lab.report.facts import COMPLETE, Arm, Contrast, Effect, JointTest
from lenet_lab.report.labels import same_value
from lenet_lab.report.layout import factors_of, sort_key
from lenet_lab.report.question import Question
from lenet_lab.stats.factorial import Effect as Estimate
from lenet_lab.stats.factorial import Joint
from lenet_lab.stats.stray import stray
from lenet_lab.study import select

POWER = 0.8
BETTER, WORSE, NOT_APART, TOO_FEW = "better", "worse", "not told apart", "too few seeds"
MOST_NEEDED = 10_000
Params = Mapping[str, str]
Values = Mapping[int, float]


@dataclass(frozen=True)
class Compared:
    """The arms, marked, and everything that sets one against another."""

    arms: tuple[Arm, ...]
    base: int | None
    contrasts: tuple[Contrast, ...]
    family: int
    effects: tuple[Effect, ...]
    tests: tuple[JointTest, ...]
    factors: tuple[str, ...]
    remarks: tuple[str, ...]


def compare(
    arms: tuple[Arm, ...],
    members: Mapping[str, Sequence[RunRecord]],
    numbers: Mapping[str, int],
    fixed: Mapping[int, Params],
    question: Question,
) -> Compared:
    """Everything that is said of two arms or more.

    Args:
        members: arm -> its runs that count.
        numbers: arm -> its number.
        fixed: arm number -> the params that its runs share.

    Raises:
        LabError: a text that was asked for selects no arm, or several.
    """
    values = {numbers[arm]: _values(rows, question.metric) for arm, rows in members.items()}
    base, remarks = _baseline(arms, fixed, question)
    wanted, family, more = _wanted(arms, base, fixed, question)
    contrasts = [_contrast(values, one, other, question) for one, other in wanted]
    contrasts = _judged(contrasts, family, question)
    factors = factors_of(arms)
    effects, tests, odd = _effects(arms, factors, base, values, question)
    return Compared(
        arms=_marked(arms, values, question),
        base=base,
        contrasts=tuple(contrasts),
        family=family,
        effects=effects,
        tests=tests,
        factors=factors,
        remarks=(*remarks, *more, *odd),
    )


def _values(rows: Sequence[RunRecord], metric: str) -> dict[int, float]:
    """Seed -> value of the complete runs that have one."""
    return {
        row.seed: row.metrics[metric]
        for row in rows
        if row.state == COMPLETE and row.seed is not None and math.isfinite(row.metrics.get(metric, math.nan))
    }


def _baseline(arms: Sequence[Arm], fixed: Mapping[int, Params], question: Question) -> tuple[int | None, list[str]]:
    """The arm that the others are compared with, and what is to be said where there is none."""
    if question.baseline is not None:
        return _selected(fixed, question.baseline, "--baseline"), []
    if len(arms) < 2:
        return None, []
    if question.study is not None:
        try:
            return int(select(_named(fixed), question.study.baseline)), []
        except LabError as error:
            return None, [f"No comparison with the baseline of the study: {error}."]
    found = [
        arm.number
        for arm in arms
        if question.defaults and all(_default(question.defaults, name, value) for name, value in arm.settings)
    ]
    return (found[0] if len(found) == 1 else None), []


def _default(defaults: Params, name: str, value: str) -> bool:
    return any(same_value(defaults[key], value) for key in (name, f"{name}.value") if key in defaults)


def _named(fixed: Mapping[int, Params]) -> dict[str, Params]:
    return {str(number): params for number, params in fixed.items()}


def _selected(fixed: Mapping[int, Params], text: str, option: str) -> int:
    try:
        return int(select(_named(fixed), text))
    except LabError as error:
        raise LabError(f"report: {option} {error}") from None


def _wanted(
    arms: Sequence[Arm], base: int | None, fixed: Mapping[int, Params], question: Question
) -> tuple[list[tuple[int, int]], int, list[str]]:
    """The comparisons, those of the family first, and how many these are."""
    asked = [(_selected(fixed, a, "--pair"), _selected(fixed, b, "--pair")) for a, b in question.pairs]
    for one, other in asked:
        if one == other:
            raise LabError("report: --pair: both texts select the same arm")
    study, remarks = question.study, []
    against = [] if base is None else [(arm.number, base) for arm in arms if arm.number != base]
    if study is None or study.family is None or question.baseline is not None:
        family = list(dict.fromkeys((*against, *(asked if study is None else ()))))
    else:
        family = []
        for text in study.family:
            try:
                family += [
                    (int(one), int(other)) for one, other in replace(study, family=(text,)).comparisons(_named(fixed))
                ]
            except LabError as error:
                remarks.append(f"The study's comparison {text!r} cannot be made: {error}.")
    rest = [pair for pair in (*asked, *against) if pair not in family]
    return [*family, *dict.fromkeys(rest)], len(family), remarks


def _contrast(values: Mapping[int, Values], one: int, other: int, question: Question) -> Contrast:
    from lenet_lab.stats.paired import compare as paired

    seeds = tuple(sorted(values[one].keys() & values[other].keys()))
    if not seeds:
        return _nothing(one, other)
    found = paired(
        {seed: values[one][seed] for seed in seeds}, {seed: values[other][seed] for seed in seeds}, question.level
    )
    low, high = found.interval or (None, None)
    return Contrast(
        arm=one,
        base=other,
        seeds=seeds,
        mean=found.mean,
        sd=found.sd,
        low=low,
        high=high,
        t_p=found.t_p,
        p=found.sign_flip_p,
        adjusted=None,
        attainable=found.attainable,
        effect=found.effect,
        improvement=found.improvement if question.measure.sign > 0 else 1 - found.improvement,
        needed=None,
        detectable=None,
        reading="",
    )


def _nothing(one: int, other: int) -> Contrast:
    """Two arms without a seed in common."""
    return Contrast(one, other, (), None, None, None, None, None, None, None, None, None, None, None, None, TOO_FEW)


def _judged(contrasts: Sequence[Contrast], family: int, question: Question) -> list[Contrast]:
    """Holm over the first `family` of them, how each reads, and what more seeds would do where that is open."""
    from lenet_lab.stats.multiplicity import holm

    tested = holm([one.p for one in contrasts[:family]])
    adjusted = (*tested, *(None,) * (len(contrasts) - family))
    judged = []
    for place, (one, p) in enumerate(zip(contrasts, adjusted, strict=True)):
        size = family if place < family else 1
        one = replace(one, adjusted=p)
        reading = _reading(one, one.p if place >= family else p, size, question)
        if reading in (TOO_FEW, NOT_APART):
            one = replace(one, needed=_needed(one, size, question), detectable=_detectable(one, size, question))
        judged.append(replace(one, reading=reading))
    return judged


def _reading(one: Contrast, p: float | None, family: int, question: Question) -> str:
    from lenet_lab.stats.power import least_seeds

    if p is not None and one.mean is not None and p <= 1 - question.level:
        return BETTER if one.mean * question.measure.sign > 0 else WORSE
    return TOO_FEW if one.n < least_seeds(question.level, family) else NOT_APART


def _needed(one: Contrast, family: int, question: Question) -> int | None:
    """Seeds with which the difference seen, or the one that the study hopes for, would show at Holm's first step."""
    from lenet_lab.stats.power import seeds_needed

    hoped = question.study.difference if question.study is not None and question.metric == "test/acc" else None
    size = hoped or abs(one.mean or 0.0)
    if not one.sd or not size:
        return None
    strict = 1 - (1 - question.level) / family
    try:
        found = seeds_needed(one.sd, size, strict, POWER)
    except ValueError:
        return None
    return found if found <= MOST_NEEDED else None


def _detectable(one: Contrast, family: int, question: Question) -> float | None:
    effect = _detectable_effect(one.n, 1 - (1 - question.level) / family) if one.sd else None
    return None if effect is None or one.sd is None else one.sd * effect


@lru_cache
def _detectable_effect(n: int, level: float) -> float | None:
    from lenet_lab.stats.power import smallest_detectable

    try:
        return smallest_detectable(1.0, n, level, POWER)
    except ValueError:  # beyond what the noncentral t can be computed for
        return None


def _marked(arms: tuple[Arm, ...], values: Mapping[int, Values], question: Question) -> tuple[Arm, ...]:
    """The arms with the mark of those that cannot be told from the best; none is marked where nobody could tell."""
    from lenet_lab.stats.best import indistinguishable_from_best

    able = {arm.number: values[arm.number] for arm in arms if len(values[arm.number]) > 1}
    diverged = frozenset(
        f"{arm.number}"
        for arm in arms
        if arm.diverged or stray(tuple(values[arm.number].values()), question.measure.sign)
    )
    if len(arms) < 2 or not able or len(able) < sum(bool(values[arm.number]) for arm in arms):
        return arms
    sign = question.measure.sign
    signed = {f"{number}": {seed: sign * value for seed, value in one.items()} for number, one in able.items()}
    found = indistinguishable_from_best(signed, diverged, question.level)
    return tuple(replace(arm, best=f"{arm.number}" in found) for arm in arms)


def _effects(
    arms: Sequence[Arm], factors: Sequence[str], base: int | None, values: Mapping[int, Values], question: Question
) -> tuple[tuple[Effect, ...], tuple[JointTest, ...], list[str]]:
    """Main effects and interactions of a full grid, over the seeds that every cell has."""
    from lenet_lab.stats.factorial import factorial
    from lenet_lab.stats.multiplicity import holm

    if not factors:
        return (), (), []
    levels = {arm.number: tuple(dict(arm.settings)[name] for name in factors) for arm in arms}
    first = levels.get(base or 0, ())
    cells = {levels[number]: values[number] for number in sorted(levels, key=lambda n: sort_key(levels[n], first))}
    try:
        found = factorial(cells, factors, question.level)
    except ValueError as error:
        return (), (), [f"No effects of factors: {error}."]
    effects = [
        Effect((name,), (level,), *_ends(main.means[level]), *_ends(main.effects[level]))
        for name, main in found.main.items()
        for level in main.levels
    ]
    effects += [
        Effect(pair, spot, *_ends(both.means[spot]), *_ends(both.effects[spot]))
        for pair, both in found.interactions.items()
        for spot in both.means
    ]
    named: list[tuple[tuple[str, ...], Joint]] = [((name,), main.test) for name, main in found.main.items()]
    named += [(pair, both.test) for pair, both in found.interactions.items()]
    adjusted = holm([test.p for _, test in named])
    tests = [JointTest(name, test.df, test.p, p, test.needs) for (name, test), p in zip(named, adjusted, strict=True)]
    left = ", ".join(map(str, found.left_out[:12]))
    remarks = [f"Effects of factors rest on {len(found.seeds)} seeds; left out, since some cell lacks them: {left}."]
    return tuple(effects), tuple(tests), remarks if found.left_out else []


def _ends(one: Estimate) -> tuple[float, float | None, float | None]:
    return (one.mean, *(one.interval or (None, None)))
