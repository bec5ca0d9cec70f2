"""A report that is interrupted: the old one whole, or the new one. And one of very many runs."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.faults.harness import Life, Tally, command, complete, fault, fresh


@fault("report killed while it is written", "the old one whole, or the new one whole")
def interrupted(tally: Tally, rounds: int, draw: random.Random) -> None:
    """kill -9 at a random moment of `report.write`, most of them while it puts its files in place."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lenet_lab.sweeps.preload", "tests.faults.hooks"])
    with fresh(stocked=False) as folder:
        versions = {}
        for name in ("old", "new"):
            process = context.Process(target=write, args=(str(folder / name), name, None))
            process.start()
            process.join(120)
            versions[name] = content(folder / name)
        assert versions["old"] != versions["new"]
        out = folder / "out"
        for index in range(rounds):
            before = "none" if index % 4 == 0 else draw.choice(("old", "new"))
            for left in folder.glob(".out.*"):
                remove(left)
            remove(out)
            if before != "none":
                write_all(out, versions[before])
            pipe, far = context.Pipe(duplex=False)
            process = context.Process(target=write, args=(str(out), "new", far))
            process.start()
            far.close()
            pipe.poll(60)
            time.sleep(draw.uniform(0.0, 0.4))
            with_pid(process)
            process.join(30)
            found = content(out)
            allowed = {"none": [{}, versions["new"]], "old": list(versions.values()), "new": [versions["new"]]}[before]
            tally.add("killed before its end", process.exitcode == -signal.SIGKILL)
            problems = [f"neither, {sorted(found)} after {before}"] * (found not in allowed)
            again = context.Process(target=write, args=(str(out), "new", None))
            again.start()
            again.join(120)
            problems += ["the next one fails"] * (again.exitcode != 0 or content(out) != versions["new"])
            tally.count(problems)


def with_pid(process: Any) -> None:
    """kill -9."""
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)


def write(out: str, name: str, pipe: Any) -> None:
    """Write a report on made-up runs; says so when the files are about to be put in place."""
    from lenet_lab.report import build
    from lenet_lab.report import write as module
    from tests.report_study import study

    facts = build(*study(seeds=(0, 1) if name == "old" else (0, 1, 2)))
    from importlib import import_module

    writing = import_module("lenet_lab.report.write")
    rendered = writing.render(facts)
    fill = writing._fill

    def slowly(folder: Path, content: Any) -> None:
        if pipe is not None:
            pipe.send("filling")
        for part in content:  # a slow disk: the moments between two files are wide enough to be hit
            fill(folder, {part: content[part]})
            time.sleep(0.02 if pipe is not None else 0.0)

    writing.render, writing._fill = lambda facts, images=None: rendered, slowly
    module(facts, out)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_all(folder: Path, files: dict[str, bytes]) -> None:
    """Files into a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def remove(folder: Path) -> None:
    """A folder and what is in it."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


RUNS, ARMS = 10_000, 100


@fault("10,000 runs in the store", "all counted, the report in 30 s of computing and 500 MB", 0.05, 1)
def many(tally: Tally, rounds: int, draw: random.Random) -> None:
    """One run trained, and ten thousand like it written by SQL: a hundred arms of a hundred seeds."""
    with fresh() as folder:
        problems = complete(Life(folder))
        multiply(folder / "mlflow.db")
        process = command(folder, "report", "--out", "report")
        out = process.stdout.read() if process.stdout is not None else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds, mib = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        tally.most("most MiB", mib)
        problems += [f"status {process.returncode}: {out[-500:]}"] * (process.returncode != 0)
        problems += [f"not all counted: {out[-500:]}"] * (f"report on {RUNS} runs" not in out)
        problems += [f"{seconds:.0f} s of computing"] * (seconds > 30) + [f"{mib:.0f} MiB"] * (mib > 500)
        tally.count(problems, seconds=seconds)


def multiply(database: Path) -> None:
    """Copies of the one run of a cell in a database until there are `RUNS`, in `ARMS` arms."""
    with closing(sqlite3.connect(database)) as base, base:
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
        for number in range(1, RUNS):
            arm, seed = number % ARMS, number // ARMS
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
