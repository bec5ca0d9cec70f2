"""The store: reached, whole, private, and what runs have left in it."""

from __future__ import annotations

import os
import shlex
import socket
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lenet_lab.commands.checks import Finding
from lenet_lab.provenance import redact_text
from lenet_lab.records import LabError
from lenet_lab.tracking import glance
from lenet_lab.tracking.store import EXPERIMENT, Store, database, locate, public, state_folder


def store(given: str | None) -> Iterator[Finding]:
    """Everything about the store in force."""
    try:
        uri = locate(given)
    except LabError as error:
        yield Finding("store", "problem", str(error), "choose another with --store or MLFLOW_TRACKING_URI")
        return
    file = database(uri)
    if file is None:
        yield from _server(uri)
    elif file.exists():
        yield from _sqlite(uri, file)
    elif file.parent.is_dir() and os.access(file.parent, os.W_OK | os.X_OK):
        yield Finding("store", "ok", f"{public(uri)}: none yet; the first run makes it")
    else:
        do = "make its folder, or choose another store with --store or MLFLOW_TRACKING_URI"
        yield Finding("store", "problem", f"{public(uri)}: none, and its folder is missing or cannot be written", do)


def _sqlite(uri: str, file: Path) -> Iterator[Finding]:
    missing = [str(path) for path in (file, file.parent) if not os.access(path, os.W_OK)]
    if not os.access(file, os.R_OK):
        yield Finding("store", "problem", f"{file}: cannot be read", f"chmod u+rw {shlex.quote(str(file))}")
        return
    if missing:
        do = f"chmod u+w {shlex.join(missing)}, or choose another store"
        yield Finding("store", "problem", f"cannot be written: {', '.join(missing)}", do)
    try:
        with glance.reading(file) as connection:
            verdict = glance.integrity(connection)
            if verdict not in ("ok", ""):
                raise sqlite3.DatabaseError(verdict)
            yield _whole(file, verdict)
            yield _journal(file)
            fits = _schema(uri, glance.schema(connection))
            yield fits
            if fits.level == "problem":
                return
            location, running = glance.artifact_location(connection), glance.running(connection)
    except sqlite3.OperationalError as error:
        yield Finding("store", "problem", f"{file}: {error}", "end the process that holds it: `fuser -v` names it")
        return
    except sqlite3.DatabaseError as error:
        do = "copy it aside, then `sqlite3 OLD .recover | sqlite3 NEW`, or put a backup in its place"
        yield Finding("store", "problem", f"{file}: damaged: {error}", do)
        return
    if location is None:
        yield Finding("experiment", "ok", f"{EXPERIMENT}: none yet; the first run makes it")
    else:
        yield Finding("experiment", "ok", f"{EXPERIMENT}, artifacts in {location}")
    state = state_folder(uri)
    yield from private([file, *_beside(file), _artifacts(location), state])
    yield from _left(glance.unopened(uri, state), running)


def _whole(file: Path, verdict: str) -> Finding:
    if verdict == "ok":
        return Finding("store", "ok", f"{file}: whole (integrity_check)")
    do = f"sqlite3 {shlex.quote(str(file))} 'PRAGMA integrity_check'"
    return Finding("store", "warning", f"{file}: too large to check in 5 seconds", do)


def _journal(file: Path) -> Finding:
    if glance.is_wal(file):
        return Finding("journal", "ok", "wal: readers and a writer work at once")
    code = f"import sqlite3; sqlite3.connect({str(file)!r}).execute('PRAGMA journal_mode=WAL')"
    do = f"when nothing runs: {shlex.join([sys.executable, '-c', code])}"
    return Finding("journal", "warning", "not wal: readers and writers wait for each other", do)


def _schema(uri: str, found: str | None) -> Finding:
    known, head = glance.schemas_known()
    if found == head and found is not None:
        return Finding("schema", "ok", f"{found}, the one this MLflow wants")
    if found is None:
        do = "choose another store, or remove the file if it holds nothing"
        return Finding("schema", "problem", "no tables of MLflow's in it", do)
    if found in known:
        do = f"copy the file aside, then {shlex.join([sys.executable, '-m', 'mlflow', 'db', 'upgrade', uri])}"
        return Finding("schema", "problem", f"{found}, made by an older MLflow; this one wants {head}", do)
    return Finding("schema", "problem", f"{found} is of a newer MLflow", "pip install --upgrade mlflow")


