"""SIGTERM and SIGINT: a run ends in order within ten seconds, says so, and can be gone on with."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time

from tests.faults.harness import (
    VARIANTS,
    Life,
    Tally,
    acknowledged,
    command,
    complete,
    fault,
    finish,
    fresh,
    missing,
    one_whole_run,
    reference,
    rows,
    seen,
)
from tests.faults.kills import PAUSE, SWEEP, wait_for

BAR_S = 10.0


@fault("SIGTERM, SIGINT", "status 143, 130 within 10 s, stopped, resumed = uninterrupted")
def one_signal(tally: Tally, rounds: int, draw: random.Random) -> None:
    """At a random moment of a run."""
    for index in range(rounds):
        words, number = VARIANTS[index % len(VARIANTS)], (signal.SIGTERM, signal.SIGINT)[index % 2]
        print_, seconds = reference(words, PAUSE)
        with fresh() as folder:
            life = Life(folder, words, pause=PAUSE)
            life.until("begin")
            time.sleep(draw.uniform(0.1, 1.1) * seconds)
            sent = time.monotonic()
            life.kill(number)
            status = life.end()
            took = life.ended - sent
            problems = [f"{took:.1f} s to the exit"] * (took > BAR_S)
            states = seen(folder) if rows(folder / "mlflow.db") else []
            began = any("lenet.owner" in row.tags for row in rows(folder / "mlflow.db"))
            ended = [row for row in rows(folder / "mlflow.db") if row.counts]
            if not ended and status not in (128 + number, -number):
                problems.append(f"status {status} after {signal.Signals(number).name}: {life.text()[-300:]}")
            if not ended and began and states != ["stopped"]:
                problems.append(f"seen as {states}: {life.said[-1]} {life.text()[-300:]}")
            tally.add("before the run began" if not began else "after it was complete" if ended else "while it trained")
            lost = missing(acknowledged(folder), folder / "mlflow.db")
            problems += complete(Life(folder, words))
            tally.count(problems + one_whole_run(folder / "mlflow.db", print_), lost, took)


@fault("SIGTERM while the store is locked", "status 143 within 10 s, resumable", share=0.1, most=5)
def signal_and_lock(tally: Tally, rounds: int, draw: random.Random) -> None:
    """The end cannot be delivered: it stays in the spool."""
    for _ in range(rounds):
        with fresh() as folder:
            life = Life(folder, ("epochs=8",), pause=0.5)
            life.until("epoch", times=2)
            base = sqlite3.connect(folder / "mlflow.db", timeout=60, isolation_level=None)
            base.execute("BEGIN EXCLUSIVE")
            life.until("epoch", times=draw.choice((3, 4, 5)))
            sent = time.monotonic()
            life.kill(signal.SIGTERM)
            status = life.end()
            took = life.ended - sent
            base.execute("ROLLBACK")
            base.close()
            problems = [f"status {status}"] * (status != 143) + [f"{took:.1f} s to the exit"] * (took > BAR_S)
            problems += complete(Life(folder, ("epochs=8",)))
            tally.count(problems + one_whole_run(folder / "mlflow.db"), seconds=took)


@fault("SIGINT, SIGTERM of a sweep", "130, 143 within 10 s; once in order and resumable, twice at once", 0.1, 5)
def sweep_signals(tally: Tally, rounds: int, draw: random.Random) -> None:
    """To the parent alone and to the whole group, as a terminal does."""
    words = (*SWEEP, "seed=0,1,2", "epochs=60")
    for index in range(2 * rounds):
        with fresh() as folder:
            twice, group = index % 2 == 1, draw.random() < 0.5
            number = draw.choice((signal.SIGINT, signal.SIGTERM))
            process = command(folder, *words)
            wait_for(lambda folder=folder: any("lenet.owner" in row.tags for row in rows(folder / "mlflow.db")))
            time.sleep(draw.uniform(0.0, 2.0))
            sent = time.monotonic()
            send = os.killpg if group else os.kill
            send(process.pid, number)
            if twice:
                time.sleep(draw.uniform(0.05, 0.3))
                send(process.pid, number)
            status, out = finish(process)
            took = time.monotonic() - sent
            problems = [f"status {status}: {out[-400:]}"] * (status != 128 + number)
            problems += [f"{took:.1f} s to the exit"] * (took > BAR_S)
            states = set(seen(folder))
            problems += [f"seen as {states}"] * (not twice and states != {"stopped"})
            problems += [f"seen as {states}"] * (not states <= {"stopped", "failed", "dead"})
            problems += ["a traceback is shown"] * ("Traceback" in out)
            status, out = finish(command(folder, *SWEEP, "seed=0,1,2", "epochs=60", "early_stopping=none"))
            problems += [f"relaunch: status {status}: {out[-300:]}"] * (status != 0)
            counting = [row for row in rows(folder / "mlflow.db") if row.counts]
            problems += [f"{len(counting)} runs count of {len(rows(folder / 'mlflow.db'))}"] * (len(counting) != 3)
            tally.count(problems, seconds=took)
