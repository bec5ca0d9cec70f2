"""Jobs of a sweep that end badly, whatever the way: the others finish, and it is said on the run and in the table."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing

from tests.faults.harness import Life, Tally, command, complete, fault, finish, fresh, one_whole_run, reference, rows
from tests.faults.kills import SWEEP, wait_for

# a sitecustomize that puts `evil` in front of `lenet_lab.run.learn`, in every process of the command
SITE = """
import importlib.abc, importlib.util, os, pathlib, resource, signal, sys, time

class Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "lenet_lab.run":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        inner = spec.loader.exec_module
        def exec_module(module):
            inner(module)
            learn = module.learn
            def hooked(config, *args, **kwargs):
                evil(config, lambda: learn(config, *args, **kwargs))
                return learn(config, *args, **kwargs)
            module.learn = hooked
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Hook())

def evil(config, go):
"""
LIMIT_S = 25
# ways to end, by seed: the code of it, the state that the run and the table must show, and a word of the note
ENDS = (
    ("raise RuntimeError('no luck')", "failed", "no luck"),
    ("sys.exit(3)", "failed", "SystemExit"),
    ("sys.exit(0)", "failed", "SystemExit"),
    ("os._exit(0)", "failed", "without having finished"),
    ("go(); os._exit(0)", "failed", "without having finished"),
    ("os.kill(os.getpid(), 9)", "failed", "SIGKILL"),
    ("os.kill(os.getpid(), 11)", "failed", "SIGSEGV"),
    (
        "import torch; used = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize(); "
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, -1)); torch.ones(2**28).sum()",
        "failed",
        "enforce fail",
    ),
    ("object.__setattr__(config.lr, 'value', 1e38)", "diverged", "not finite"),
    ("time.sleep(90)", "failed", "time limit"),
    ("signal.pthread_sigmask(signal.SIG_BLOCK, [15, 2]); time.sleep(90)", "failed", "time limit"),
)


@fault("a job of a sweep ends badly", "the others finish, status not 0, said on its run and in the table", 0.05, 3)
def bad_end(tally: Tally, rounds: int, draw: random.Random) -> None:
    """A sweep with a job for every way and two good ones; then the same command without the faults."""
    for _ in range(rounds):
        with fresh() as folder:
            words = (*SWEEP, "optimizer=sgd", f"seed=range({len(ENDS) + 2})", f"sweep.time_limit={LIMIT_S}")
            code = "".join(f"    if config.seed == {seed}:\n        {end[0]}\n" for seed, end in enumerate(ENDS))
            status, out = finish(command(folder, *words, hook=SITE + code), 600)
            tally.count([f"status {status}: {out[-500:]}"] * (status != 1))
            found = {int(row.tags["mlflow.runName"].rpartition("=")[2]): row for row in rows(folder / "mlflow.db")}
            lines = {}
            for line in out.splitlines():
                if "seed=" in line:
                    lines[int(line.rpartition("seed=")[2].split()[0])] = line
            for seed, (what, state, note) in enumerate((*ENDS, *[("nothing", "complete", "")] * 2)):
                row, line = found.get(seed), lines.get(seed, "")
                said = "no run" if row is None else f"{row.state} {row.status} {row.tags.get('lenet.error', '')}"
                good = row is not None and row.state == state and row.status != "RUNNING" and note in said
                problems = [f"{what[:40]}: its run says {said!r}"] * (not good)
                tally.count(
                    problems + [f"{what[:40]}: the table says {line!r}"] * (state not in line or note not in line)
                )
            status, out = finish(command(folder, *words))
            after = rows(folder / "mlflow.db")
            problems = [f"relaunch: status {status}: {out[-500:]}"] * (status != 1)  # one has diverged
            problems += [f"relaunch: {row.run_id} is {row.state}" for row in after if not row.counts]
            tally.count(problems + [f"{len(after)} runs"] * (len(after) != len(ENDS) + 2))


@fault("retries, fail_fast", "a killed job is started again and resumes; fail_fast stops the rest", 1.0, 1)
def retries(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Killed in its first two lives, with `sweep.retries=2`; a failure with `sweep.fail_fast=true`."""
    twice = (
        "    if config.seed != 1:\n        return\n"
        "    tries = pathlib.Path(config.tracking.uri or 'x').parent / 'tries'\n"
        "    n = int(tries.read_text()) if tries.exists() else 0\n    tries.write_text(str(n + 1))\n"
        "    if n < 2:\n        os.kill(os.getpid(), 9)"
    )
    with fresh() as folder:
        status, out = finish(command(folder, *SWEEP, "seed=0,1", "sweep.retries=2", hook=SITE + twice))
        counting = [row for row in rows(folder / "mlflow.db") if row.counts]
        problems = [f"status {status}: {out[-300:]}"] * (status != 0) + [f"{len(counting)} count"] * (
            len(counting) != 2
        )
        tally.count(problems + ["more runs than cells"] * (len(rows(folder / "mlflow.db")) != 2))
    with fresh() as folder:
        words = (*SWEEP, "seed=1,2,3,4", "sweep.workers=1", "sweep.fail_fast=true")
        status, out = finish(
            command(folder, *words, hook=SITE + "    if config.seed == 1:\n        raise RuntimeError('no luck')")
        )
        tally.count(
            [f"status {status}, {len(rows(folder / 'mlflow.db'))} runs"]
            * (status != 1 or len(rows(folder / "mlflow.db")) != 1)
        )


