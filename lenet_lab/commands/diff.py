"""`diff`: two runs or two arms: what differs, the likeliest reason first, and their results and curves side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_lab.commands.common import parser

if TYPE_CHECKING:
    from rich.console import Console

    from lenet_lab.records import Curves, RunRecord

EPILOG = """A side is a run (its id, or the beginning of it) or an arm: words like `pool=max norm=bn`, with `seed=0` one
run of it, or the beginning of the arm's key. Of an arm, the runs that count are taken."""
CURVES = ("val/acc", "val/loss", "train/loss")
# what is said, the metric, its scale, its decimals, and whether it is a time
RESULTS = (
    ("test accuracy, %", "test/acc", 100, 2),
    ("test errors", "test/errors", 1, 1),
    ("test loss", "test/loss", 1, 4),
    ("training accuracy, %", "train_eval/acc", 100, 2),
    ("best epoch", "epochs/best", 1, 1),
    ("epochs", "epochs", 1, 1),
    ("parameters", "params/total", 1, 0),
    ("train time, s", "time/train_s", 1, 1),
    ("images/s", "images_per_s", 1, 0),
)
TIMES = ("time/train_s", "images_per_s")


@dataclass(frozen=True)
class Side:
    """One of the two: what the user called it, a label, and its runs by seed."""

    label: str
    runs: tuple[RunRecord, ...]


def main(words: Sequence[str]) -> int:
    """Print the differences, results and curves; with `--out`, the curves as a PNG too."""
    args = parser("diff", "What sets two runs or two arms apart, the likeliest reason first.", EPILOG)
    args.add_argument("left", metavar="A", help="a run or an arm")
    args.add_argument("right", metavar="B", help="the other")
    args.add_argument("--out", type=Path, metavar="DIR", help="write the curves there as diff.png")
    chosen = args.parse_args(words)
    from lenet_lab.report.differences import differences, matters
    from lenet_lab.sweeps.printing import console, texts
    from lenet_lab.tracking import open_store, read_curves, read_runs

    store = open_store(chosen.store, create=False)
    records = read_runs(store)
    left, right = (find_side(records, text) for text in (chosen.left, chosen.right))
    screen = console()
    for name, side in (("A", left), ("B", right)):
        count = "" if len(side.runs) == 1 else f"  ({len(side.runs)} runs)"
        screen.print(*texts((f"{name}  {side.label}{count}",)))
    rows = differences(left.runs, right.runs)
    if not matters(rows):
        screen.print("nothing differs: the same data, configuration, seed, code, libraries and execution")
    if rows:
        _print_rows(screen, [(row.kind, row.key, row.left, row.right) for row in rows], ("differs in", "", "A", "B"))
    _print_rows(screen, results(left, right), ("result", "A", "B", "B - A"))
    runs = [record.run_id for side in (left, right) for record in side.runs]
    curves = read_curves(store, runs, CURVES)
    for line in sparklines(left, right, curves):
        screen.print(*texts((line,)))
    if chosen.out:
        print(f"curves: {_picture(chosen.out, left, right, curves)}")
    return 0


def find_side(records: Sequence[RunRecord], text: str) -> Side:
    """The run or the arm that a word of the user's names.

    Raises:
        LabError: it names none, or several.
    """
    from lenet_lab.records import LabError
    from lenet_lab.study import matches, pairs, select

    if "=" in text:
        pairs(text)
        fitting = [record for record in counted(records) if matches(record.params, text)]
        every = {record.arm: record.params for record in fitting or counted(records)}
        arm = select(every, text)
        return _arm([record for record in fitting if record.arm == arm])
    found = [record for record in records if text and record.run_id.startswith(text.lower())]
    if len(found) == 1:
        return Side(f"run {found[0].run_id[:8]}  {found[0].name}  ({found[0].state})", (found[0],))
    arms = sorted({record.arm for record in counted(records) if text and record.arm.startswith(text.lower())})
    if not found and len(arms) == 1:
        return _arm([record for record in counted(records) if record.arm == arms[0]])
    several = "several" if found or arms else "no"
    known = ", ".join(record.run_id[:8] for record in records[:8]) or "none"
    raise LabError(
        f"{text!r}: {several} runs or arms begin so; there are runs: {known}; or say an arm: pool=max norm=bn"
    )


