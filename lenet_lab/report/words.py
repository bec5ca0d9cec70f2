"""What the tables mean, in sentences: what n allows to say, and what speaks against the comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lenet_lab.report.facts import LEVEL, NOT_RECORDED, Arm, Facts, Spread
from lenet_lab.report.numbers import interval, percent, plus_minus, quantity
from lenet_lab.stats import binomial_se


def summary(facts: Facts) -> tuple[str, ...]:
    """The findings in a few sentences, most important first."""
    if not facts.arms:
        return ("There are no complete runs, so there is nothing to compare.",)
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
        sentences.append(f"{quantity(len(facts.excluded), 'run')} listed at the end {_do(facts.excluded)} not count.")
    return tuple(sentences) + _order(facts) + _precision(facts)


def warnings(facts: Facts) -> tuple[str, ...]:
    """What a careful reader would hold against the comparison; empty when there is nothing."""
    found = []
    mixed = (
        ("data sets or splits (data digests)", facts.data_digests),
        ("code versions", facts.codes),
        ("training budgets (epochs)", facts.budgets),
    )
    for what, counts in mixed:
        if len(counts) > 1:
            found.append(f"Runs of different {what} are mixed: {_counted(counts)}.")
        elif counts and counts[0][0] == NOT_RECORDED:
            found.append(f"That the {what} are the same cannot be checked: no run recorded them.")
    for arm in facts.arms:
        tested = arm.metrics["test/acc"].n if "test/acc" in arm.metrics else 0
        if tested < arm.n:
            found.append(f"{arm.n - tested} of the {arm.n} complete runs of {arm.label} have no test accuracy.")
    sizes = {arm.n for arm in facts.arms}
    if len(sizes) > 1:
        found.append("The arms have different numbers of runs; their intervals are not equally telling.")
    return tuple(found)


def made_of(facts: Facts) -> tuple[str, ...]:
    """Data, code and budget of the runs that count."""
    parts = (("Data digest", facts.data_digests), ("Code", facts.codes), ("Epochs asked for", facts.budgets))
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


def _order(facts: Facts) -> tuple[str, ...]:
    """Who has the highest mean, and how little that may mean."""
    ranked = [(arm, arm.metrics["test/acc"]) for arm in facts.arms if "test/acc" in arm.metrics]
    sound = [(arm, accuracy) for arm, accuracy in ranked if not arm.diverged]
    if not sound:
        return ()
    top, best = sound[0]
    if len(ranked) == 1:
        return (f"Test accuracy of {top.label}: {_stated(best)}.", *_spread_note(ranked))
    among = " among the arms without diverged seeds" if len(sound) < len(ranked) else ""
    sentences = [f"Highest mean test accuracy{among}: {top.label}, {_stated(best)}."]
    if len(sound) > 1:
        low, worst = sound[-1]
        sentences.append(f"Lowest: {low.label}, {_stated(worst)}.")
    others = [accuracy for _, accuracy in sound[1:] if accuracy.low is not None]
    if best.low is not None and others:
        overlap = sum(other.high is not None and other.high >= best.low for other in others)
        sentences.append(
            f"The interval of the highest mean overlaps {overlap} of the "
            f"{quantity(len(others), 'other interval')}; the order by mean is a description, not a test."
        )
    return (*sentences, *_spread_note(ranked))


def _spread_note(ranked: Sequence[tuple[Arm, Spread]]) -> tuple[str, ...]:
    smallest = min(accuracy.n for _, accuracy in ranked)
    notes = []
    fewest = [arm.label for arm, accuracy in ranked if accuracy.n == smallest]
    where = f"n={smallest}" if len(fewest) == len(ranked) else f"n={smallest} in {_listed(fewest)}"
    if smallest == 1:
        notes.append(f"{where}: no spread can be given, and a difference cannot be told from the luck of a seed.")
    elif smallest == 2:
        notes.append(f"{where}: the spread rests on a single difference, and the interval is very wide.")
    equal = [arm.label for arm, accuracy in ranked if accuracy.sd == 0]
    if equal:
        notes.append(f"All seeds gave the same test accuracy in {_listed(equal)}: an interval of no width is no proof.")
    return tuple(notes)


def _precision(facts: Facts) -> tuple[str, ...]:
    """The error that one test set brings to every arm alike."""
    sizes = {value for arm in facts.arms if "test/n" in arm.metrics for value in arm.metrics["test/n"].values}
    ranked = [arm.metrics["test/acc"].mean for arm in facts.arms if "test/acc" in arm.metrics]
    if len(sizes) != 1 or not ranked or not 0 <= ranked[0] <= 1:
        return ()
    images = round(sizes.pop())
    if images < 1:
        return ()
    error = percent(binomial_se(ranked[0], images))
    return (
        f"Intervals speak of other seeds, not of other test images: with {images:,} test images a single "
        f"accuracy of {percent(ranked[0])}% has a binomial standard error of {error} points.",
    )


def _stated(accuracy: Spread) -> str:
    if accuracy.low is None:
        return f"{percent(accuracy.mean)}% (n={accuracy.n})"
    value, ends = plus_minus(accuracy, percent), interval(accuracy, percent)
    return f"{value}% (n={accuracy.n}, {LEVEL:.0%} interval {ends})"


def _listed(labels: Iterable[str], most: int = 5) -> str:
    labels = list(labels)
    if len(labels) > most:
        return f"{'; '.join(labels[:most])}; and {len(labels) - most} more"
    return "; ".join(labels)


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return _listed(f"{value} ({quantity(n, 'run')})" for value, n in counts)


def _do(items: Sequence[object]) -> str:
    return "does" if len(items) == 1 else "do"
