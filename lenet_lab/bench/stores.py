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
from pathlib import Path
from typing import NamedTuple

from lenet_lab.bench.starts import FIRST, Measured, call, clean

RUNS, ARMS = 10_000, 100
ONE = ("data=digits", "data.train_size=64", "epochs=5", "tracking.artifacts=minimal")


class Used(NamedTuple):
    """What a process took: seconds by the clock, seconds of computing, peak memory in MiB; and what it said."""

    wall: float
    computing: float
    mebibytes: float
    said: str


def crowded(rounds: int, say: Callable[[str], None]) -> Iterator[Measured]:
    """The measurements of a store with `RUNS` runs, copies of a real one, and of a store with that one alone."""
    few = max(2, rounds // 2)
    with tempfile.TemporaryDirectory(prefix="lenet_lab-bench-") as root:
        full, empty = Path(root) / "full", Path(root) / "empty"
        for folder in (full, empty):
            folder.mkdir()
            call([sys.executable, "-m", "lenet_lab", *ONE], folder)
        say(f"stores, {RUNS:,} copies of a run")
        multiply(full / "mlflow.db", RUNS, ARMS)
        say("stores, status and report")
        times: dict[str, list[float]] = {"status": [], "report": []}
        memory: dict[str, list[float]] = {"status": [], "report": []}
        for _ in range(few):
            for name, words in (("status", ["status"]), ("report", ["report", "--out", "out"])):
                used = measured([sys.executable, "-m", "lenet_lab", *words], full)
                times[name].append(used.wall)
                memory[name].append(used.mebibytes)
        yield f"{RUNS:,} runs", "s", times, []
        yield f"{RUNS:,} runs", "MiB", memory, []
        say("stores, first step")
        first: dict[str, list[float]] = {"nearly empty store": [], "full store": []}
        for _ in range(few + 1):
            for name, folder in (("nearly empty store", empty), ("full store", full)):
                first[name].append(measured([sys.executable, "-c", FIRST], folder).wall)
        yield f"{RUNS:,} runs", "s", first, [("full store", "nearly empty store", 1 / 1.5)]


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
