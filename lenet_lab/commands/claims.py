"""`claims`: the ledger of published claims, judged by tracked runs."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_lab.commands.claim_runs import STOPPED, Asked, digests, exported, run_missing, tracked
from lenet_lab.commands.common import parser

if TYPE_CHECKING:
    from lenet_lab.claims import Source
    from lenet_lab.claims.page import Chapter

EPILOG = """The evidence is the exports in --out (one a source) and the runs of the store. The page is --out with .md
and .html after its name. Exit status: 0; 1 where --check finds the page stale, or runs failed; 2 for a mistake in
the command."""
ROOM_FOR_WHY = 120  # columns of a terminal; the page says why as well
TABLE = "verdicts.csv"


def main(words: Sequence[str]) -> int:
    """Show the verdicts; check or write the page; run what is missing."""
    args = _parser()
    chosen = args.parse_args(words)
    if chosen.check and (chosen.run or chosen.write or chosen.sources):
        args.error("--check: checks the whole page; not with sources, --run or --write")
    if chosen.write and chosen.sources:
        args.error("--write: writes the whole page; name no sources")
    if not chosen.run and (chosen.budget is not None or chosen.seeds is not None):
        args.error("--seeds, --budget: of --run")
    status = run_missing(chosen) if chosen.run else 0
    if status in STOPPED or (chosen.run and not chosen.sources and not chosen.write):
        return status
    from lenet_lab.claims import load, names

    letters = sorted({word.partition(".")[0] for word in chosen.sources}) or names()
    sources = [load(letter) for letter in letters]
    asked = [Asked.of(word) for word in chosen.sources or letters]
    if chosen.write:
        _export(sources, chosen)
    chapters = _chapters(
        sources,
        chosen.out,
        None if chosen.check or chosen.write else chosen.store,
        chosen.check or chosen.write,
        chosen.run,
    )
    if chosen.check:
        return _check(chapters, chosen.out)
    if chosen.write:
        pages = _pages(chapters, chosen.out)
        for path, content in pages.items():
            _write(path, content)
        print(", ".join(map(str, pages)))
        return status
    _show(chapters, asked)
    if not any(several for chapter in chapters for several in chapter.evidence.runs.values()):
        print(f"no runs: neither exports in {chosen.out} nor any in the store; `claims --run` makes them")
    return status


def _parser() -> argparse.ArgumentParser:
    args = parser("claims", "Published claims, judged by tracked runs.", EPILOG)
    args.add_argument("sources", nargs="*", metavar="SOURCE", help="letters, or SOURCE.CLAIM, SOURCE.ARM; default: all")
    args.add_argument("--run", action="store_true", help="run what is missing, the cheapest first; resumable")
    args.add_argument(
        "--seeds", type=_count, metavar="N", help="of --run, at most; default: as many as the ledger aims at"
    )
    args.add_argument(
        "--budget", type=_seconds, metavar="TIME", help="of --run: 90m, 2h; what would take longer is left"
    )
    args.add_argument("--write", action="store_true", help="export the runs and write the page")
    args.add_argument("--check", action="store_true", help="exit with 1 where the page is not what its exports give")
    args.add_argument("--out", type=Path, default=Path("docs/replication"), metavar="DIR", help="default: %(default)s")
    return args


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: a whole number of seeds, 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text}: a time such as 90m or 2h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _chapters(
    sources: Sequence[Source], folder: Path, uri: str | None, exports_alone: bool, new: bool
) -> list[Chapter]:
    from lenet_lab.claims import Evidence
    from lenet_lab.claims.page import Chapter

    records, curves = ([], {}) if exports_alone else tracked(uri, new)
    chapters = []
    for source in sources:
        own, more = exported(folder / f"{source.letter}.zip")
        known = {record.run_id for record in own}
        several = [*own, *(record for record in records if record.run_id not in known)]
        aims = {arm: source.aim(arm) for arm in source.arms}
        evidence = Evidence.gather(digests(source.letter), aims, several, {**curves, **more})
        chapters.append(Chapter.of(source, evidence))
    return chapters


def _pages(chapters: Sequence[Chapter], folder: Path) -> Mapping[Path, str]:
    """The page stands beside the folder of its exports, under the folder's name; the table is in the folder."""
    import hashlib

    from lenet_lab.claims import page
    from lenet_lab.records import LabError
    from lenet_lab.report import html, markdown

    made, table = page.document(chapters), page.table(chapters)
    seal = hashlib.sha256(table.encode()).hexdigest()
    folder = folder if folder.name not in ("", "..") else folder.resolve()
    if not folder.name:
        raise LabError(f"claims: --out {folder}: has no name to call the page by; allowed: a folder below it")
    return {
        folder.with_name(f"{folder.name}.md"): markdown.page(made, (), {}),
        folder.with_name(f"{folder.name}.html"): html.page(made, seal, {}, {}),
        folder / TABLE: table,
    }


def _check(chapters: Sequence[Chapter], folder: Path) -> int:
    stale = [
        str(path)
        for path, content in _pages(chapters, folder).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != content
    ]
    if stale:
        print(f"claims: stale: {', '.join(stale)}; `python -m lenet_lab claims --write` writes it anew")
    return 1 if stale else 0


def _write(path: Path, content: str) -> None:
    from lenet_lab.engines.checkpoints import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.encode())


def _export(sources: Sequence[Source], chosen: argparse.Namespace) -> None:
    """The runs of each source as one file: those of the file that is there, and those of the store."""
    from lenet_lab.claims.evidence import COUNT
    from lenet_lab.records import LabError
    from lenet_lab.tracking import open_store
    from lenet_lab.tracking.exports import write_export
    from lenet_lab.tracking.imports import import_runs

    try:
        store = open_store(chosen.store, create=False)
    except LabError:
        if chosen.store is not None:
            raise
        return
    records, _ = tracked(chosen.store)
    for source in sources:
        file = chosen.out / f"{source.letter}.zip"
        arms = set(digests(source.letter).values())
        new = {record.key for record in records if record.arm in arms and record.state in COUNT}
        old = {record.key for record in exported(file)[0]}
        if not new - old:
            continue
        if old - new:
            import_runs(file, chosen.store)
        file.parent.mkdir(parents=True, exist_ok=True)
        runs, _ = write_export(store, file, cells=new | old)
        print(f"exported {runs} runs: {file}")


def _show(chapters: Sequence[Chapter], asked: Sequence[Asked]) -> None:
    from lenet_lab.claims.tables import listing
    from lenet_lab.sweeps.printing import console, table, texts

    screen = console()
    titles: tuple[str, ...] = ("claim", "claimed", "ours", "n", "verdict", "why")
    if screen.width < ROOM_FOR_WHY:
        titles = titles[:-1]
    for chapter in chapters:
        shown = table(*titles)
        shown.columns[0].no_wrap = True
        meant = [one for one in chapter.judged if any(one.claim in word.claims for word in asked)]
        for row in listing(meant):
            shown.add_row(*texts(row)[: len(titles)])
        screen.print(*texts((f"{chapter.source.letter}: {chapter.source.source}",)))
        screen.print(shown)
