"""The tables of what was run: the arms and what they cost, the runs that count and those that do not, the mistakes."""

from __future__ import annotations

from collections.abc import Sequence

from lenet_lab.report.facts import Arm, Facts, Run
from lenet_lab.report.numbers import NONE, decimals, interval, optional, plus_minus, shown, span
from lenet_lab.report.question import measure
from lenet_lab.report.table import Cell, Table
from lenet_lab.stats.stray import stray

MOST_MISTAKES = 10


def arms(facts: Facts) -> Table:
    """One row an arm."""
    asked = measure(facts.metric)
    show = shown(asked)
    others = [name for name in ("test/acc", "test/errors", "test/loss", "train_eval/acc") if name != facts.metric]
    rows = []
    for arm in facts.arms:
        spread = arm.metrics.get(facts.metric)
        mean = None if spread is None else spread.mean
        rows.append(
            (
                Cell.of(arm),
                Cell(_runs(arm), float(arm.n)),
                Cell(plus_minus(spread, show) + _own_n(arm, facts.metric), mean),
                Cell(interval(spread, show), mean),
                Cell(_best(arm), _best(arm)),
                *(_spread(arm, name) for name in others),
            )
        )
    head = ("Arm", "Runs (n)", asked.head, f"{facts.level:.0%} interval", "May be the best")
    valued = [arm.metrics[facts.metric].values for arm in facts.arms if facts.metric in arm.metrics]
    more = ", nor one with a seed far from its others" if any(stray(one, asked.sign) for one in valued) else ""
    caption = (
        "Mean ± sample standard deviation over seeds; the interval is Student's t interval for the mean. An arm may be "
        f"the best if no other beats it in a paired t test at {_alpha(facts)}, adjusted by Holm over all pairs; "
        f"an arm with diverged seeds is never among them{more}."
    )
    numbers = (False, True, True, True, False, *(True,) * len(others))
    return Table("arms", (*head, *(measure(name).head for name in others)), numbers, tuple(rows), caption)


def cost(facts: Facts) -> Table:
    """What each arm costs."""
    rows = []
    for arm in facts.arms:
        speed = arm.metrics.get("images_per_s")
        mark = "" if speed is None or arm.timed_alone else " †"
        rows.append(
            (
                Cell.of(arm),
                _count(arm, "params/total"),
                _count(arm, "params/macs"),
                _spread(arm, "time/train_s"),
                Cell(plus_minus(speed, decimals(0)) + mark, None if speed is None else speed.mean),
                _count(arm, "epochs"),
                _spread(arm, "epochs/best"),
            )
        )
    head = ("Arm", "Parameters", "Multiply-accumulates an image", "Train time, s", "Images/s", "Epochs", "Best epoch")
    caption = (
        "Best epoch: the one with the best validation score, counted from 1. Multiply-accumulates: of one image, "
        f"forwards. {NONE}: not tracked."
    )
    return Table("cost", head, (False, *(True,) * 6), tuple(rows), caption)


def mistakes(facts: Facts) -> Table | None:
    """The images that most runs got wrong."""
    if not facts.mistakes:
        return None
    who = [number for number, _, _ in facts.mistakes[0].wrong]
    rows = tuple(
        (
            Cell(str(one.index), float(one.index)),
            Cell(str(one.label), float(one.label)),
            Cell(str(one.answer), float(one.answer)),
            *(Cell(f"{wrong} of {runs}", wrong / runs) for _, wrong, runs in one.wrong),
        )
        for one in facts.mistakes[:MOST_MISTAKES]
    )
    more = len(facts.mistakes) - len(rows)
    caption = "The images that most runs got wrong" + (f"; {more} more are in facts.json." if more else ".")
    head = ("Test image", "Class", "Commonest wrong answer", *(f"Wrong in {facts.arm(n).short}" for n in who))
    return Table("mistakes", head, (False, *(True,) * (len(head) - 1)), rows, caption)


def common(facts: Facts) -> Table:
    rows = tuple((Cell(name, name), Cell(value, value)) for name, value in facts.common)
    return Table("settings", ("Setting", "Value"), (False, False), rows)


def counted(facts: Facts, runs: Sequence[Run]) -> Table:
    """The runs that count."""
    asked = measure(facts.metric)
    rows = tuple(
        (
            Cell(run.name or "(no name)", run.name, link=run.link),
            Cell(f"A{run.arm} {run.label}", f"{run.arm:06}"),
            _seed(run),
            Cell(run.state, run.state),
            Cell(optional(run.metrics.get(facts.metric), shown(asked)), run.metrics.get(facts.metric)),
            Cell(run.timing, run.timing),
            Cell(run.run_id, run.run_id),
        )
        for run in runs
    )
    head = ("Run", "Arm", "Seed", "State", asked.head, "Timing", "Run id")
    return Table("runs", head, (False, False, True, False, True, False, False), rows)


def excluded(facts: Facts) -> Table:
    """The runs that do not."""
    rows = tuple(
        (
            Cell(run.name or "(no name)", run.name, link=run.link),
            _seed(run),
            Cell(run.state, run.state),
            Cell(run.excluded, run.excluded),
            Cell(run.run_id, run.run_id),
        )
        for run in facts.excluded
    )
    head = ("Run", "Seed", "State", "Why it does not count", "Run id")
    return Table("excluded", head, (False, True, False, False, False), rows)


def _best(arm: Arm) -> str:
    return "diverged" if arm.diverged else {True: "yes", False: "no", None: NONE}[arm.best]


def _spread(arm: Arm, name: str) -> Cell:
    spread = arm.metrics.get(name)
    text = plus_minus(spread, shown(measure(name))) + _own_n(arm, name)
    return Cell(text, None if spread is None else spread.mean)


def _count(arm: Arm, name: str) -> Cell:
    spread = arm.metrics.get(name)
    return Cell(span(spread), None if spread is None else spread.mean)


def _own_n(arm: Arm, name: str) -> str:
    """A number taken over fewer runs than the arm has says so."""
    spread = arm.metrics.get(name)
    return "" if spread is None or spread.n == arm.n else f" (n={spread.n})"


def _runs(arm: Arm) -> str:
    return f"{arm.n} (+{len(arm.diverged)} diverged)" if arm.diverged else str(arm.n)


def _seed(run: Run) -> Cell:
    return Cell(NONE if run.seed is None else str(run.seed), run.seed)


def _alpha(facts: Facts) -> str:
    return f"{1 - facts.level:.3g}"
