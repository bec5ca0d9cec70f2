"""A store that is locked, absent, read-only or full; folders that cannot be written."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.faults.harness import (
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
    stock,
    whole,
)

LOCK_S = 24.0


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another connection holds the database for itself."""
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as base:
        base.execute("BEGIN EXCLUSIVE")
        yield
        base.execute("ROLLBACK")


@fault("SQLite locked for 24 s mid-run", "no call of training delayed by more than 1 s, 0 lost, 0 doubled", 0.05, 5)
def locked_store(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Training goes on beside the lock; what it finds arrives afterwards."""
    words = ("epochs=40",)
    print_ = reference(words)[0]
    for _ in range(rounds):
        with fresh() as folder:
            life = Life(folder, words, pause=0.8, hooks=[("timed",)])
            life.until("epoch", times=draw.randrange(2, 6))
            before = len(life.times("epoch"))
            with locked(folder / "mlflow.db"):
                time.sleep(LOCK_S)
                life.listen()
                during = len(life.times("epoch")) - before
            problems = complete(life)
            worst = max(entry[2] for entry in life.said if entry[0] == "call")
            tally.most("most epochs trained meanwhile", during)
            problems += [f"a call took {worst:.2f} s"] * (worst > 1.0) + ["training stood still"] * (during < 8)
            tally.count(problems + one_whole_run(folder / "mlflow.db", print_), seconds=worst)


@fault("SQLite locked at the end", "waits, and delivers", 0.05, 3)
def locked_end(tally: Tally, rounds: int, draw: random.Random) -> None:
    """The lock goes while the run waits to say that it is complete."""
    for _ in range(rounds):
        with fresh() as folder:
            life = Life(folder, pause=0.3)
            life.until("epoch", times=5)
            with locked(folder / "mlflow.db"):
                time.sleep(15)
                problems = ["ended before it was delivered"] * (not life.listen())
            problems += complete(life)
            tally.count(problems + one_whole_run(folder / "mlflow.db", reference(())[0]))


@fault("SQLite locked at the start", "said in one line within 15 s, before any training", 0.1, 5)
def locked_start(tally: Tally, rounds: int, draw: random.Random) -> None:
    """And once the lock is gone the same command trains."""
    for _ in range(rounds):
        with fresh() as folder:
            with locked(folder / "mlflow.db"):
                refused(tally, Life(folder), "locked")
            tally.count(complete(Life(folder)) + one_whole_run(folder / "mlflow.db"))


@fault("SQLite locked for a moment at the start", "waited for", 0.1, 5)
def locked_moment(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Somebody else's long transaction."""
    for _ in range(rounds):
        with fresh() as folder:
            with locked(folder / "mlflow.db"):
                life = Life(folder)
                life.until("begin")
                time.sleep(draw.uniform(1, 6))
            tally.count(complete(life) + one_whole_run(folder / "mlflow.db"))


@fault("store read-only, absent, or no store", "said in one line within 15 s, before any training")
def no_store(tally: Tally, rounds: int, draw: random.Random) -> None:
    """A database and a folder without the right to write, a folder that is not there, a server that is not, a text."""
    for kind in ("read-only database", "read-only folder", "no folder", "no server", "silent server", "no database"):
        with fresh(stocked=False) as folder:
            where, env, close = folder / "mlflow.db", {}, []
            if kind == "read-only database":
                complete(Life(folder, hooks=[("obey",)]))
                where.chmod(0o444)
            elif kind == "read-only folder":
                inner = folder / "inner"
                inner.mkdir(mode=0o555)
                env = {"MLFLOW_TRACKING_URI": f"sqlite:///{inner}/mlflow.db"}
            elif kind == "no folder":
                env = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/none/mlflow.db"}
            elif kind == "no database":
                where.write_text("my shopping list, long enough to be read as a header\n" * 100)
            else:
                close, port = port_of(silent=kind == "silent server")
                env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
            life = Life(folder, hooks=[("obey",)], env=env)
            refused(tally, life, kind)
            for one in close:
                one.close()


def refused(tally: Tally, life: Life, what: str) -> None:
    """Count a life that must refuse to begin: one line, soon, no epoch."""
    status = life.end()
    took = life.seconds()
    problems = [f"{what}: status {status}: {life.text()[-300:]}"] * (status != 2)
    problems += [f"{what}: refused in {life.refusal!r}"] * (not life.refusal or "\n" in life.refusal)
    problems += [f"{what}: {took:.1f} s to say so"] * (took > 15)
    problems += [f"{what}: trained"] * bool(life.epochs)
    tally.count(problems, seconds=took)


def port_of(silent: bool):  # type: ignore[no-untyped-def]
    """A port where nobody listens, or somebody who never answers; with what must be closed afterwards."""
    import socket

    probe = socket.socket()
    probe.bind(("127.0.0.1", 0))
    if silent:
        probe.listen(16)
        return [probe], probe.getsockname()[1]
    port = probe.getsockname()[1]
    probe.close()
    return [], port


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[bool]:
    """A tmpfs of so many MiB at a folder; False where this process may not mount one."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=777", "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=False)


@fault("disk full", "old checkpoint and store whole, clear error, status not 0, goes on once there is space", 0.4, 20)
def disk_full(tally: Tally, rounds: int, draw: random.Random) -> None:
    """A small tmpfs that somebody else fills at a random moment; a limit on file sizes where none can be mounted."""
    words = ("epochs=8", "data.train_size=200")
    print_ = reference(words)[0]
    for _ in range(rounds):
        with fresh(stocked=False) as outer, small_disk(outer, 24) as mounted:
            stock(outer)
            tally.add("on a tmpfs" if mounted else "by a size limit")
            limit = [] if mounted else [("file_size", draw.randrange(100_000, 900_000))]
            life = Life(outer, words, pause=0.3, hooks=limit)
            life.until("begin" if draw.random() < 0.3 else "epoch", times=1)
            time.sleep(draw.uniform(0.0, 1.5))
            filler = outer / "filler"
            if mounted:
                fill(filler, leave=draw.choice((0, 0, 4096, 40_000)))
            status = life.end(200)
            ended = [row for row in rows(outer / "mlflow.db") if row.counts]
            said = life.outcome.get("error") or life.refusal or ""
            problems = []
            if not ended:
                problems += ["status 0"] * (status == 0) + [f"died of {status}"] * (status < 0)
                problems += [f"no clear error: {said!r} {life.text()[-300:]}"] * (not said or "\n" in said)
            problems += ["the store is damaged"] * (not whole(outer / "mlflow.db"))
            lost = missing(acknowledged(outer), outer / "mlflow.db")
            filler.unlink(missing_ok=True)
            last = life.epochs[-1] if life.epochs else 0
            again = Life(outer, words)
            problems += complete(again)
            first = again.epochs[0] if again.epochs else last + 1
            problems += [f"resumed at epoch {first} after epoch {last} of the full disk"] * (first < last - 1)
            tally.count(problems + one_whole_run(outer / "mlflow.db", print_), lost, life.seconds())


def fill(path: Path, leave: int) -> None:
    """Take what space there is, but for so many bytes."""
    with path.open("wb", buffering=0) as file:
        space = os.statvfs(path.parent)
        room = space.f_bavail * space.f_frsize - leave
        try:
            while room > 0:
                room -= file.write(b"\0" * min(room, 1 << 16))
        except OSError:
            return


@fault("folders that cannot be written", "said in one line, status not 0, nothing half done", 0.1, 1)
def no_right(tally: Tally, rounds: int, draw: random.Random) -> None:
    """`multirun`, the folder of the checkpoints, the artifacts' folder."""
    for name in ("mlflow.lab/checkpoints", "mlflow.lab/spool", "mlflow.lab/locks", "mlartifacts"):
        with fresh(stocked=False) as folder:
            problems = complete(Life(folder, hooks=[("obey",)]))
            (folder / name).chmod(0o555)
            life = Life(folder, ("seed=1",), hooks=[("obey",)])
            status = life.end()
            said = life.refusal or life.outcome.get("error") or ""
            kept = life.outcome.get("delivered") is False
            problems += [f"{name}: status {status} {life.outcome}"] * (status == 0 and not kept)
            if not kept and (not said or "\n" in said):
                problems.append(f"{name}: no clear line: {said!r} {life.text()[-300:]}")
            (folder / name).chmod(0o755)
            problems += complete(Life(folder, ("seed=1",), hooks=[("obey",)]))
            counting = [row for row in rows(folder / "mlflow.db") if row.counts]
            tally.count(problems + [f"{name}: {len(counting)} runs count"] * (len(counting) != 2))
    with fresh() as folder:
        (folder / "multirun").write_text("a file where the folder should be")
        status, out = finish(command(folder, "-m", "data=digits", "seed=0,1", "epochs=1"))
        problems = [f"multirun: status {status}: {out[-500:]}"] * (status in (0, -9))
        problems += [f"multirun: a traceback is shown: {out[-800:]}"] * ("Traceback" in out)
        tally.count(problems)


@fault("TMPDIR full, read-only, or missing", "not needed, or said so in one line; nothing half done", 0.1, 1)
def no_room(tally: Tally, rounds: int, draw: random.Random) -> None:
    """On another file system, which has no room, or none at all; all artifacts are written."""
    for kind in ("full", "small", "read-only", "missing"):
        with fresh() as folder:
            other = folder / "tmp"
            other.mkdir()
            with small_disk(other, 1) as mounted:
                if kind == "full" and mounted:
                    fill(other / "filler", leave=0)
                elif kind == "read-only":
                    other.chmod(0o555)
                elif kind == "missing" and not mounted:
                    other.rmdir()
                env = {"TMPDIR": str(other / "none" if kind == "missing" else other)}
                life = Life(folder, ("epochs=2", "tracking.artifacts=full"), hooks=[("obey",)], env=env)
                status = life.end()
                said = life.refusal or life.outcome.get("error") or ""
                counting = [row for row in rows(folder / "mlflow.db") if row.counts]
                problems = [f"{kind}: no clear line: {said!r} {life.text()[-300:]}"] * (
                    status != 0 and (not said or "\n" in said)
                )
                problems += [f"{kind}: status 0, and it does not count"] * (status == 0 and len(counting) != 1)
                problems += [f"{kind}: a failed run counts"] * (status != 0 and bool(counting))
                tally.add("trained to its end", status == 0)
            other.chmod(0o755)
            problems += complete(Life(folder, ("epochs=2", "tracking.artifacts=full")))
            tally.count(problems + one_whole_run(folder / "mlflow.db"))
