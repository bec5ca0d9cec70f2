"""Single flipped bits and cuts in every file that is read back: refused by name, or the generation before is used."""

from __future__ import annotations

import gzip
import os
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.conftest import find_mnist
from tests.faults.harness import Life, Tally, complete, fault, fresh, one_whole_run, reference, rows
from tests.faults.kills import wait_for


def hurt(path: Path, draw: random.Random) -> tuple[str, Callable[[], None]]:
    """Flip one bit of a file, or cut it; what was done, and how to undo it."""
    size = path.stat().st_size
    if draw.random() < 0.8:
        place, bit = draw.randrange(size), draw.randrange(8)
        flip(path, place, bit)
        return f"bit {bit} of byte {place}", lambda: flip(path, place, bit)
    whole, left = path.read_bytes(), draw.choice((0, size - 1, draw.randrange(size)))
    os.truncate(path, left)
    return f"cut to {left} bytes", lambda: _rewrite(path, whole)


def _rewrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def flip(path: Path, place: int, bit: int) -> None:
    """One bit, in place."""
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ (1 << bit)]))


def refuses(act: Callable[[], object], error: type[Exception], names: str) -> list[str]:
    """Problems, unless `act` raises this error in one line that names the file."""
    try:
        act()
    except error as raised:
        line = str(raised)
        return [] if names in line and "\n" not in line else [f"refused in {line!r}"]
    return ["not noticed"]


@fault("damage: checkpoints", "100% detected, the generation before is used", 15, 400)
def checkpoints(tally: Tally, rounds: int, draw: random.Random) -> None:
    """Flips and cuts in the newest checkpoint or in its digest."""
    from lenet_lab.engines.checkpoints import DamagedCheckpoint, VerifiedCheckpointIO, digest_path, newest_valid

    with fresh() as folder:
        life = Life(folder, pause=0.5)
        life.until("epoch", times=4)
        life.kill()
        life.end()
        (store,) = (folder / "mlflow.lab" / "checkpoints").iterdir()
        older, newest = sorted(store.glob("epoch-*.ckpt"))
        for index in range(rounds):
            what, mend = hurt(newest if index % 3 else digest_path(newest), draw)
            problems = refuses(lambda: VerifiedCheckpointIO().load_checkpoint(newest), DamagedCheckpoint, newest.name)
            problems += ["the generation before is not used"] * (newest_valid(store) != older)
            mend()
            tally.count([f"{what}: {problem}" for problem in problems], lost=len(problems))
        assert newest_valid(store) == newest
        hurt(newest, draw)
        tally.count(complete(Life(folder)) + one_whole_run(folder / "mlflow.db", reference(())[0]))


