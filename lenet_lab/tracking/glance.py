"""A look at a store that changes nothing: no lock, no folder, no byte. SQLite is read directly, without MLflow."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from lenet_lab.tracking.claims import search
from lenet_lab.tracking.locks import alive
from lenet_lab.tracking.read import state_of
from lenet_lab.tracking.spool import DamagedSpool, acknowledged, events, points
from lenet_lab.tracking.store import EXPERIMENT, Store

Tags = Mapping[str, str]


@contextlib.contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can only read; where nobody has the database open, not even SQLite's own side files appear."""
    idle = not file.with_name(file.name + "-wal").exists()
    address = f"file:{quote(str(file))}?{'immutable=1' if idle else 'mode=ro'}"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=2)) as connection:
        yield connection


def integrity(connection: sqlite3.Connection, patience: float = 5.0) -> str:
    """SQLite's own verdict, "ok" or the first damage; "" where it takes longer than `patience` seconds."""
    end = time.monotonic() + patience
    connection.set_progress_handler(lambda: int(time.monotonic() > end), 100_000)
    try:
        rows = connection.execute("PRAGMA integrity_check(3)").fetchall()
        return "; ".join(" ".join(str(row[0]).split()) for row in rows)
    except sqlite3.OperationalError as error:
        if str(error) == "interrupted":
            return ""
        raise
    finally:
        connection.set_progress_handler(None, 0)


def is_wal(file: Path) -> bool:
    """Whether readers and a writer can work at once: the header says so, which a connection that only reads may not."""
    with file.open("rb") as content:
        return content.read(20)[18:] == b"\2\2"


def schema(connection: sqlite3.Connection) -> str | None:
    """The version of MLflow's tables; None where there are none."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def schemas_known() -> tuple[set[str], str | None]:
    """The versions of its tables that the installed MLflow knows, and the one that it wants."""
    spec = find_spec("mlflow")
    known: set[str] = set()
    before: set[str] = set()
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for path in (Path(root) / "store" / "db_migrations" / "versions").glob("*.py"):
            text = path.read_text(encoding="utf-8", errors="replace")
            for name, into in (("revision", known), ("down_revision", before)):
                line = re.search(rf"^{name}\b[^=\n]*=(.*)$", text, re.MULTILINE)
                into.update(re.findall(r"[\"'](\w+)[\"']", line[1]) if line else ())
    heads = known - before
    return known, heads.pop() if len(heads) == 1 else None


def artifact_location(connection: sqlite3.Connection) -> str | None:
    """Where the experiment keeps artifacts; None where there is no experiment."""
    found = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (EXPERIMENT,)).fetchone()
    return None if found is None else str(found[0])


def running(connection: sqlite3.Connection) -> dict[str, Tags]:
    """The runs that say that they are running, each with its tags."""
    rows = connection.execute(
        "SELECT t.run_uuid, t.key, t.value FROM tags t JOIN tags s ON s.run_uuid = t.run_uuid "
        "JOIN runs r ON r.run_uuid = t.run_uuid "
        "WHERE s.key = 'lenet.state' AND s.value = 'running' AND r.lifecycle_stage = 'active' "
        "AND t.key LIKE 'lenet.%'"
    )
    found: dict[str, dict[str, str]] = {}
    for run_id, key, value in rows:
        found.setdefault(run_id, {})[key] = value
    return {run_id: tags for run_id, tags in found.items() if "lenet.key" in tags}


def running_there(store: Store) -> dict[str, Tags]:
    """The same of a server."""
    found = search(store, "tags.`lenet.state` = 'running'")
    return {run.info.run_id: dict(run.data.tags) for run in found if "lenet.key" in run.data.tags}


def unopened(uri: str, state: Path, experiment_id: str = "") -> Store:
    """A store to ask questions of: opening one properly makes what is missing, this does not."""
    store = Store(uri, state, experiment_id)
    with contextlib.suppress(OSError):
        vars(store)["domain"] = (state / "domain").read_text()
    vars(store).setdefault("domain", "no locks here")
    return store


def dead(store: Store, runs: Mapping[str, Tags]) -> list[str]:
    """Those of the running runs whose process is gone."""
    return sorted(run_id for run_id, tags in runs.items() if state_of(store, tags) == "dead")


def undelivered(state: Path) -> list[str]:
    """The runs whose spool holds what the store has not."""
    return sorted(path.stem for path in (state / "spool").glob("*.jsonl") if behind(path))


def behind(spool: Path) -> bool:
    """Whether a spool holds a whole event that the store has not acknowledged, or may hold one, since it is damaged."""
    try:
        return next(events(spool, acknowledged(spool)), None) is not None
    except DamagedSpool:
        return True


def damaged_spools(state: Path) -> list[str]:
    """What is wrong with each spool that is not what was written."""
    found = []
    for path in sorted((state / "spool").glob("*.jsonl")):
        try:
            points(path)
        except DamagedSpool as damage:
            if path.exists():  # or its run has ended meanwhile
                found.append(str(damage))
    return found


def checkpoints(store: Store) -> tuple[int, list[Path]]:
    """How many checkpoints there are of runs that nobody trains now, and those whose digest does not hold."""
    count, damaged = 0, []
    for path in sorted((store.state / "checkpoints").glob("*/epoch-*.ckpt")):
        if alive(store, path.parent.name):
            continue
        count += 1
        try:
            stated = path.with_name(path.name + ".sha256").read_text().strip()
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != stated:
                    damaged.append(path)
        except (OSError, UnicodeDecodeError):
            damaged.append(path)
    return count, damaged


def experiment_there(uri: str) -> str | None:
    """The id of the experiment on a server; None where there is none."""
    found = Store(uri, Path(), "").client.get_experiment_by_name(EXPERIMENT)
    return None if found is None else str(found.experiment_id)
