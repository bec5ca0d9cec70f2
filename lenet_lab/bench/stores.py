"""A store with thousands of runs: what it costs to look at it, to report on it, and to begin one more."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

from lenet_lab.bench.starts import Measured, alternate, call, clean

RUNS, ARMS = 10_000, 100
# from opening the store until a new run is claimed and begun, which training waits for; ended in order, so that nothing
# is left for the next process to deliver
BEGIN = """
import sys, time
import lenet_lab.sweeps.preload
from lenet_lab.cell import load, make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.run import Life, claim_run
from lenet_lab.tracking import deliver_pending, open_store
from lenet_lab.train import ENGINES

ready = make_ready(compose_cell(["data=digits", f"seed={sys.argv[1]}"]))
arrays = load(ready.config.data)
begun = time.perf_counter()
store = open_store(ready.config.tracking.uri)
deliver_pending(store)
life = Life(ready, arrays, claim_run(store, ready, ENGINES[ready.config.model.engine].name), begun)
life.begin()
seconds = time.perf_counter() - begun
life.state, life.error = "failed", "the benchmark wanted no more than its beginning"
assert life.end().delivered
print(f"begun in {seconds!r} s", flush=True)
"""
BEGUN = re.compile(r"^begun in (\S+) s$", re.MULTILINE)
ONE = ("data=digits", "data.train_size=64", "epochs=5", "tracking.artifacts=minimal")


class Used(NamedTuple):
    """What a process took: seconds by the clock, seconds of computing, peak memory in MiB; and what it said."""

    wall: float
    computing: float
    mebibytes: float
    said: str


def crowded(rounds: int, say: Callable[[str], None]) -> Iterator[Measured]:
    """The measurements of a store with `RUNS` runs, copies of a real one, and of a store with that one alone."""
    few = max(3, rounds // 2)
    with tempfile.TemporaryDirectory(prefix="lenet_lab-bench-") as root:
        full, empty = Path(root) / "full", Path(root) / "empty"
        for folder in (full, empty):
            folder.mkdir()
            call([sys.executable, "-m", "lenet_lab", *ONE], folder)
        say(f"stores, {RUNS:,} copies of a run")
        multiply(full / "mlflow.db", RUNS, ARMS)
        say("stores, status and report")
        asked = {"status": ["status"], "report": ["report", "--out", "out"]}
        looks = {
            name: partial(measured, [sys.executable, "-m", "lenet_lab", *words], full) for name, words in asked.items()
        }
        used = alternate(looks, few)
        yield f"{RUNS:,} runs", "s", {name: [one.wall for one in several] for name, several in used.items()}, []
        yield f"{RUNS:,} runs", "MiB", {name: [one.mebibytes for one in several] for name, several in used.items()}, []
        say("stores, the beginning of a run")
        seeds = count(1000)  # each a run that is not there
        begins = {
            name: lambda folder=folder: beginning(folder, next(seeds))
            for name, folder in (("nearly empty store", empty), ("full store", full))
        }
        yield "beginning of a run", "s", alternate(begins, rounds), [("full store", "nearly empty store", 1 / 1.5)]


def beginning(folder: Path, seed: int) -> float:
    """Seconds from opening the folder's store until a run is begun in it, by a process that has imported everything."""
    found = BEGUN.search(call([sys.executable, "-c", BEGIN, str(seed)], folder))
    assert found is not None
    return float(found[1])


def multiply(file: Path, runs: int, arms: int) -> None:
    """Copy the one run of a cell, by the tables of its database, until there are so many `runs`, in so many `arms`."""
    with closing(sqlite3.connect(file)) as base, base:
        (first,) = (row[0] for row in base.execute("SELECT run_uuid FROM tags WHERE key = 'lenet.key'"))
        names = ("runs", "tags", "params", "metrics", "latest_metrics")
        columns = {name: [row[1] for row in base.execute(f"PRAGMA table_info({name})")] for name in names}
        held = {
            name: [
                dict(zip(columns[name], row, strict=True))
                for row in base.execute(f"SELECT * FROM {name} WHERE run_uuid = ?", (first,))
            ]
            for name in names
        }
        for number in range(1, runs):
            arm, seed = number % arms, number // arms
            changed = {
                ("params", "seed"): str(seed),
                ("params", "weight_decay.value"): str(arm / 1e5),
                ("tags", "lenet.key"): f"{number:064x}",
                ("tags", "lenet.arm"): f"{arm:064x}",
            }
            for name, found in held.items():
                for row in found:
                    new = {**row, "run_uuid": f"{number:032x}"}
                    if "value" in row:
                        new["value"] = changed.get((name, row["key"]), row["value"])
                    if row.get("key") == "test/acc":
                        new["value"] = 0.9 + arm / 1e4 + (number * 7919 % 101) / 1e5
                    marks = ",".join("?" * len(new))
                    base.execute(f"INSERT INTO {name} ({','.join(new)}) VALUES ({marks})", tuple(new.values()))


def measured(words: Sequence[str], where: Path) -> Used:
    """What a whole process takes and says.

    Raises:
        RuntimeError: it ends with another status than 0.
    """
    begun = time.perf_counter()
    with (where / "said.txt").open("w") as said:
        process = subprocess.Popen(words, cwd=where, env=clean(), stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        peak, ended = 0.0, 0
        while not ended:
            # the kernel's own ru_maxrss counts what the process that forked it held
            peak = max(peak, _peak(process.pid))
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            time.sleep(0.0 if ended else 0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    text = (where / "said.txt").read_text()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)[-60:]} ended with status {process.returncode}: {text[-500:]}")
    return Used(time.perf_counter() - begun, used.ru_utime + used.ru_stime, peak, text)


def _peak(pid: int) -> float:
    """The most memory in MiB that a process has held until now; 0 where it has ended."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