def counted(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs that count, of each arm and seed the one that ended last."""
    ended = [record for record in records if record.state in ("complete", "diverged")]
    last = {(record.arm, record.seed): record for record in sorted(ended, key=lambda r: (r.end_ms or 0, r.run_id))}
    return list(last.values())


def _arm(runs: Sequence[RunRecord]) -> Side:
    ordered = sorted(runs, key=lambda record: record.seed or 0)
    name = ordered[0].name if len(runs) == 1 else ordered[0].name.rpartition(" seed=")[0] or ordered[0].name
    what = f"run {ordered[0].run_id[:8]}" if len(runs) == 1 else f"arm {ordered[0].arm[:8]}"
    return Side(f"{what}  {name}", tuple(ordered))


def results(left: Side, right: Side) -> list[tuple[str, str, str, str]]:
    """What both came to, and the difference where it can be taken."""
    alone = all(record.tags.get("lenet.timing") == "alone" for side in (left, right) for record in side.runs)
    rows = []
    for words, name, scale, places in RESULTS:
        one, other = (
            {r.seed: scale * r.metrics[name] for r in side.runs if name in r.metrics} for side in (left, right)
        )
        if one or other:
            gap = _gap(one, other, places) if alone or name not in TIMES else "not compared: other jobs ran beside"
            rows.append((words, _spread(one, places), _spread(other, places), gap))
    return rows


def _spread(values: dict[int | None, float], places: int) -> str:
    from lenet_lab.stats import mean, sample_sd

    numbers = [value for value in values.values() if math.isfinite(value)]
    if not numbers:
        return "-"
    text = f"{mean(numbers):,.{places}f}"
    if len(set(numbers)) == 1:
        return text if len(numbers) == 1 else f"{text} (all {len(numbers)})"
    return f"{text} ± {sample_sd(numbers):,.{places}f} (n={len(numbers)})"


def _gap(one: dict[int | None, float], other: dict[int | None, float], places: int) -> str:
    """The difference: plain of two runs; of arms paired by seed, with its t interval."""
    from lenet_lab.stats import mean, t_interval

    if len(one) == len(other) == 1:
        return f"{next(iter(other.values())) - next(iter(one.values())):+,.{places}f}"
    gaps = [other[seed] - one[seed] for seed in one if seed is not None and seed in other]
    gaps = [gap for gap in gaps if math.isfinite(gap)]
    if len(gaps) < 2:
        return "fewer than two seeds in common"
    if len(set(gaps)) == 1:
        return f"{gaps[0]:+,.{places}f}"
    low, high = t_interval(gaps)
    return f"{mean(gaps):+,.{places}f}, 95% {low:+,.{places}f} to {high:+,.{places}f} (paired, n={len(gaps)})"


def sparklines(left: Side, right: Side, curves: Curves) -> list[str]:
    """Two lines a metric on one scale; of an arm the mean over its runs."""
    from lenet_lab.report.diff_figures import mean, spark

    lines = []
    for name in CURVES:
        sides = [mean(_runs(side, curves, name)) for side in (left, right)]
        values = [value for side in sides for _, value in side if math.isfinite(value)]
        if not values:
            continue
        low, high = min(values), max(values)
        for mark, points in zip("AB", sides, strict=True):
            drawn = [value for _, value in points if math.isfinite(value)]
            ends = f"{drawn[0]:.4f} to {drawn[-1]:.4f} in {len(points)} epochs" if drawn else "none"
            lines.append(f"{name if mark == 'A' else '':10}  {mark}  {spark(drawn, low, high)}  {ends}")
    return lines


def _runs(side: Side, curves: Curves, name: str) -> list[Any]:
    return [points for record in side.runs if (points := curves[record.run_id].get(name))]


def _picture(folder: Path, left: Side, right: Side, curves: Curves) -> Path:
    from lenet_lab.records import LabError
    from lenet_lab.report.diff_figures import curves as draw

    try:
        folder.mkdir(parents=True, exist_ok=True)
        sides = {
            f"{mark}: {side.label}": {name: _runs(side, curves, name) for name in CURVES}
            for mark, side in (("A", left), ("B", right))
        }
        draw(folder / "diff.png", sides, CURVES)
    except OSError as error:
        raise LabError(f"--out={folder}: {error.strerror}") from None
    return folder / "diff.png"


def _print_rows(screen: Console, rows: Sequence[Sequence[str]], heads: Sequence[str]) -> None:
    from lenet_lab.sweeps.printing import table, texts

    if rows:
        listing = table(*heads)
        for row in rows:
            listing.add_row(*texts(row))
        screen.print(listing)