@fault("damage: data files", "100% detected, or what is read is the same to the bit", 15, 400)
def data(tally: Tally, rounds: int, draw: random.Random) -> None:
    """MNIST's files, plain and packed; needs them in LENET_LAB_DATA or in ../shared/data."""
    from lenet_lab.data.sources import SOURCES
    from lenet_lab.records import LabError

    root, source = find_mnist(), SOURCES["mnist"]
    if root is None:
        tally.add("no MNIST here, nothing tried", 0)
        tally.count([])
        return
    names = ("t10k-labels-idx1-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "train-images-idx3-ubyte")
    with fresh(stocked=False) as folder:
        plain, packed = folder / "plain", folder / "packed"
        plain.mkdir()
        packed.mkdir()
        for name in names:
            shutil.copyfile(root / "MNIST" / "raw" / name, plain / name)
            (packed / f"{name}.gz").write_bytes(gzip.compress((plain / name).read_bytes(), 1))
        for index in range(rounds):
            name = names[index % 2 if index % 10 else 2 + index // 10 % 2]  # the large ones take longer
            raw = draw.choice((plain, packed))
            right = (root / "MNIST" / "raw" / name).read_bytes()
            what, mend = hurt(raw / (name if raw is plain else f"{name}.gz"), draw)
            problems = refuses(lambda raw=raw, name=name: source.content(raw, name), LabError, name)  # type: ignore[attr-defined]
            if problems == ["not noticed"] and raw is packed and source.content(raw, name) == right:  # type: ignore[attr-defined]
                tally.add("in a field of the gzip header that changes nothing")
                problems = []
            mend()
            tally.count([f"{name}: {what}: {problem}" for problem in problems], lost=len(problems))


@fault("damage: artifacts", "100% detected", 10, 300)
def artifacts(tally: Tally, rounds: int, draw: random.Random) -> None:
    """What a run left, its network among it, and the list of cells that a sweep left, when they are read back."""
    from lenet_lab.records import LabError
    from lenet_lab.tracking import open_store
    from lenet_lab.tracking.artifacts import read_artifact
    from lenet_lab.tracking.parents import open_parent

    with fresh() as folder:
        tally.count(complete(Life(folder, ("tracking.artifacts=full",))))
        (row,) = rows(folder / "mlflow.db")
        store = open_store(f"sqlite:///{folder}/mlflow.db", create=False)
        parent = open_parent(store, "ab" * 32, "a sweep", [{"key": "k", "arm": "a", "name": "n", "overrides": []}])
        roots = {row.run_id: row.artifacts, parent: row.artifacts.parents[1] / parent / "artifacts"}
        files = [(run, path) for run, root in roots.items() for path in sorted(root.rglob("*")) if path.is_file()]
        assert any(path.name == "cells.json" for _, path in files)
        assert any(path.suffix == ".pt2" for _, path in files)
        for index in range(rounds):
            run, path = files[index % len(files)]
            name = path.relative_to(roots[run]).as_posix()
            what, mend = hurt(path, draw)
            problems = refuses(lambda run=run, name=name: read_artifact(store, run, name), LabError, name)
            mend()
            assert read_artifact(store, run, name) == path.read_bytes()
            tally.count([f"{name}: {what}: {problem}" for problem in problems], lost=len(problems))


@fault("damage: spools", "100% detected or sent again; nothing is delivered that was not written", 10, 300)
def spools(tally: Tally, rounds: int, draw: random.Random) -> None:
    """What a run that was killed while its store was locked had still to deliver; two runs are gone on with."""
    import sqlite3

    from lenet_lab.tracking.spool import DamagedSpool, acknowledged, events, points

    with fresh() as folder:
        life = Life(folder, pause=0.4)
        life.until("epoch", times=1)
        (path,) = (folder / "mlflow.lab" / "spool").glob("*.jsonl")
        wait_for(lambda: acknowledged(path) > 0)
        with closing(sqlite3.connect(folder / "mlflow.db", timeout=60, isolation_level=None)) as base:
            base.execute("BEGIN EXCLUSIVE")
            life.until("epoch", times=5)
            life.kill()
            life.end()
            base.execute("ROLLBACK")
        upto, written = acknowledged(path), [event for event, _ in events(path, 0)]
        assert 0 < upto < path.stat().st_size
        pending = [event for event, _ in events(path, upto)]
        for index in range(rounds):
            victim = path if index % 4 else path.with_suffix(".ack")
            what, mend = hurt(victim, draw)
            try:
                points(path)
                found = [event for event, _ in events(path, acknowledged(path))]
                behind = pending if acknowledged(path) == upto else written
                # what stands at the end without its end of line is what a crash leaves: said again by the next life
                problems = ["something else would be delivered"] * (found != behind[: len(found)])
            except DamagedSpool as refusal:
                problems = ["refused without its name"] * (path.name not in str(refusal))
            mend()
            tally.count([f"{victim.name}: {what}: {problem}" for problem in problems], lost=len(problems))
        for last in (False, True):
            flip(path, path.stat().st_size // 2, 0)
            again = Life(folder, pause=0.3)
            if last:
                tally.count(complete(again) + one_whole_run(folder / "mlflow.db", reference(())[0]))
            else:
                again.until("epoch", times=1)
                again.kill()
                again.end()


@fault("damage: exports", "100% detected, before anything is written", 10, 300)
def exports(tally: Tally, rounds: int, draw: random.Random) -> None:
    """A file of runs with their artifacts, read for a report or imported."""
    from lenet_lab.records import LabError
    from lenet_lab.tracking import open_store
    from lenet_lab.tracking.exports import read_export, write_export
    from lenet_lab.tracking.imports import import_runs

    with fresh() as folder:
        for seed in (0, 1):
            tally.count(complete(Life(folder, (f"seed={seed}",))))
        path = folder / "runs.zip"
        write_export(open_store(f"sqlite:///{folder}/mlflow.db", create=False), path, artifacts="all")
        for index in range(rounds):
            what, mend = hurt(path, draw)
            if index % 10:
                problems = refuses(lambda: read_export(path), LabError, path.name)
            else:
                other = folder / "other.db"
                problems = refuses(lambda other=other: import_runs(path, f"sqlite:///{other}"), LabError, path.name)
                problems += ["a store was made"] * other.exists()
            mend()
            tally.count([f"{what}: {problem}" for problem in problems], lost=len(problems))
        assert len(read_export(path).records) == 2
