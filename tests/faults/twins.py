"""Several at once: starters, writers, sweeps, and DDP after DDP."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path

from tests.faults.harness import (
    Life,
    Tally,
    command,
    complete,
    doubled,
    fault,
    finish,
    fresh,
    gaps,
    one_whole_run,
    print_of,
    reference,
    rows,
    whole,
)
from tests.faults.kills import SWEEP


@fault("16 starters on a fresh store", "16 of 16 finish", 0.05, 5)
def starters(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Sixteen runs begin in one folder without a store, at once."""
    for _ in range(rounds):
        with fresh(stocked=False) as folder:
            lives = [Life(folder, (f"seed={seed}", "epochs=1", "data.train_size=100")) for seed in range(16)]
            for life in lives:
                tally.count(complete(life, 400), seconds=life.seconds())
            counting = [row for row in rows(folder / "mlflow.db") if row.counts]
            tally.count(
                [f"{len(counting)} runs count"] * (len(counting) != 16)
                + ["damaged"] * (not whole(folder / "mlflow.db"))
            )


WRITERS, BATCHES = 32, 30


@fault("32 writers x 30 batches", "no error, nothing lost or doubled", 0.05, 5)
def writers(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Processes that track as runs do, as fast as they can."""
    context = multiprocessing.get_context("forkserver")
    for _ in range(rounds):
        with fresh() as folder:
            begun = time.monotonic()
            processes = [context.Process(target=write, args=(str(folder), index)) for index in range(WRITERS)]
            for process in processes:
                process.start()
            for process in processes:
                process.join(600)
            bad = [process.exitcode for process in processes if process.exitcode != 0]
            problems = [f"{len(bad)} writers ended with {set(bad)}"] * bool(bad)
            found = [row for row in rows(folder / "mlflow.db") if row.counts]
            points = sum(len(row.points) for row in found)
            lost = WRITERS * BATCHES * 4 - points
            tally.count(problems + [word for row in found for word in doubled(row)], lost, time.monotonic() - begun)


def write(folder: str, index: int) -> None:
    """One writer: thirty batches of four points."""
    os.chdir(folder)
    from lenet_lab.tracking import claim, open_store

    tracked = claim(open_store(f"sqlite:///{folder}/mlflow.db"), f"writer{index:02d}", f"writer {index}")
    tracked.begin({})
    for step in range(BATCHES):
        tracked.metrics({f"m{k}": step + k / 10 for k in range(4)}, step)
        time.sleep(0.02)
    assert tracked.finish("complete", timeout=300)


@fault(
    "the same sweep launched twice at once", "each run trained once, one parent, a later launch finds all done", 0.1, 5
)
def same_twice(tally: Tally, rounds: int, draw: random.Random) -> None:
    """In one folder, on one store."""
    for _ in range(rounds):
        with fresh(stocked=False) as folder:
            words = (*SWEEP, "seed=0,1,2,3")
            processes = [command(folder, *words) for _ in range(2)]
            ends = [finish(process) for process in processes]
            tally.count(one_each(folder, 4))
            status, out = finish(command(folder, *words))
            problems = [f"status {status}: {out[-300:]}, after {[end[0] for end in ends]}"] * (status != 0)
            problems += ["trained again"] * ("4 done already" not in out)
            problems += [f"{parents(folder)} parents"] * (parents(folder) != 1)
            tally.count(problems)


@fault("two sweeps in the same second", "both complete, folders of their own", 0.1, 5)
def same_second(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Started together, in one folder."""
    for _ in range(rounds):
        with fresh(stocked=False) as folder:
            processes = [command(folder, *SWEEP, f"pool={pool}", "seed=0,1") for pool in ("avg", "max")]
            ends = [finish(process) for process in processes]
            problems = [f"status {status}: {out[-300:]}" for status, out in ends if status != 0]
            logs = list(folder.glob("multirun/*/*/*/job.log"))
            problems += [f"{len(logs)} logs"] * (len(logs) != 4)
            tally.count(problems + one_each(folder, 4))


def one_each(folder: Path, cells: int) -> list[str]:
    """Problems, unless every cell has exactly one run, which counts and is whole."""
    found = rows(folder / "mlflow.db")
    keys = {row.tags["lenet.key"] for row in found}
    problems = [f"{len(found)} runs of {len(keys)} cells"] * (len(found) != cells or len(keys) != cells)
    problems += [f"{row.run_id} is {row.state}" for row in found if not row.counts]
    return problems + [word for row in found for word in doubled(row) + gaps(row)]


def parents(folder: Path) -> int:
    """How many sweeps the store knows."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(folder / "mlflow.db")) as base:
        query = "SELECT count(*) FROM tags WHERE key = 'lenet.kind' AND value = 'sweep'"
        return int(base.execute(query).fetchone()[0])


@fault("DDP after DDP in one sweep", "both with two processes, each equal to a lone run", 0.05, 3)
def ddp_twice(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Two cells of two processes each, one after the other."""
    for _ in range(rounds):
        lone = {seed: reference(("trainer=ddp_cpu", f"seed={seed}"))[0] for seed in (0, 1)}
        with fresh() as folder:
            words = [word for word in SWEEP if not word.startswith(("trainer=", "epochs="))]
            status, out = finish(command(folder, *words, "epochs=6", "trainer=ddp_cpu", "seed=0,1", "sweep.threads=1"))
            problems = [f"status {status}: {out[-300:]}"] * (status != 0) + one_each(folder, 2)
            prints = {print_of(row) for row in rows(folder / "mlflow.db") if row.counts}
            problems += ["they differ from lone runs"] * (prints != set(lone.values()))
            tally.count(problems)


@fault("a run launched twice at once", "one trains, the other says so; one run", 0.2, 10)
def run_twice(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Two lives of one cell in one folder."""
    print_ = reference(())[0]
    for _ in range(rounds):
        with fresh() as folder:
            lives = [Life(folder, pause=0.1) for _ in range(2)]
            ends = sorted(life.end() for life in lives)
            states = {life.outcome.get("state") for life in lives}
            problems = [f"they ended with {ends}, {states}"] * (
                "complete" not in states or not states <= {"complete", "busy", "done"}
            )
            tally.count(problems + one_whole_run(folder / "mlflow.db", print_))