def private(paths: list[Path | None]) -> Iterator[Finding]:
    """Files and folders that are the user's alone; a folder that is shields what is in it."""
    wrong = 0
    for path in paths:
        if path is None or not path.exists() or path.stat().st_uid != os.geteuid():
            continue
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            wrong += 1
            level, who = ("problem", "written") if mode & 0o022 else ("warning", "read")
            found = f"{path} can be {who} by others ({mode:03o})"
            yield Finding("private", level, found, f"chmod go-rwx {shlex.quote(str(path))}")  # type: ignore[arg-type]
    if not wrong:
        yield Finding("private", "ok", "database, artifacts and state are the user's alone")


def _server(uri: str) -> Iterator[Finding]:
    parts, shown = urlsplit(uri), public(uri)
    ports = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
    address = (parts.hostname or "", parts.port or ports[parts.scheme])
    try:
        socket.create_connection(address, timeout=3).close()
    except OSError as error:
        why = error.strerror or str(error)
        do = "start it, or choose another store with --store or MLFLOW_TRACKING_URI"
        yield Finding("store", "problem", f"{shown}: nobody answers at {address[0]}:{address[1]}: {why}", do)
        return
    try:
        experiment = glance.experiment_there(uri)
    except Exception as error:  # whatever MLflow's client makes of an answer that is none of MLflow's
        why = redact_text(" ".join(str(error).split()))[:200]
        do = "look at the server's log, or choose another store with --store or MLFLOW_TRACKING_URI"
        yield Finding("store", "problem", f"{shown}: answers, but not as MLflow does: {why}", do)
        return
    yield Finding("store", "ok", f"{shown}: answers")
    if experiment is None:
        yield Finding("experiment", "ok", f"{EXPERIMENT}: none yet; the first run makes it")
        return
    yield Finding("experiment", "ok", EXPERIMENT)
    state = state_folder(uri)
    yield from private([state])
    there = glance.unopened(uri, state, experiment)
    yield from _left(there, glance.running_there(there))


def _left(there: Store, running: Mapping[str, glance.Tags]) -> Iterator[Finding]:
    """What runs have left: dead ones, words the store has not heard, checkpoints."""
    dead = glance.dead(there, running)
    if dead:
        do = "give the same command again to go on with them, or `python -m lenet_lab archive --state dead`"
        yield Finding("runs", "warning", f"{len(dead)} dead: {_some(dead)}", do)
    else:
        yield Finding("runs", "ok", f"{len(running)} running, none dead")
    silent = sorted(set(glance.undelivered(there.state)) - (set(running) - set(dead)))
    damage = glance.damaged_spools(there.state)
    for found in damage:
        yield Finding("spool", "warning", found, "give the command of its run again: it goes on from its checkpoint")
    if silent and not damage:
        do = "nothing: the next sweep on this store delivers it"
        yield Finding("spool", "warning", f"not delivered to the store yet, of {len(silent)}: {_some(silent)}", do)
    elif not damage:
        yield Finding("spool", "ok", "everything is delivered")
    count, damaged = glance.checkpoints(there)
    for path in damaged:
        do = f"rm -f {shlex.join([str(path), f'{path}.sha256'])}; its run goes on from the one before, or afresh"
        yield Finding("checkpoints", "warning", f"{path}: its digest does not hold", do)
    if not damaged:
        yield Finding("checkpoints", "ok", f"{count}, every digest holds" if count else "none left behind")


def _beside(file: Path) -> list[Path]:
    return [file.with_name(file.name + end) for end in ("-wal", "-shm")]


def _artifacts(location: str | None) -> Path | None:
    parts = urlsplit(location or "")
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _some(ids: list[str]) -> str:
    return ", ".join(run_id[:8] for run_id in ids[:5]) + (", ..." if len(ids) > 5 else "")
