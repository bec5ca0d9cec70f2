"""What the faults share: a table of them, lives of runs that can be killed, and a reading of the store by SQL alone.

A life is one process that does what `python -m lenet_lab` does for one cell, forked from a server that has paid the
imports, so that it can be killed at any moment of its second or two.
"""

from __future__ import annotations

import atexit
import dataclasses
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
CELL = ("data=digits", "data.train_size=300", "epochs=6", "tracking.artifacts=minimal", "trainer=cpu")
# what a resumption must carry on with: dropout, a schedule, running statistics, early stopping, another optimizer
VARIANTS = (
    (),
    ("dropout=fc", "schedule=cosine"),
    ("norm=bn", "early_stopping=2"),
    ("optimizer=momentum", "lr=0.05", "schedule=one_cycle", "pool=max"),
    ("norm=gn", "dropout=conv", "optimizer=adamw", "weight_decay=l2", "checkpoint=last"),
)
TIMES = {"time/epoch_s", "time/train_s", "time/total_s", "images_per_s"}


# the table


@dataclasses.dataclass
class Tally:
    """What became of a fault's rounds."""

    name: str
    bar: str
    rounds: int = 0
    survived: int = 0
    lost: int = 0
    worst: float | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    facts: dict[str, float] = dataclasses.field(default_factory=dict)

    def count(self, problems: Sequence[str], lost: int = 0, seconds: float | None = None, n: int = 1) -> None:
        """One round (or `n` of them): survived when there are no problems and nothing was lost."""
        self.rounds += n
        self.lost += lost
        if problems or lost:
            self.notes.extend(problems)
        else:
            self.survived += n
        if seconds is not None:
            self.worst = max(self.worst or 0.0, seconds)

    def most(self, fact: str, value: float) -> None:
        """Keep the largest value of a fact worth telling."""
        self.facts[fact] = max(value, self.facts.get(fact, value))

    def add(self, fact: str, value: float = 1) -> None:
        """Add to a fact worth telling."""
        self.facts[fact] = self.facts.get(fact, 0) + value

    @property
    def ok(self) -> bool:
        """Whether every round survived."""
        return self.rounds > 0 and self.survived == self.rounds and self.lost == 0


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault: its name, what must hold, and what injects it `rounds` times."""

    name: str
    bar: str
    act: Callable[[Tally, int, random.Random], None]
    share: float
    most: int

    def rounds(self, asked: int) -> int:
        """How many rounds this fault does when so many are asked for."""
        return max(1, min(self.most, round(asked * self.share)))


FAULTS: list[Fault] = []


def fault(name: str, bar: str, share: float = 1.0, most: int = 10_000) -> Callable[[Any], Any]:
    """Enter a function `act(tally, rounds, draw)` into the table."""

    def enter(act: Any) -> Any:
        FAULTS.append(Fault(name, bar, act, share, most))
        return act

    return enter


# folders


_template: Path | None = None


@contextmanager
def fresh(stocked: bool = True) -> Iterator[Path]:
    """A folder of one's own, as short-lived as its round; with an empty store in it, which takes seconds to make."""
    folder = Path(tempfile.mkdtemp(prefix="lenet_lab-fault-"))
    try:
        if stocked:
            stock(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stock(folder: Path) -> None:
    """A copy of an empty store, at home in this folder."""
    global _template
    if _template is None:
        from lenet_lab.tracking import open_store

        _template = Path(tempfile.mkdtemp(prefix="lenet_lab-fault-"))
        atexit.register(shutil.rmtree, _template, ignore_errors=True)
        open_store(f"sqlite:///{_template}/mlflow.db")
    shutil.copytree(_template, folder, dirs_exist_ok=True)
    with closing(sqlite3.connect(folder / "mlflow.db")) as base, base:
        where = "UPDATE experiments SET artifact_location = ? WHERE name = 'lenet_lab'"
        base.execute(where, ((folder / "mlartifacts").as_uri(),))


# lives


class Life:
    """One process that trains one cell in a folder; what it sends is in `said`, its last line in `text()`."""

    def __init__(
        self,
        folder: Path,
        words: Sequence[str] = (),
        *,
        cell: Sequence[str] = CELL,
        env: Mapping[str, str] | None = None,
        hooks: Sequence[tuple[Any, ...]] = (),
        pause: float = 0.0,
    ) -> None:
        """`hooks` are (function of `tests.faults.hooks`, arguments) called in the process first; `pause` is slept
        after every epoch."""
        self.folder, self.log = folder, folder / f"life-{time.monotonic_ns()}.log"
        self.again = lambda: Life(folder, words, cell=cell, env=env)
        self.said: list[tuple[Any, ...]] = []
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["lenet_lab.sweeps.preload", "tests.faults.hooks"])
        self._pipe, far = context.Pipe(duplex=False)
        order = (str(folder), [*cell, *words], dict(env or {}), list(hooks), pause, str(self.log))
        self.process = context.Process(target=live, args=(order, far))
        self.started = time.monotonic()
        self.process.start()
        far.close()

    def listen(self, seconds: float = 0.0) -> bool:
        """Take in what there is, waiting so long for the first word; False when the process has ended."""
        with suppress(EOFError, OSError):
            while self._pipe.poll(seconds):
                self.said.append(self._pipe.recv())
                seconds = 0.0
            return True
        return False

    def until(self, word: str, timeout: float = 120.0, times: int = 1) -> bool:
        """Wait until it has said a word so often; False when it ended first.

        Raises:
            TimeoutError: neither.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            going = self.listen(0.2)
            if len(self.times(word)) >= times:
                return True
            if not going:
                return False
        raise TimeoutError(f"no {word!r} within {timeout:g} s: {self.text()}")

    def times(self, word: str) -> list[float]:
        """When it said a word, by the monotonic clock."""
        return [entry[1] for entry in self.said if entry[0] == word]

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)  # type: ignore[arg-type]

    def end(self, timeout: float = 180.0) -> int:
        """Wait for its end; its exit status.

        Raises:
            TimeoutError: it does not end; it is killed then.
        """
        limit = time.monotonic() + timeout
        while self.listen(0.1) and time.monotonic() < limit:
            pass
        self.process.join(max(0.1, limit - time.monotonic()))
        if self.process.exitcode is None:
            self.kill()
            raise TimeoutError(f"did not end within {timeout:g} s: {self.text()}")
        self.ended = time.monotonic()
        return self.process.exitcode

    @property
    def outcome(self) -> dict[str, Any]:
        """How the run ended, in the words of `lenet_lab.outcome`; empty when it could not say."""
        return next((entry[2] for entry in self.said if entry[0] == "end"), {})

    @property
    def epochs(self) -> list[int]:
        """The epochs that it trained to their end."""
        return [entry[2] for entry in self.said if entry[0] == "epoch"]

    @property
    def refusal(self) -> str:
        """What it refused to do, in its one line."""
        return next((entry[2] for entry in self.said if entry[0] == "refused"), "")

    def seconds(self) -> float:
        """From the start of the run's work to its end, process start left out."""
        begun = self.times("begin")
        return self.ended - begun[0] if begun else 0.0

    def text(self) -> str:
        """What it printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def live(order: tuple[Any, ...], pipe: Any) -> None:
    """The life itself, in its own process."""
    folder, words, env, hooks, pause, log = order
    os.setsid()
    os.chdir(folder)
    os.environ.update({"XDG_CACHE_HOME": f"{folder}/.cache", "OMP_NUM_THREADS": "1", "LENET_LAB_THREADS": "1", **env})
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    from lenet_lab.cell import load, make_ready
    from lenet_lab.config.compose import compose_cell
    from lenet_lab.records import LabError
    from lenet_lab.run import Stopped, run
    from lenet_lab.sweeps.job import EXIT
    from lenet_lab.tracking import deliver_pending, open_store
    from tests.faults import hooks as table

    def say(word: str, *more: Any) -> None:
        pipe.send((word, time.monotonic(), *more))

    def watch(epoch: int, fraction: float, figures: Mapping[str, float]) -> None:
        if fraction == 0.0:
            say("epoch", epoch)
            time.sleep(pause)

    for name, *arguments in hooks:
        getattr(table, name)(say, *arguments)
    try:
        ready = make_ready(compose_cell(words))
        say("begin", ready.key)
        load(ready.config.data)
        deliver_pending(open_store(ready.config.tracking.uri))
        outcome = run(ready, watch)
    except Stopped as stop:
        sys.exit(128 + stop.number)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except LabError as error:
        say("refused", str(error))
        sys.exit(2)
    say("end", outcome.as_dict())
    sys.exit(EXIT[outcome.state])


def complete(life: Life, timeout: float = 180.0) -> list[str]:
    """Problems when a life does not end as it should; an end that came too late for the store takes a second launch."""
    try:
        status = life.end(timeout)
    except TimeoutError as error:
        return [str(error)[-300:]]
    state = life.outcome.get("state")
    if status == 0 and state in ("complete", "done"):
        return [] if life.outcome.get("delivered", True) else complete(life.again(), timeout)
    return [f"ended with {status}, {state} {life.outcome.get('error')} {life.refusal} {life.text()[-300:]}"]


def command(folder: Path, *words: str, hook: str | None = None, **env: str) -> subprocess.Popen[str]:
    """The command line as a user runs it, in a process group of its own; `hook` is code for a sitecustomize module."""
    path = [str(REPOSITORY)]
    if hook is not None:
        site = folder / ".site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(hook)
        path.insert(0, str(site))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "LENET_LAB_"))}
    clean |= {"XDG_CACHE_HOME": str(folder / ".cache"), "PYTHONPATH": ":".join(path), "COLUMNS": "200", **env}
    return subprocess.Popen(
        [sys.executable, "-m", "lenet_lab", *words],
        cwd=folder,
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 600.0) -> tuple[int, str]:
    """Its exit status and what it printed; a process that does not end is killed, with its group.

    Raises:
        TimeoutError: it did not end.
    """
    try:
        out, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_group(process)
        out, _ = process.communicate()
        raise TimeoutError(f"did not end within {timeout:g} s: {out[-500:]}") from None
    return process.returncode, out


def kill_group(process: subprocess.Popen[str]) -> None:
    """kill -9 of a command and everything that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


