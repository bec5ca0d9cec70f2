"""What the tables mean, in sentences: what n allows to say, and what speaks against the comparison."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from statistics import median

from lenet_lab.report.compare import BETTER, NOT_APART, POWER, TOO_FEW, WORSE
from lenet_lab.report.facts import NOT_RECORDED, Arm, Contrast, Facts, Spread
from lenet_lab.report.numbers import (
    decimals,
    ends,
    interval,
    p_value,
    percent,
    plus_minus,
    quantity,
    shown,
    signed,
)
from lenet_lab.report.question import Measure, measure
from lenet_lab.stats import binomial_se
from lenet_lab.stats.stray import stray


def summary(facts: Facts) -> tuple[str, ...]:
    """The findings in a few sentences, most important first."""
    if not facts.arms:
        return ("There are no complete runs, so there is nothing to compare.",)
    return (*_order(facts), *_compared(facts), *_factors(facts), *_counts(facts), *_precision(facts))


def warnings(facts: Facts) -> tuple[str, ...]:
    """What a careful reader would hold against the comparison; empty when there is nothing."""
    found = []
    mixed: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = (
        ("data sets (data digests)", facts.data_digests),
        ("training and validation splits", facts.splits),
        ("code versions", facts.codes),
        ("training budgets (epochs)", facts.budgets),
    )
    if len(facts.test_sets) > 1 and len(facts.data_digests) == 1:
        mixed = (("test sets", facts.test_sets), *mixed)
    for what, counts in mixed:
        if len(counts) > 1:
            found.append(f"Runs of different {what} are mixed: {_counted(counts)}.")
        elif counts and counts[0][0] == NOT_RECORDED and "splits" not in what:
            found.append(f"That the {what} are the same cannot be checked: no run recorded them.")
    words = measure(facts.metric).words
    for arm in facts.arms:
        tested = arm.metrics[facts.metric].n if facts.metric in arm.metrics else 0
        if tested < arm.n:
            found.append(f"{arm.n - tested} of the {arm.n} complete runs of {arm.label} have no {words}.")
        asked = measure(facts.metric)
        values = arm.metrics[facts.metric].values if tested else ()
        if lost := stray(values, asked.sign):
            told, middle = ", ".join(map(shown(asked), lost)), shown(asked)(median(values))
            verb, unit = (
                "lies" if len(lost) == 1 else "lie",
                asked.unit if asked.unit == "%" else f" {asked.unit}".rstrip(),
            )
            found.append(
                f"{len(lost)} of the {tested} runs of {arm.label} {verb} far from the others ({told} beside a median "
                f"of {middle}{unit}): mean and t interval describe neither, so the arm is not among the best; tests by "
                "sign flips hold."
            )
    if len({arm.n for arm in facts.arms}) > 1:
        found.append("The arms have different numbers of runs; their intervals are not equally telling.")
    unpaired = [one for one in facts.contrasts if one.n < min(facts.arm(one.arm).n, facts.arm(one.base).n)]
    if unpaired:
        found.append(f"{quantity(len(unpaired), 'comparison')} could use only the seeds that both arms have.")
    if facts.missing:
        found.append(f"{quantity(facts.missing, 'cell')} that were asked for have no run that counts yet.")
    return (*found, *facts.remarks)


def made_of(facts: Facts) -> tuple[str, ...]:
    """Data, code and budget of the runs that count."""
    parts = (
        ("Data digest", facts.data_digests),
        ("Split", facts.splits),
        ("Code", facts.codes),
        ("Epochs asked for", facts.budgets),
    )
    return tuple(f"{what}: {_counted(counts)}" for what, counts in parts)


def timing_note(arms: Sequence[Arm]) -> str:
    """Which runs the train times are taken over."""
    timed = [arm for arm in arms if arm.timed_alone]
    if not arms or all(
        "time/train_s" in arm.metrics and arm.metrics["time/train_s"].n == arm.n for arm in arms if arm.n
    ):
        return "Every run had the machine to itself, so train times can be compared."
    if timed:
        note = "Train time is taken over the runs that had the machine to themselves"
    else:
        note = "No run had the machine to itself, so train times are not compared"
    return f"{note} (—: none). Images a second marked † are the throughput of runs that shared it: not compared."


def _counts(facts: Facts) -> tuple[str, ...]:
    counts = [arm.n for arm in facts.arms]
    each = f"n={counts[0]} in each arm" if len(set(counts)) == 1 else f"n={min(counts)} to {max(counts)} an arm"
    sentences = [f"{quantity(len(facts.arms), 'arm')}, {quantity(sum(counts), 'complete run')} ({each})."]
    diverged = [arm for arm in facts.arms if arm.diverged]
    if diverged:
        seeds = sum(len(arm.diverged) for arm in diverged)
        sentences.append(
            f"{quantity(seeds, 'run')} diverged, in {_listed(arm.label for arm in diverged)}: counted beside "
            "the mean, and such an arm is not among the best."
        )
    if facts.excluded:
        verb = "does" if len(facts.excluded) == 1 else "do"
        sentences.append(f"{quantity(len(facts.excluded), 'run')} listed at the end {verb} not count.")
    return tuple(sentences)


def _order(facts: Facts) -> tuple[str, ...]:
    """Which arms may be the best, and how little a highest mean may mean."""
    asked = measure(facts.metric)
    ranked = [(arm, arm.metrics[facts.metric]) for arm in facts.arms if facts.metric in arm.metrics]
    sound = [(arm, spread) for arm, spread in ranked if not arm.diverged]
    if not sound:
        return ()
    top, best = sound[0]
    words = asked.words[:1].upper() + asked.words[1:]
    if len(ranked) == 1:
        return (f"{words} of {top.label}: {_stated(best, asked, facts)}.", *_spread_note(ranked, asked))
    among = " among the arms without diverged seeds" if len(sound) < len(ranked) else ""
    extreme, other = ("Highest", "Lowest") if asked.sign > 0 else ("Lowest", "Highest")
    sentences = [f"{extreme} mean {asked.words}{among}: {_named(top)}, {_stated(best, asked, facts)}."]
    equals = [arm for arm, _ in sound if arm.best and arm is not top]
    if top.best is None and best.n > 1:
        sentences.append("Which arms may be the best cannot be said: some have a single run.")
    elif top.best and len(equals) == len(sound) - 1 and equals:
        sentences.append("No arm can be told from the best: any of them may be.")
    elif top.best and equals:
        sentences.append(f"Not told apart from it, so it may be the best as well: {_listed(map(_named, equals))}.")
        sentences += _two_families(facts, top, equals)
    elif top.best:
        sentences.append("Every other arm can be told from it, and is worse.")
    if len(sound) > 1:
        last, worst = sound[-1]
        sentences.append(f"{other}: {_named(last)}, {_stated(worst, asked, facts)}.")
    return (*sentences, *_spread_note(ranked, asked))


def _two_families(facts: Facts, top: Arm, equals: Sequence[Arm]) -> list[str]:
    """Which arms may be the best over all pairs and yet read as worse than it in the study's fewer comparisons."""
    worse = {
        (one.arm, one.base) if one.reading == WORSE else (one.base, one.arm)
        for one in facts.contrasts
        if one.reading in (WORSE, BETTER)
    }
    both = [arm for arm in equals if (arm.number, top.number) in worse]
    if not both:
        return []
    verb = "reads" if len(both) == 1 else "read"
    return [
        f"Of these, {_listed(map(_named, both))} {verb} as worse than it in the "
        f"{quantity(facts.family, 'comparison')} below; "
        "what may be the best is asked of every pair of arms, which takes clearer differences."
    ]


