"""The runs that claims are judged by: those that are there, those that are asked for, and the sweeps that make them."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lenet_lab.claims import Source
    from lenet_lab.records import Curves, RunRecord

PACKED = "hydra/launcher=packed"
STOPPED = (130, 143)  # by Ctrl-C, by a request to end


@dataclass(frozen=True)
class Asked:
    """A word of the command line: a source, and the arms and claims of it that are meant.

    A claim brings the arms that it is judged by, an arm the claims that it judges.
    """

    source: Source
    arms: frozenset[str]
    claims: frozenset[str]

    @classmethod
    def of(cls, word: str) -> Asked:
        """Raises LabError where there is no such source, arm or claim."""
        from lenet_lab.claims import load
        from lenet_lab.records import LabError

        letter, _, name = word.partition(".")
        source = load(letter)
        judged_by = source.judged_by
        if not name:
            return cls(source, frozenset(source.arms), frozenset(judged_by))
        arms = {name} & source.arms.keys()
        claims = {claim for claim, by in judged_by.items() if claim == word or arms & set(by)}
        if not arms and not claims:
            known = ", ".join([*source.arms, *(claim.partition(".")[2] for claim in judged_by)])
            raise LabError(f"claims: {word}: no such arm or claim; there are: {known}")
        return cls(source, frozenset(arms).union(judged_by.get(word, ())), frozenset(claims))


@cache
def digests(letter: str) -> dict[str, str]:
    """Arm -> the digest that its runs bear."""
    from lenet_lab.claims import load
    from lenet_lab.commands.errors import hydra_errors
    from lenet_lab.config.numbers import quote
    from lenet_lab.sweeps.plan import compose_multirun

    source = load(letter)
    with hydra_errors():
        return {arm: compose_multirun([quote(word) for word in source.words(arm)])[0].arm for arm in source.arms}


def exported(file: Path) -> tuple[list[RunRecord], Curves]:
    """The runs of an export; none where there is no file."""
    from lenet_lab.tracking.exports import read_export

    if not file.exists():
        return [], {}
    export = read_export(file)
    return export.records, export.curves


def tracked(uri: str | None, new: bool = False) -> tuple[list[RunRecord], Curves]:
    """The runs of the store; none where there is no store, and none was named or it is to be made (`new`)."""
    from lenet_lab.claims.evidence import READ
    from lenet_lab.records import LabError
    from lenet_lab.tracking import open_store, read_curves, read_runs

    try:
        store = open_store(uri, create=False)
    except LabError:
        if uri is not None and not new:
            raise
        return [], {}
    records = read_runs(store)
    return records, read_curves(store, [record.run_id for record in records], READ)


def run_missing(chosen: argparse.Namespace) -> int:
    """Run the arms that lack seeds, the cheapest first, each as the sweep that the page prints, packed where that fits.

    What another launcher has begun of a run is begun anew.
    """
    from lenet_lab.claims import names
    from lenet_lab.sweeps.forecast import duration

    asked = [Asked.of(word) for word in chosen.sources or names()]
    sources = {one.source.letter: one.source for one in asked}
    wanted = dict.fromkeys((one.source.letter, arm) for one in asked for arm in one.source.arms if arm in one.arms)
    todo = [(sources[letter], arm) for letter, arm in wanted]
    _bring(sources, chosen)
    begun, status = time.monotonic(), 0
    for seconds, source, arm in sorted(_costs(todo, chosen), key=lambda one: one[0]):
        left = None if chosen.budget is None else chosen.budget - (time.monotonic() - begun)
        if left is not None and seconds > left:
            print(f"{source.letter}.{arm}: about {duration(seconds)}, and {duration(max(left, 0))} left: not run")
            continue
        seeds = _seeds(source, arm, chosen)
        how, more = ("sweep.workers=1", "") if source.arms[arm].timed else (PACKED, f" {PACKED}")
        print(f"{source.letter}.{arm}, about {duration(seconds)}: {source.command(arm, seeds)}{more}", flush=True)
        where = [f"tracking.uri={chosen.store}"] if chosen.store else []
        done = subprocess.run(
            [sys.executable, "-m", "lenet_lab", "-m", *source.words(arm), how, *where, f"seed=range({seeds})"],
            check=False,
        )
        if done.returncode in STOPPED:
            return done.returncode
        status = max(status, int(done.returncode != 0))
    return status


def _seeds(source: Source, arm: str, chosen: argparse.Namespace) -> int:
    """As many as the ledger aims at, or fewer: more would not count."""
    return min(chosen.seeds or source.aim(arm), source.aim(arm))


def _bring(letters: Iterable[str], chosen: argparse.Namespace) -> None:
    """What the exports hold goes into the store, so that it is not run again."""
    from lenet_lab.tracking.imports import import_runs

    for letter in sorted(letters):
        file = chosen.out / f"{letter}.zip"
        if file.exists() and (brought := import_runs(file, chosen.store)).runs:
            print(f"{brought.runs} runs from {file}")


def _costs(todo: Sequence[tuple[Source, str]], chosen: argparse.Namespace) -> list[tuple[float, Source, str]]:
    """Seconds of what is missing of each arm, for the arms that miss any."""
    from lenet_lab.claims.evidence import COUNT
    from lenet_lab.commands.errors import hydra_errors
    from lenet_lab.config.numbers import quote
    from lenet_lab.sweeps.forecast import forecast
    from lenet_lab.sweeps.launch import width
    from lenet_lab.sweeps.plan import compose_multirun, make_plan

    records, _ = tracked(chosen.store, new=True)
    done = {record.key for record in records if record.state in COUNT}
    found = []
    for source, arm in todo:
        seeds = f"seed=range({_seeds(source, arm, chosen)})"
        with hydra_errors():
            cells = compose_multirun([quote(word) for word in (*source.words(arm), seeds)])
        left = [ready for ready in cells if ready.key not in done]
        if left:
            plan = make_plan(cells, None)
            workers = (
                1 if source.arms[arm].timed else width(left[0].config, [plan.of(one.cell.overrides) for one in left])[0]
            )
            found.append((forecast(left, records, workers).seconds, source, arm))
    return found
