"""kill -9: of a run, of a sweep, of one process of several."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

from tests.faults.harness import (
    VARIANTS,
    Life,
    Tally,
    acknowledged,
    command,
    complete,
    doubled,
    fault,
    finish,
    fresh,
    kill_group,
    missing,
    one_whole_run,
    reference,
    rows,
    seen,
)

SWEEP = ("-m", "data=digits", "data.train_size=300", "epochs=4", "tracking.artifacts=minimal", "trainer=cpu")

PAUSE = 0.1  # after each epoch: points reach the store one epoch at a time, as in a run of minutes


@fault("kill -9 of a run", "0 acknowledged points lost, one run counts, resumed = uninterrupted, <= 1 epoch again")
def kill_run(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Killed once or twice at random moments, from its first second of work to its last call."""
    for index in range(rounds):
        words = VARIANTS[index % len(VARIANTS)]
        print_, seconds = reference(words, PAUSE)
        with fresh(stocked=index % 5 != 0) as folder:
            problems, lost, lives = [], 0, []
            for _ in range(draw.choice((1, 1, 2))):
                life = Life(folder, words, pause=PAUSE)
                lives.append(life)
                life.until("begin")
                time.sleep(draw.uniform(0.0, 1.2 * seconds + 4.0 * (index % 5 == 0)))
                life.kill()
                life.end()
                database = folder / "mlflow.db"
                acked = acknowledged(folder)
                gone = missing(acked, database)
                lost += gone
                tally.add("acknowledged points", len(acked))
                if rows(database) and not set(seen(folder)) <= {"dead", "complete"}:
                    problems.append(f"a killed run is seen as {seen(folder)}")
            life = Life(folder, words)
            lives.append(life)
            problems += complete(life)
            if not problems:
                problems += one_whole_run(folder / "mlflow.db", print_)
                tally.add("resumed, with identical weights", bool(not problems and life.epochs and life.epochs[0] > 1))
                problems += ["more than one run"] * (len(rows(folder / "mlflow.db")) > 1)
            again = epochs_again(lives)
            tally.most("most epochs again", again)
            problems += [f"{again} epochs trained again"] * (again > 1)
            tally.count(problems, lost, life.ended - life.started)


def epochs_again(lives: list[Life]) -> int:
    """The most epochs that a life trained again though the one before had ended them."""
    most, before = 0, 0
    for life in lives:
        if life.epochs:
            most = max(most, before - (life.epochs[0] - 1))
        before = max([before, *life.epochs])
    return most


@fault("restore time", "killed once: all rounds together at most 1.5 times the uninterrupted time", share=0.25, most=10)
def restore_time(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Runs long enough that the arithmetic counts: the lives' seconds added up, process starts left out.

    The uninterrupted run is timed in the same round: what slows the machine down slows both. The bar is on all rounds
    together, so that one disturbed second decides nothing.
    """
    words = ("data.train_size=null", "epochs=12", "batch_size=8")
    killed = uninterrupted = 0.0
    for left in reversed(range(rounds)):
        with fresh() as folder:
            life = Life(folder, words)
            whole = complete(life)
            seconds = life.seconds()
        with fresh() as folder:
            life = Life(folder, words)
            life.until("begin")
            time.sleep(draw.uniform(0.2, 0.95) * seconds)
            life.kill()
            life.end()
            first = life.seconds()
            life = Life(folder, words)
            problems = whole + complete(life)
            lived = first + life.seconds()
            killed, uninterrupted = killed + lived, uninterrupted + seconds
            tally.most("worst ratio", lived / seconds)
            if not left:
                ratio = killed / uninterrupted
                tally.most("most in all", ratio)
                problems += [f"{ratio:.2f} times the uninterrupted time"] * (ratio > 1.5)
            tally.count(problems + one_whole_run(folder / "mlflow.db"), seconds=lived)


@fault("kill -9 of a sweep", "0 finished runs redone, <= 1 epoch again, all cells whole", share=0.15, most=20)
def kill_sweep(tally: Tally, rounds: int, draw: random.Random) -> None:
    """The whole process group, while it trains; then the same command."""
    words = (*SWEEP, "seed=0,1,2,3", "pool=avg")
    for _ in range(rounds):
        with fresh() as folder:
            database, problems = folder / "mlflow.db", []
            process = command(folder, *words)
            wait_for(lambda database=database: len(rows(database)) >= 1)
            time.sleep(draw.uniform(0.0, 6.0))
            kill_group(process)
            finish(process)
            done = {row.run_id: row for row in rows(database) if row.counts}
            lost = missing(acknowledged(folder), database)
            tally.add("finished before the kill", len(done))
            status, out = finish(command(folder, *words))
            after = {row.run_id: row for row in rows(database)}
            redone = [run for run, row in done.items() if after[run].points != row.points or after[run].end != row.end]
            counting = [row for row in after.values() if row.counts]
            problems += [f"status {status}: {out[-300:]}"] * (status != 0)
            problems += [f"{len(redone)} finished runs redone"] * bool(redone)
            problems += [f"{len(counting)} runs count, of {len(after)}"] * (len(counting) != 4 or len(after) != 4)
            tally.count(problems + [word for row in counting for word in doubled(row)], lost)


@fault("kill -9 of a sweep's parent alone", "no job trains on for long, a relaunch ends whole", share=0.1, most=5)
def kill_parent(tally: Tally, rounds: int, draw: random.Random) -> None:
    """What its jobs were doing is gone on with."""
    words = (*SWEEP, "seed=0,1,2")
    for _ in range(rounds):
        with fresh() as folder:
            database = folder / "mlflow.db"
            process = command(folder, *words)
            wait_for(lambda database=database: len(rows(database)) >= 1)
            time.sleep(draw.uniform(0.0, 2.0))
            os.kill(process.pid, signal.SIGKILL)
            finish(process)
            status, out = finish(command(folder, *words))
            problems = [f"status {status}: {out[-300:]}"] * (status != 0)
            counting = [row for row in rows(database) if row.counts]
            problems += [f"{len(counting)} runs count"] * (len(counting) != 3)
            tally.count(problems + [word for row in counting for word in doubled(row)])


@fault("kill -9 of one of two DDP processes", "the run fails, resumes, and ends like a lone one", share=0.1, most=5)
def kill_rank(tally: Tally, rounds: int, draw: random.Random) -> None:
    """And of the first: the second must not outlive it."""
    words = ("trainer=ddp_cpu", "epochs=6")
    print_ = reference(words)[0]
    for index in range(rounds + 1):
        with fresh() as folder:
            life = Life(folder, words, pause=0.3)
            life.until("epoch", times=2)
            time.sleep(draw.uniform(0.0, 1.0))
            other = children(life.process.pid or 0)
            if index % 2:
                life.kill()
            else:
                for pid in other:
                    os.kill(pid, signal.SIGKILL)
            status = life.end(90)
            time.sleep(0.5)
            left = [pid for pid in other if lives(pid)]
            problems = [f"status {status}"] * (status == 0) + ["a rank outlives the run"] * bool(left)
            problems += complete(Life(folder, words))
            tally.count(problems + one_whole_run(folder / "mlflow.db", print_))


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def lives(pid: int) -> bool:
    """Whether a process is there, and more than an entry that nobody has waited for."""
    with suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def wait_for(happens, timeout: float = 300.0) -> None:  # type: ignore[no-untyped-def]
    """Look ten times a second.

    Raises:
        TimeoutError: it does not happen.
    """
    end = time.monotonic() + timeout
    while not happens():
        if time.monotonic() > end:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.1)