# the store, by SQL


@dataclasses.dataclass(frozen=True)
class Row:
    """One run as the database holds it."""

    run_id: str
    status: str
    end: int | None
    tags: Mapping[str, str]
    points: Mapping[tuple[str, int], tuple[float, ...]]
    artifacts: Path

    @property
    def state(self) -> str:
        """What is written as its state."""
        return self.tags.get("lenet.state", "")

    @property
    def counts(self) -> bool:
        """Complete or diverged, said so by its last owner."""
        ended = self.tags.get("lenet.ended_by")
        return self.state in ("complete", "diverged") and ended is not None and ended == self.tags.get("lenet.owner")


def rows(database: Path) -> list[Row]:
    """Every run of a cell in a database."""
    if not database.exists():
        return []
    found = []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as base:
        tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master")}
        if "metrics" not in tables:
            return []
        for run_id, status, end, uri in base.execute("SELECT run_uuid, status, end_time, artifact_uri FROM runs"):
            tags = dict(base.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run_id,)))
            if "lenet.key" not in tags:
                continue
            points: dict[tuple[str, int], tuple[float, ...]] = {}
            for key, step, value in base.execute("SELECT key, step, value FROM metrics WHERE run_uuid = ?", (run_id,)):
                points[key, step] = (*points.get((key, step), ()), value)
            found.append(Row(run_id, status, end, tags, points, Path(uri.removeprefix("file://"))))
    return found


