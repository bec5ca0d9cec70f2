"""An MLflow server that goes away and comes back, and two machines that share one."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.faults.harness import (
    Life,
    Row,
    Tally,
    acknowledged,
    complete,
    doubled,
    fault,
    fresh,
    gaps,
    missing,
    rows,
)

OUTAGE_S = 60.0
LEASE_S = 6.0


class Server:
    """`mlflow server` on a port of its own, with a database of its own, that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        self.database = folder / "server.db"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{self.database}"]
        artifacts = ["--artifacts-destination", str(self.folder / "artifacts")]
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words, *store, *artifacts],
            cwd=self.folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # tracking needs no job runners
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + 300
        while time.monotonic() < end:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.3)
        raise TimeoutError("the server does not start")

    def kill(self) -> None:
        """kill -9, with its workers."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def rows(self) -> list[Row]:
        """Its runs."""
        return rows(self.database)


def machine(server: Server, name: str, words: tuple[str, ...] = (), **how):  # type: ignore[no-untyped-def]
    """A life on a machine of its own: locks, spools and checkpoints in a folder that no other machine sees."""
    home = server.folder / name
    home.mkdir(exist_ok=True)
    env = {"MLFLOW_TRACKING_URI": server.uri, "XDG_CACHE_HOME": str(home)}
    return Life(home, words, env=env, **how)


def state_of(folder: Path) -> str:
    """Where a machine keeps its spools, from its folder."""
    return next(str(path.relative_to(folder)) for path in folder.glob("lenet_lab/state/*"))


def acked(server: Server, name: str) -> int:
    """Acknowledged points of a machine that the server does not hold."""
    home = server.folder / name
    return missing(acknowledged(home, state_of(home)), server.database)


def one_counts(server: Server) -> list[str]:
    """Problems, unless exactly one run counts, whole."""
    counting = [row for row in server.rows() if row.counts]
    if len(counting) != 1:
        return [f"{len(counting)} runs count: {[(row.state, row.status) for row in server.rows()]}"]
    return doubled(counting[0]) + gaps(counting[0])


@fault("server killed for 60 s mid-run", "no call of training delayed by more than 1 s, 0 lost, 0 doubled", 0.05, 3)
def outage(tally: Tally, rounds: int, draw: random.Random) -> None:
    """kill -9 of the server while it is written to; started again on the same port a minute later."""
    for _ in range(rounds):
        with fresh(stocked=False) as folder, Server(folder) as server:
            life = machine(server, "one", ("epochs=60",), pause=1.2, hooks=[("timed",)])
            life.until("epoch", times=draw.randrange(3, 8))
            before = len(life.times("epoch"))
            server.kill()
            time.sleep(OUTAGE_S)
            life.listen()
            during = len(life.times("epoch")) - before
            server.start()
            problems = complete(life)
            worst = max(entry[2] for entry in life.said if entry[0] == "call")
            tally.most("most epochs trained meanwhile", during)
            problems += [f"a call took {worst:.2f} s"] * (worst > 1.0) + ["training stood still"] * (during < 15)
            tally.count(problems + one_counts(server), seconds=worst)


@fault("server absent at the end", "kept, said, and delivered at the next launch; nothing is trained again", 0.05, 3)
def absent_end(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Then another cell is launched: the first one's end arrives, too."""
    for _ in range(rounds):
        with fresh(stocked=False) as folder, Server(folder) as server:
            life = machine(server, "one", ("epochs=6",), pause=0.3)
            life.until("epoch", times=2)
            server.kill()
            status = life.end()
            problems = [f"status {status}, {life.outcome}"] * (life.outcome.get("delivered") is not False)
            server.start()
            problems += ["it counts already"] * any(row.counts for row in server.rows())
            problems += complete(machine(server, "one", ("seed=1", "epochs=1")))
            counting = sum(row.counts for row in server.rows())
            problems += [f"{counting} runs count after the next launch"] * (counting != 2)
            again = machine(server, "one", ("epochs=6",))
            problems += complete(again) + ["trained again"] * bool(again.epochs)
            first = next((row for row in server.rows() if row.counts and ("train/loss", 6) in row.points), None)
            problems += ["its points are not there"] if first is None else doubled(first) + gaps(first)
            tally.count(problems, acked(server, "one"), life.seconds())