def _compared(facts: Facts) -> tuple[str, ...]:
    """The comparisons with the baseline, by how they read, and what more seeds would do."""
    if not facts.contrasts and len(facts.arms) > 1:
        return ("No arm is the default configuration in every factor: none is compared with a baseline (--baseline).",)
    several = [one for one in facts.contrasts if one.base == facts.base]
    others = [one for one in facts.contrasts if one.base != facts.base]
    sentences = []
    if several and facts.base is not None:
        sentences.append(f"Compared with {_named(facts.arm(facts.base))}, seed by seed — {_readings(facts, several)}.")
    if others:
        sentences.append(f"Pairs — {_readings(facts, others, both=True)}.")
    short = [one for one in facts.contrasts if one.reading == TOO_FEW and one.n]
    if short:
        from lenet_lab.stats.power import least_seeds

        least = least_seeds(facts.level, facts.family)
        fewest = min(one.n for one in short)
        sentences.append(
            f"Too few seeds to conclude at the {facts.level:.0%} level: n={fewest}, and sign-flip tests in a family of "
            f"{facts.family} can reach it from n={least} on."
        )
    needed = [one.needed for one in facts.contrasts if one.needed is not None]
    if needed:
        span = f"{min(needed):,}" if min(needed) == max(needed) else f"{min(needed):,} to {max(needed):,}"
        sentences.append(
            f"With the spread seen, {span} seeds an arm would show the differences that are still open with a power of "
            f"{POWER:.0%}."
        )
    equal = [one for one in facts.contrasts if one.n > 1 and one.sd == 0]
    if equal:
        names = _listed(f"{facts.arm(one.arm).short} and {facts.arm(one.base).short}" for one in equal)
        sentences.append(f"The same difference in every seed, so no interval and no t test: {names}.")
    return tuple(sentences)