@fault("a job is killed while the store is locked", "the other jobs finish, status not 0", 1.0, 1)
def killed_and_locked(tally: Tally, rounds: int, draw: random.Random) -> None:
    """The sweep cannot say on the run how it ended; the lock says it."""
    with fresh() as folder:
        wait = (
            "    if config.seed != 1:\n        return\n    while not pathlib.Path('go').exists(): time.sleep(0.1)\n"
            "    os.kill(os.getpid(), 9)"
        )
        process = command(folder, *SWEEP, "seed=1,2", "sweep.workers=2", hook=SITE + wait)
        wait_for(lambda: len([r for r in rows(folder / "mlflow.db") if "lenet.arm" in r.tags]) == 2)
        with closing(sqlite3.connect(folder / "mlflow.db", timeout=60, isolation_level=None)) as base:
            base.execute("BEGIN EXCLUSIVE")
            (folder / "go").touch()
            time.sleep(25)
            base.execute("ROLLBACK")
        status, out = finish(process)
        counting = [row for row in rows(folder / "mlflow.db") if row.counts]
        problems = [f"status {status}: {out[-500:]}"] * (status != 1) + [f"{len(counting)} count"] * (
            len(counting) != 1
        )
        tally.count(problems)


@fault(
    "code changed before a resumption", "refused in one line; continue is recorded; restart trains a new run", 1.0, 1
)
def changed_code(tally: Tally, rounds: int, draw: random.Random) -> None:
    """A run killed by one version of the code, met by another."""
    for way in ("refuse", "continue", "restart"):
        with fresh() as folder:
            life = Life(folder, pause=0.3)
            life.until("epoch", times=3)
            life.kill()
            life.end()
            before = rows(folder / "mlflow.db")[0]
            other = [("code", "another")]
            life = Life(folder, hooks=other, words=() if way == "refuse" else (f"sweep.changed_code={way}",))
            if way == "refuse":
                status = life.end()
                problems = [f"status {status}: {life.text()[-300:]}"] * (status != 2)
                problems += [f"said {life.refusal!r}"] * ("changed_code" not in life.refusal or "\n" in life.refusal)
                after = rows(folder / "mlflow.db")
                problems += ["the run was changed"] * (len(after) != 1 or after[0].tags != before.tags)
                problems += complete(Life(folder)) + one_whole_run(folder / "mlflow.db", reference(())[0])
            else:
                problems = complete(life) + one_whole_run(folder / "mlflow.db")
                counting = next(row for row in rows(folder / "mlflow.db") if row.counts)
                same = counting.run_id == before.run_id
                noted = "another" in counting.tags.get("lenet.changed_code", "")
                problems += [f"{way}: same run {same}, noted {noted}"] * (
                    (same, noted) != (way == "continue", way == "continue")
                )
                problems += [f"{way}: began with epoch {life.epochs[0]}"] * (
                    (life.epochs[0] == 1) != (way == "restart")
                )
            tally.count(problems)
