"""A store with thousands of runs: what it costs to look at it, to report on it, and to begin one more."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from lenet_lab.bench.starts import FIRST, Measured, call, clean

RUNS, ARMS = 10_000, 500
SEED_RUNS = ("-m", "data=digits", "data.train_size=64", "epochs=5", "pool=avg,max", "tracking.artifacts=minimal")
NOTED = ("test/acc", "test/errors", "test/loss", "time/train_s")


def crowded(rounds: int, say: Callable[[str], None]) -> Iterator[Measured]:
    """The measurements of a store with `RUNS` copies of real runs, and of one with the real runs alone."""
    few = max(2, rounds // 2)
    with tempfile.TemporaryDirectory(prefix="lenet_lab-bench-") as root:
        full, empty = Path(root) / "full", Path(root) / "empty"
        for folder in (full, empty):
            folder.mkdir()
            say(f"stores, {'real runs for the full one' if folder is full else 'and the nearly empty one'}")
            call([sys.executable, "-m", "lenet_lab", *SEED_RUNS], folder)
        say(f"stores, {RUNS:,} copies")
        multiply(full / "mlflow.db", RUNS)
        say("stores, status and report")
        times: dict[str, list[float]] = {"status": [], "report": []}
        memory: dict[str, list[float]] = {"status": [], "report": []}
        for _ in range(few):
            for name, words in (("status", ["status"]), ("report", ["report", "--out", "out"])):
                seconds, mebibytes = _measured([sys.executable, "-m", "lenet_lab", *words], full)
                times[name].append(seconds)
                memory[name].append(mebibytes)
        yield f"{RUNS:,} runs", "s", times, []
        yield f"{RUNS:,} runs", "MiB", memory, []
        say("stores, first step")
        first: dict[str, list[float]] = {"nearly empty store": [], "full store": []}
        for _ in range(few + 1):
            for name, folder in (("nearly empty store", empty), ("full store", full)):
                first[name].append(_measured([sys.executable, "-c", FIRST], folder)[0])
        yield f"{RUNS:,} runs", "s", first, [("full store", "nearly empty store", 1 / 1.5)]


def multiply(file: Path, count: int) -> None:
    """Copy the runs of a database, by its tables, until there are `count` more: `ARMS` arms that differ in rate."""
    draws = random.Random(0)
    with closing(sqlite3.connect(file)) as base, base:
        real = [
            row[0] for row in base.execute("SELECT run_uuid FROM tags WHERE key = 'lenet.state' AND value = 'complete'")
        ]
        columns = {
            table: [row[1] for row in base.execute(f"PRAGMA table_info({table})")]
            for table in ("runs", "params", "tags", "metrics", "latest_metrics")
        }
        for number in range(count):
            source, run = real[number % len(real)], f"{number:032x}"
            for table, names in columns.items():
                chosen = ", ".join("?" if name == "run_uuid" else f'"{name}"' for name in names)
                base.execute(f"INSERT INTO {table} SELECT {chosen} FROM {table} WHERE run_uuid = ?", (run, source))
            seed, rate = number // ARMS, f"{(number % ARMS + 2) / 1000:g}"
            name, key = f"lr={rate} seed={seed}", hashlib.sha256(run.encode()).hexdigest()
            said = {
                "tags": {"lenet.key": key, "mlflow.runName": name, "lenet.owner": run, "lenet.ended_by": run},
                "params": {"seed": str(seed), "lr": rate, "lr.value": rate},
            }
            for table, pairs in said.items():
                for which, value in pairs.items():
                    words = f"UPDATE {table} SET value = ? WHERE run_uuid = ? AND key = ?"
                    base.execute(words, (value, run, which))
            base.execute("UPDATE runs SET name = ? WHERE run_uuid = ?", (name, run))
            for which in NOTED:
                words = "UPDATE latest_metrics SET value = value * ? WHERE run_uuid = ? AND key = ?"
                base.execute(words, (draws.uniform(0.95, 1.0), run, which))


def _measured(words: list[str], where: Path) -> tuple[float, float]:
    """Seconds and peak memory in MiB of a whole process."""
    begun = time.perf_counter()
    with (where / "said.txt").open("w") as said:
        process = subprocess.Popen(words, cwd=where, env=clean(), stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(
            f"{words[-3:]} ended with status {process.returncode}: {(where / 'said.txt').read_text()[-300:]}"
        )
    return time.perf_counter() - begun, used.ru_maxrss / 1024
