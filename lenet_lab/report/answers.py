"""What networks answered, image by image: confusion matrices, the commonest mistakes, pairs of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lenet_lab.records import RunRecord
from lenet_lab.report.compare import Compared
from lenet_lab.report.facts import COMPLETE, Answers, Confusion, Mistake
from lenet_lab.report.question import Predictions, Question, Reader
from lenet_lab.stats.classification import confusion

MOST_MISTAKES = 30
MOST_RUNS = 50  # of an arm whose answers are read


@dataclass(frozen=True)
class Looked:
    """What came of it."""

    confusions: tuple[Confusion, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    answers: tuple[Answers, ...] = ()
    remarks: tuple[str, ...] = ()


def look(
    compared: Compared, members: Mapping[int, Sequence[RunRecord]], question: Question, read: Reader | None
) -> Looked:
    """The answers of two arms: the pair that was asked for, else the first arm and the baseline.

    Args:
        members: arm number -> its runs that count.
        read: None where nobody asks for answers.
    """
    if read is None or not compared.arms:
        return Looked()
    pairs = _pairs(compared, question)
    chosen = list(dict.fromkeys(number for pair in pairs for number in pair)) or [1]
    rows = {
        number: {row.seed: row.run_id for row in members[number] if row.state == COMPLETE and row.seed is not None}
        for number in chosen
    }
    kept = {number: dict(sorted(several.items())[:MOST_RUNS]) for number, several in rows.items()}
    held = read([run_id for several in kept.values() for run_id in several.values()])
    found = {
        number: {seed: held[run_id] for seed, run_id in several.items() if run_id in held}
        for number, several in kept.items()
        if not held.keys().isdisjoint(several.values())
    }
    shown = [number for number in chosen[:2] if number in found]
    lacking = [f"A{number}" for number in chosen if number not in found]
    remarks = [f"No predictions can be read of the runs of {', '.join(lacking)}."] if lacking else []
    if not _same_images([one for several in found.values() for one in several.values()]):
        return Looked(remarks=(*remarks, "The runs answered different test images: their answers are not compared."))
    answers, more = _mcnemar(pairs, found) if question.mcnemar else ((), ())
    return Looked(
        confusions=tuple(_confusion(number, found[number]) for number in shown),
        mistakes=_mistakes({number: found[number] for number in shown}),
        answers=answers,
        remarks=(*remarks, *more),
    )


def _pairs(compared: Compared, question: Question) -> list[tuple[int, int]]:
    pairs = [(one.arm, one.base) for one in compared.contrasts]
    asked = pairs[-len(question.pairs) :] if question.pairs and question.study else pairs
    if question.pairs:
        count = len(question.pairs)
        asked = [(one.arm, one.base) for one in compared.contrasts if one.base != compared.base][:count] or asked
    best = next((pair for pair in pairs if pair[0] == 1), None)
    return asked if question.pairs or question.mcnemar else [best] if best else pairs[:1]


def _same_images(several: Sequence[Predictions]) -> bool:
    return all(
        np.array_equal(one.index, several[0].index) and np.array_equal(one.label, several[0].label) for one in several
    )


def _confusion(number: int, several: Mapping[int, Predictions]) -> Confusion:
    total = sum(confusion(one.label, one.predicted, one.classes) for one in several.values())
    mean = np.asarray(total) / len(several)
    return Confusion(number, len(several), tuple(tuple(float(count) for count in row) for row in mean))


def _mistakes(found: Mapping[int, Mapping[int, Predictions]]) -> tuple[Mistake, ...]:
    """The images that most runs of the arms got wrong, the commonest first."""
    runs = [one for several in found.values() for one in several.values()]
    if not runs:
        return ()
    first = runs[0]
    wrong = {
        number: sum((one.predicted != one.label).astype(np.int64) for one in several.values())
        for number, several in found.items()
    }
    total = np.sum([np.asarray(count) for count in wrong.values()], axis=0)
    places = np.lexsort((first.index, -total))[:MOST_MISTAKES]
    answered = np.stack([one.predicted for one in runs])
    mistakes = []
    for place in places:
        if total[place] == 0:
            break
        votes = np.bincount(answered[:, place], minlength=first.classes)
        votes[first.label[place]] = 0
        counts = tuple((n, int(np.asarray(wrong[n])[place]), len(several)) for n, several in found.items())
        mistakes.append(Mistake(int(first.index[place]), int(first.label[place]), int(votes.argmax()), counts))
    return tuple(mistakes)


def _mcnemar(
    pairs: Sequence[tuple[int, int]], found: Mapping[int, Mapping[int, Predictions]]
) -> tuple[tuple[Answers, ...], tuple[str, ...]]:
    """Every seed that both arms of a pair have, by itself: McNemar speaks of one pair of networks."""
    from lenet_lab.stats.mcnemar import mcnemar

    rows = []
    for arm, base in pairs:
        one, other = found.get(arm, {}), found.get(base, {})
        for seed in sorted(one.keys() & other.keys()):
            b, c, p = mcnemar(one[seed].predicted, other[seed].predicted, one[seed].label)
            rows.append(Answers(arm, base, seed, int(b), int(c), float(p)))
    return tuple(rows), () if rows else ("No seed of a pair has predictions of both arms: no McNemar test.",)