@fault("suspended, taken over by another machine", "the old one stops at its next write, one run counts", 0.2, 10)
def taken_over(tally: Tally, rounds: int, draw: random.Random) -> None:
    """SIGSTOP for longer than the lease, or a machine that cannot reach the server; the lease is shortened."""
    with fresh(stocked=False) as folder, Server(folder) as server:
        for index in range(rounds):
            words = (f"seed={index}", "epochs=8")
            hooks = [("lease", LEASE_S)]
            old = machine(server, "old", words, pause=0.4, hooks=hooks)
            old.until("epoch", times=draw.randrange(1, 7))
            old.kill(signal.SIGSTOP)
            new = machine(server, "new", words, pause=0.4, hooks=hooks)
            new.until("epoch", times=draw.randrange(1, 7))
            old.kill(signal.SIGCONT)
            problems = complete(new)
            status = old.end()
            problems += [f"the old one: status {status}, {old.outcome}"] * (old.outcome.get("state") != "busy")
            key = old.said[0][2]
            mine = [row for row in server.rows() if row.tags["lenet.key"] == key]
            counting = [row for row in mine if row.counts]
            problems += [f"{len(counting)} of {len(mine)} runs count"] * (len(counting) != 1)
            problems += [word for row in counting for word in doubled(row) + gaps(row)]
            tally.count(problems, acked(server, "new"))


@fault("two machines begin one cell at once", "exactly one run counts", 0.4, 20)
def two_machines(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Neither sees the other's locks."""
    with fresh(stocked=False) as folder, Server(folder) as server:
        for index in range(rounds):
            words = (f"seed={index}", "epochs=4")
            lives = [machine(server, name, words, pause=0.1, hooks=[("lease", LEASE_S)]) for name in ("a", "b")]
            ends = [life.end() for life in lives]
            states = sorted(str(life.outcome.get("state")) or life.refusal for life in lives)
            key = lives[0].said[0][2]
            mine = [row for row in server.rows() if row.tags["lenet.key"] == key]
            counting = [row for row in mine if row.counts]
            problems = [f"{len(counting)} of {len(mine)} runs count; {states} {ends}"] * (len(counting) != 1)
            tally.count(problems + [word for row in counting for word in doubled(row) + gaps(row)])


@fault("clock jumps by a day", "whichever way and whenever, exactly one run counts, one value a step", 0.4, 20)
def clock(tally: Tally, rounds: int, draw: random.Random) -> None:
    """During a run, before a claim by another machine while the first still trains, and before one after its death."""
    with fresh(stocked=False) as folder, Server(folder) as server:
        for index in range(rounds):
            words, day = (f"seed={index}", "epochs=6"), draw.choice((-86400.0, 86400.0))
            during = [("lease", LEASE_S), ("clock", day, draw.uniform(0.5, 2.0))]
            before = [("lease", LEASE_S), ("clock", day, 0.0)]
            first = machine(server, "one", words, pause=0.8, hooks=[("lease", LEASE_S)] if index % 3 == 1 else during)
            problems = []
            if index % 3 == 1:
                first.until("epoch")
                second = machine(server, "two", words, hooks=before)
                second.end()
                problems += [f"the second was {second.outcome}"] * (second.outcome.get("state") not in ("busy", "done"))
            elif index % 3 == 2:
                first.until("epoch", times=2)
                first.kill()
                first.end()
                problems += complete(machine(server, draw.choice(("one", "two")), words, hooks=before))
                first = machine(server, "one", words)
            problems += complete(first)
            mine = [row for row in server.rows() if row.tags["lenet.key"] == first.said[0][2]]
            counting = [row for row in mine if row.counts]
            problems += [f"{len(counting)} of {len(mine)} runs count"] * (len(counting) != 1)
            tally.count(problems + [word for row in counting for word in doubled(row) + gaps(row)])
