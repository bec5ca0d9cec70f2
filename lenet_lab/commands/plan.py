"""`plan`: what a sweep would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence

from lenet_lab.commands.errors import hydra_errors

ABOUT = """usage: python -m lenet_lab plan [-m] [OVERRIDE ...]

What the same command without `plan` would do: its cells, each checked, and which of them are finished already.
Nothing is opened, made or trained."""


def main(words: Sequence[str]) -> int:
    """Print the cells; exit status 2 where the sweep would be refused."""
    if "--help" in words or "-h" in words:
        print(ABOUT)
        return 0
    from lenet_lab.config.numbers import quote
    from lenet_lab.records import LabError
    from lenet_lab.sweeps.plan import compose_multirun, make_plan
    from lenet_lab.sweeps.printing import console, table, texts
    from lenet_lab.tracking import open_store
    from lenet_lab.tracking.store import database, locate

    overrides = [quote(word) for word in words if word not in ("-m", "--multirun")]
    flags = [word for word in overrides if word.startswith("-")]
    if flags:
        raise LabError(f"plan: {flags[0]}: not understood here; allowed: -m and overrides")
    with hydra_errors():
        cells = compose_multirun(overrides)
    uri = cells[0].config.tracking.uri
    file = database(locate(uri))
    store = open_store(uri, create=False) if file is None or file.exists() else None
    plan = make_plan(cells, store)
    listing = table("key", "state", "cell")
    unique = plan.unique()
    for cell in unique:
        state = "to train" if cell.finished is None else cell.finished.state
        listing.add_row(*texts((cell.key[:8], state, cell.name)))
    screen = console()
    screen.print(listing)
    done = sum(cell.finished is not None for cell in unique)
    screen.print(f"sweep {plan.sweep[:8]}: {len(unique)} cells, {done} done already, {len(unique) - done} to train")
    if len(unique) < len(plan.cells):
        screen.print(f"{len(plan.cells) - len(unique)} cells are spelled twice; each is trained once")
    return 0
