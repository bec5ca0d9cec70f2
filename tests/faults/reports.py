"""A report that is interrupted: the old one whole, or the new one. And one of very many runs."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from lenet_lab.bench.stores import ARMS, RUNS, measured, multiply
from tests.faults.harness import Life, Tally, complete, fault, fresh


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


@fault("10,000 runs in the store", "all counted, the report in 30 s of computing and 500 MB", 0.05, 1)
def many(tally: Tally, rounds: int, draw: random.Random) -> None:
    """One run trained, and ten thousand like it written by SQL: a hundred arms of a hundred seeds."""
    with fresh() as folder:
        problems = complete(Life(folder))
        multiply(folder / "mlflow.db", RUNS, ARMS)
        seconds = None
        try:
            used = measured([sys.executable, "-m", "lenet_lab", "report", "--out", "report"], folder)
        except RuntimeError as failure:
            problems.append(str(failure))
        else:
            seconds = used.computing
            tally.most("most MiB", used.mebibytes)
            problems += [f"not all counted: {used.said[-500:]}"] * (f"report on {RUNS} runs" not in used.said)
            problems += [f"{seconds:.0f} s of computing"] * (seconds > 30)
            problems += [f"{used.mebibytes:.0f} MiB"] * (used.mebibytes > 500)
        tally.count(problems, seconds=seconds)