def whole(database: Path) -> bool:
    """SQLite's own word on it."""
    with closing(sqlite3.connect(database, timeout=60)) as base:
        return base.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def acknowledged(folder: Path, state: str = "mlflow.lab") -> list[tuple[str, str, int, float]]:
    """(run, metric, step, value) of every point that a spool says the store has."""
    points = []
    for path in (folder / state / "spool").glob("*.jsonl"):
        with suppress(FileNotFoundError, ValueError):
            upto = int(path.with_suffix(".ack").read_text().split()[1])  # each line is its CRC-32 and its text
            for line in path.read_bytes()[:upto].splitlines():
                points += [(path.stem, p[0], p[3], p[1]) for p in json.loads(line[9:]).get("metrics", ())]
    return points


def missing(points: Sequence[tuple[str, str, int, float]], database: Path) -> int:
    """How many of these points the database does not hold."""
    held = {row.run_id: row.points for row in rows(database)}
    return sum(value not in held.get(run, {}).get((key, step), ()) for run, key, step, value in points)


def doubled(row: Row) -> list[str]:
    """Metrics of a run with more than one value of a step."""
    points = row.points.items()
    return [f"{key} has {len(values)} values at step {step}" for (key, step), values in points if len(values) > 1]


def gaps(row: Row, epochs: int | None = None) -> list[str]:
    """Epochs without a point; as many epochs as the run says unless told."""
    last = epochs or max((step for key, step in row.points if key == "epochs"), default=0)
    wanted = [(key, step) for key in ("train/loss", "val/loss", "lr") for step in range(1, last + 1)]
    return [
        f"{key} is missing at step {step}" for key, step in wanted or [("epochs", 0)] if (key, step) not in row.points
    ]


def print_of(row: Row) -> str:
    """A digest of what a run has found: its weights, its predictions, and its figures but for times."""
    digest = hashlib.sha256((row.artifacts / "weights.safetensors").read_bytes())
    with np.load(row.artifacts / "predictions.npz", allow_pickle=False) as arrays:
        for name in sorted(arrays.files):
            digest.update(name.encode() + arrays[name].tobytes())
    kept = sorted((key, step, values) for (key, step), values in row.points.items() if key not in TIMES)
    digest.update(repr(kept).encode())
    return digest.hexdigest()


def one_whole_run(database: Path, reference: str | None = None) -> list[str]:
    """Problems of a store that must hold exactly one run that counts, whole, and like the reference."""
    counting = [row for row in rows(database) if row.counts]
    if len(counting) != 1:
        return [f"{len(counting)} runs count"]
    problems = doubled(counting[0]) + gaps(counting[0])
    if reference is not None and print_of(counting[0]) != reference:
        problems.append("weights, predictions or figures differ from those of an uninterrupted run")
    return problems


_references: dict[tuple[str | float, ...], tuple[str, float]] = {}


def reference(words: Sequence[str], pause: float = 0.0) -> tuple[str, float]:
    """The print of an uninterrupted run of this cell, and the seconds that it took."""
    wanted = (*words, pause)
    if wanted not in _references:
        with fresh() as folder:
            life = Life(folder, words, pause=pause)
            problems = complete(life)
            assert not problems, problems
            _references[wanted] = print_of(rows(folder / "mlflow.db")[0]), life.seconds()
    return _references[wanted]


def seen(folder: Path, uri: str | None = None) -> list[str]:
    """The states of the runs as `read_runs` gives them."""
    from lenet_lab.tracking import open_store, read_runs

    return [record.state for record in read_runs(open_store(uri or f"sqlite:///{folder}/mlflow.db", create=False))]
