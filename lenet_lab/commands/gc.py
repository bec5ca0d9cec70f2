"""`gc`: free what runs have left behind and nothing needs any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lenet_lab.commands.common import human, parser

EPILOG = """Cited runs, running ones and those whose lock is held are never touched. Archived runs (`archive`) lose
their files here and cannot be restored afterwards."""


def main(words: Sequence[str]) -> int:
    """Print what would go; with `--yes`, remove it. Exit status 1 where something could not be removed."""
    from lenet_lab.commands.citations import add_cited, cited

    args = parser("gc", "Free what finished and archived runs have left behind; shows it first.", EPILOG)
    args.add_argument("--yes", action="store_true", help="remove; without it, only show what would go")
    args.add_argument(
        "--dead", action="store_true", help="what dead, stopped and failed runs would be resumed from goes too"
    )
    add_cited(args)
    chosen = args.parse_args(words)
    from lenet_lab.sweeps.printing import console, table, texts
    from lenet_lab.tracking import open_store
    from lenet_lab.tracking.upkeep import plan, remove

    store = open_store(chosen.store, create=False)
    pieces = plan(store, cited(chosen.cited), chosen.dead)
    going = [piece for piece in pieces if not piece.keep]
    screen = console()
    listing = table("size", "what", "why", "where")
    for piece in going:
        if piece.kind != "lock":
            listing.add_row(*texts((human(piece.size), piece.kind, piece.why, str(piece.path))))
    locks = [piece for piece in going if piece.kind == "lock"]
    if locks:
        size = human(sum(piece.size for piece in locks))
        listing.add_row(*texts((size, f"{len(locks)} locks", "nobody holds them", str(store.state / "locks"))))
    if going:
        screen.print(listing)
    for (kind, why), count in sorted(Counter((p.kind, p.keep) for p in pieces if p.keep).items()):
        screen.print(*texts((f"kept: {count} {kind}: {why}",)))
    if not going:
        screen.print("nothing to free")
    elif not chosen.yes:
        screen.print(f"would free {human(sum(piece.size for piece in going))}; --yes does it")
    if not going or not chosen.yes:
        return 0
    freed, failed = 0, 0
    for piece, why in remove(store, going):
        freed += 0 if why else piece.size
        failed += bool(why)
        if why:
            screen.print(*texts((f"not removed: {piece.path}: {why}",)))
    screen.print(f"freed {human(freed)}")
    return 1 if failed else 0