def _readings(facts: Facts, several: Sequence[Contrast], both: bool = False) -> str:
    parts = []
    for reading in (BETTER, WORSE, NOT_APART, TOO_FEW):
        ones = [one for one in several if one.reading == reading]
        if ones:
            parts.append(f"{reading}: {_listed((_difference(facts, one, both) for one in ones), most=5)}")
    return ". ".join(parts)


def _difference(facts: Facts, one: Contrast, both: bool) -> str:
    asked = measure(facts.metric)
    sign = signed(asked)
    name = facts.arm(one.arm).label
    if both:
        name = f"{name} against {facts.arm(one.base).label}"
    if one.mean is None:
        return f"{name} (no seed in common)"
    unit = f" {asked.points}" if asked.points else ""
    words = [f"{sign(one.mean)}{unit}"]
    if one.low is not None:
        words.append(ends(one.low, one.high, sign))
    p = one.adjusted if one.adjusted is not None else one.p
    if p is not None:
        words.append(_p(p))
    return f"{name} ({', '.join(words)})"


def _factors(facts: Facts) -> tuple[str, ...]:
    if not facts.tests:
        return ()
    alpha = 1 - facts.level

    def listed(main: bool, found: bool) -> str:
        return _listed(
            f"{' × '.join(one.factors)} ({_p(one.adjusted)})"
            for one in facts.tests
            if (len(one.factors) == 1) == main and one.adjusted is not None and (one.adjusted <= alpha) == found
        )

    sentences = []
    for main, what in ((True, "Main effects over the whole grid"), (False, "Interactions")):
        shown, open_ = listed(main, True), listed(main, False)
        parts = [shown] * bool(shown) + [f"none shown for {open_}"] * bool(open_)
        if parts:
            sentences.append(f"{what}: {'; '.join(parts)}.")
    untested = [one for one in facts.tests if one.p is None]
    if untested:
        names = _listed(f"{' × '.join(one.factors)} (from n={one.needs} on)" for one in untested)
        sentences.append(f"Too few seeds, or no spread, to test {names}.")
    return tuple(sentences)


def _p(p: float) -> str:
    return f"p={p_value(p)}".replace("=<", "<")


def _spread_note(ranked: Sequence[tuple[Arm, Spread]], asked: Measure) -> tuple[str, ...]:
    smallest = min(spread.n for _, spread in ranked)
    notes = []
    fewest = [arm.label for arm, spread in ranked if spread.n == smallest]
    where = f"n={smallest}" if len(fewest) == len(ranked) else f"n={smallest} in {_listed(fewest)}"
    if smallest == 1:
        notes.append(f"{where}: no spread can be given, and a difference cannot be told from the luck of a seed.")
    elif smallest == 2:
        notes.append(f"{where}: the spread rests on a single difference, and the interval is very wide.")
    equal = [arm.label for arm, spread in ranked if spread.sd == 0]
    if equal:
        notes.append(f"All seeds gave the same {asked.words} in {_listed(equal)}: an interval of no width is no proof.")
    return tuple(notes)


def _precision(facts: Facts) -> tuple[str, ...]:
    """The error that one test set brings to every arm alike."""
    sizes = {value for arm in facts.arms if "test/n" in arm.metrics for value in arm.metrics["test/n"].values}
    ranked = [arm.metrics["test/acc"].mean for arm in facts.arms if "test/acc" in arm.metrics]
    if facts.metric != "test/acc" or len(sizes) != 1 or not ranked or not 0 <= ranked[0] <= 1:
        return ()
    images = round(sizes.pop())
    if images < 1:
        return ()
    error = percent(binomial_se(ranked[0], images))
    return (
        f"Intervals speak of other seeds, not of other test images: with {decimals(0)(images)} test images a single "
        f"accuracy of {percent(ranked[0])}% has a binomial standard error of {error} points.",
    )


def _stated(spread: Spread, asked: Measure, facts: Facts) -> str:
    show = shown(asked)
    unit = asked.unit if asked.unit == "%" else f" {asked.unit}" if asked.unit else ""
    if spread.low is None:
        return f"{show(spread.mean)}{unit} (n={spread.n})"
    value, between = plus_minus(spread, show), interval(spread, show)
    return f"{value}{unit} (n={spread.n}, {facts.level:.0%} interval {between})"


def _named(arm: Arm) -> str:
    return f"{arm.label} ({arm.short})"


def _listed(labels: Iterable[str], most: int = 5) -> str:
    labels = list(labels)
    if len(labels) > most:
        return f"{'; '.join(labels[:most])}; and {len(labels) - most:,} more"
    return "; ".join(labels)


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return _listed(f"{_clipped(value)} ({quantity(n, 'run')})" for value, n in counts)


def _clipped(value: str) -> str:
    """A digest by its first twelve digits; the CSV and the facts have it whole."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", value)
