"""`plan`: what a sweep would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lenet_lab.commands.common import human
from lenet_lab.commands.errors import hydra_errors

if TYPE_CHECKING:
    from lenet_lab.cell import Ready
    from lenet_lab.records import RunRecord
    from lenet_lab.sweeps.plan import Plan

ABOUT = """usage: python -m lenet_lab plan [-m] [--difference D] [OVERRIDE ...]

What the same command without `plan` would do: its cells, each checked, and which of them are finished already; how long
the others will take, and how much disk; and what is wrong with the design: cells that are the same, keys that change
nothing, arms that differ in size or budget as well, no baseline, too few seeds. Nothing is opened, made or trained.

  --difference D   the smallest difference in test accuracy that one hopes to see (0.002: 0.2 points): do the seeds
                   suffice for it? Default: what the study says."""


def main(words: Sequence[str]) -> int:
    """Print the cells, the forecast and the lints; exit status 2 where the sweep would be refused."""
    if "--help" in words or "-h" in words:
        print(ABOUT)
        return 0
    from lenet_lab.config.numbers import quote
    from lenet_lab.records import LabError
    from lenet_lab.sweeps.lint import lints
    from lenet_lab.sweeps.plan import compose_multirun, make_plan, study
    from lenet_lab.sweeps.printing import console, table, texts
    from lenet_lab.tracking import open_store, read_runs
    from lenet_lab.tracking.store import database, locate

    difference, rest = _difference(list(words))
    overrides = [quote(word) for word in rest if word not in ("-m", "--multirun")]
    flags = [word for word in overrides if word.startswith("-")]
    if flags:
        raise LabError(f"plan: {flags[0]}: not understood here; allowed: -m, --difference and overrides")
    with hydra_errors():
        cells = compose_multirun(overrides)
    uri = cells[0].config.tracking.uri
    file = database(locate(uri))
    store = open_store(uri, create=False) if file is None or file.exists() else None
    plan = make_plan(cells, store)
    records = [] if store is None else read_runs(store)
    listing = table("key", "state", "cell")
    unique = plan.unique()
    for cell in unique:
        state = "to train" if cell.finished is None else cell.finished.state
        listing.add_row(*texts((cell.key[:8], state, cell.name)))
    screen = console()
    screen.print(listing)
    done = sum(cell.finished is not None for cell in unique)
    screen.print(f"sweep {plan.sweep[:8]}: {len(unique)} cells, {done} done already, {len(unique) - done} to train")
    if done < len(unique):
        screen.print(_cost(cells, plan, records))
    for line in lints(cells, study(cells), records, difference):
        screen.print(*texts((f"design: {line}",)))
    return 0


def _cost(cells: Sequence[Ready], plan: Plan, records: Sequence[RunRecord]) -> str:
    from lenet_lab.sweeps.forecast import duration, forecast
    from lenet_lab.sweeps.launch import width

    left = {cell.key for cell in plan.unique() if cell.finished is None}
    todo = list({ready.key: ready for ready in cells if ready.key in left}.values())
    workers, threads = width(cells[0].config, [plan.of(ready.cell.overrides) for ready in todo])
    cost = forecast(todo, records, workers)
    side = f"{workers} worker{'s' * (workers > 1)} with {threads} thread{'s' * (threads > 1)}"
    return f"about {duration(cost.seconds)} on {side}, {human(cost.bytes)} of disk; time: {cost.basis}"


def _difference(words: list[str]) -> tuple[float | None, list[str]]:
    """The option `--difference D` or `--difference=D`, and the other words.

    Raises:
        LabError: it is no share between 0 and 1.
    """
    from lenet_lab.records import LabError

    for index, word in enumerate(words):
        name, eq, value = word.partition("=")
        if name != "--difference":
            continue
        behind = words[index + 1 : index + 2]
        text = value if eq else (behind or [""])[0]
        try:
            number = float(text)
        except ValueError:
            number = 0.0
        if not 0 < number < 1:
            raise LabError(f"--difference={text}: a share of the test images, between 0 and 1 (0.002: 0.2 points)")
        return number, words[:index] + words[index + 1 + (not eq) :]
    return None, words
