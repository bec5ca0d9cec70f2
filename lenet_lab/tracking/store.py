"""The store: where it is, made once, opened by many, with a folder beside it for locks, spools and checkpoints."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import sqlite3
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from lenet_lab.provenance import redact_text
from lenet_lab.records import LabError

EXPERIMENT = "lenet_lab"
PATIENCE_S = 12.0  # with a store that does not answer, before anything is trained
BUSY_S = 60.0  # with one that others keep busy
DEFAULT_URI = "sqlite:///mlflow.db"
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
T = TypeVar("T")

# a client that gives up soon: the spool tries again, so no call may block a run
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it would print the password in an address


@dataclass(frozen=True)
class Store:
    """An opened store.

    Attributes:
        uri: MLflow's tracking URI, absolute.
        state: this machine's folder for the store: locks, spools, checkpoints, logs.
        experiment_id: MLflow's id of the experiment `lenet_lab`.
    """

    uri: str
    state: Path
    experiment_id: str

    @cached_property
    def client(self) -> Any:
        """MLflow's client."""
        return _client(self.uri)

    @cached_property
    def domain(self) -> str:
        """Names the folder of locks: processes that see the same one can trust them about each other's lives."""
        path = self.state / "domain"
        with _lock(self.state / "store.lock", exclusive=True):
            if not path.exists():
                part = path.with_suffix(".part")
                part.write_text(uuid.uuid4().hex)
                part.replace(path)
            return path.read_text()

    def folder(self, *parts: str) -> Path:
        """A folder inside `state`, made when missing, private to the user."""
        path = self.state.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path


def locate(uri: str | None) -> str:
    """The tracking URI in force: the argument, MLFLOW_TRACKING_URI, or SQLite in the current folder; made absolute.

    Raises:
        LabError: a scheme that MLflow no longer serves, or no scheme at all.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).expanduser().absolute()}"
    if urlsplit(uri).scheme in ("http", "https", "postgresql", "mysql", "mssql"):
        return uri
    raise LabError(f"tracking.uri={public(uri)}: allowed are sqlite:///FILE.db and http(s)://HOST:PORT")


def public(uri: str) -> str:
    """A URI without its user and password, fit to be shown."""
    parts = urlsplit(uri)
    return uri.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1) if "@" in parts.netloc else uri


def database(uri: str) -> Path | None:
    """The file of an SQLite store."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def state_folder(uri: str) -> Path:
    """Beside an SQLite store (`mlflow.db` -> `mlflow.lab/`), else in the user's cache, by the URI's digest."""
    file = database(uri)
    if file is not None:
        return file.with_suffix(".lab")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "lenet_lab" / "state" / hashlib.sha256(public(uri).encode()).hexdigest()[:16]


def open_store(uri: str | None = None, create: bool = True) -> Store:
    """Open the store; make it where it is missing, once, under a lock (concurrent first starts would break it).

    Raises:
        LabError: it cannot be reached, read or written, or is missing and `create` is false.
    """
    located = locate(uri)
    file, state = database(located), state_folder(located)
    if file is not None:
        _check_file(file, create)
    try:
        _probe(located, file, create)
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _lock(state / "store.lock", exclusive=not _made(file, state)):
            if not _made(file, state):
                if file is not None and not (file.exists() and file.stat().st_size):
                    _make(file, state)
                _experiment(located, file, create=True)
                (state / "made").touch()
        return Store(located, state, _experiment(located, file, create=False))
    except LabError:
        raise
    except OSError as error:
        why = f"{error.strerror}: {error.filename}" if error.filename else f"the store does not answer: {error}"
        raise LabError(f"tracking.uri={public(located)}: {why}") from None
    except Exception as error:
        why = redact_text(" ".join(str(error).split()))[:200]
        raise LabError(f"tracking.uri={public(located)}: the store does not answer: {why}") from None


def _probe(located: str, file: Path | None, create: bool) -> None:
    """Ask for a sign of life, with a patience of our own: MLflow's clients wait far longer for each call.

    SQLite alone may touch its file: a plain `open` and `close` would drop the locks that this process's connections
    hold on it, and the next process to leave would take the log of their transactions away.

    Raises:
        OSError, sqlite3.Error: there is none.
    """
    if file is not None and file.exists() and file.stat().st_size:
        last = time.monotonic() + BUSY_S
        end, seen = time.monotonic() + PATIENCE_S, _signs(file)
        while True:
            with contextlib.closing(sqlite3.connect(file, timeout=1.0, isolation_level=None)) as connection:
                try:
                    connection.execute("BEGIN IMMEDIATE" if create else "BEGIN")
                    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                    return
                except sqlite3.OperationalError as error:
                    now, before = time.monotonic(), seen
                    seen = _signs(file)
                    end = now + PATIENCE_S if seen != before else end  # others write: it is busy, not stuck
                    if error.sqlite_errorcode & 0xFF not in BUSY or now > min(end, last):
                        raise
                except sqlite3.DatabaseError:
                    why = "not an SQLite database; choose another tracking.uri"
                    raise LabError(f"tracking.uri={located}: {why}") from None
    elif located.startswith("http:"):
        with contextlib.suppress(urllib.error.HTTPError):  # any answer is a sign of life
            urllib.request.urlopen(f"{public(located).rstrip('/')}/health", timeout=PATIENCE_S).close()


def _signs(file: Path) -> list[tuple[int, int]]:
    """What changes whenever anybody writes to a database."""
    found = []
    for path in (file, file.with_name(file.name + "-wal")):
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            found.append((state.st_mtime_ns, state.st_size))
    return found


def patiently(store: Store, act: Callable[[], T]) -> T:
    """Try again for a while what a busy, locked or restarting store refuses; it has answered before.

    Raises:
        LabError: it still refuses.
    """
    from mlflow.exceptions import MlflowException

    end = time.monotonic() + BUSY_S
    while True:
        try:
            return act()
        except MlflowException as error:
            if time.monotonic() > end:
                why = redact_text(" ".join(str(error).split()))[:200]
                raise LabError(f"tracking.uri={public(store.uri)}: the store does not answer: {why}") from None
            time.sleep(0.5)


def of_key(key: str) -> str:
    """MLflow's filter for the runs of a key."""
    return f"tags.`lenet.key` = '{key}'"


def _made(file: Path | None, state: Path) -> bool:
    return (state / "made").exists() and (file is None or (file.exists() and file.stat().st_size > 0))


def _check_file(file: Path, create: bool) -> None:
    where = f"tracking.uri=sqlite:///{file}"
    if file.exists():
        if not os.access(file, os.R_OK | os.W_OK) or not os.access(file.parent, os.W_OK):
            raise LabError(
                f"{where}: the store cannot be written; give yourself the right or choose another tracking.uri"
            )
    elif not create:
        raise LabError(f"{where}: no store there; run something first, or choose with --store or MLFLOW_TRACKING_URI")
    elif not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise LabError(f"{where}: its folder is missing or cannot be written; choose another tracking.uri")


def _make(file: Path, state: Path) -> None:
    """A new database, private to the user, whose readers do not wait for its writers.

    MLflow makes its tables in many steps, and cannot go on with a database that a crash has left between two of
    them: so they are made in a folder aside, and the whole database is moved into place.
    """
    aside = state / "new"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    made, whole = aside / "made.db", aside / "whole.db"
    _client(f"sqlite:///{made}").search_experiments()
    whole.touch(mode=0o600)
    with contextlib.closing(sqlite3.connect(made)) as source, contextlib.closing(sqlite3.connect(whole)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode=WAL")
    whole.replace(file)
    shutil.rmtree(aside, ignore_errors=True)


def _experiment(uri: str, file: Path | None, create: bool) -> str:
    client = _client(uri)
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    if not create:
        raise LabError(f"tracking.uri={public(uri)}: no experiment {EXPERIMENT!r} there")
    location = None
    if file is not None:
        folder = file.parent / "mlartifacts"
        folder.mkdir(exist_ok=True, mode=0o700)
        location = folder.as_uri()
    tags = {"mlflow.experimentKind": "custom_model_development"}  # what the UI shows first: runs, not traces
    return str(client.create_experiment(EXPERIMENT, artifact_location=location, tags=tags))


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # after the import, which sets them itself
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a store that does not answer is said once, by us
    return MlflowClient(tracking_uri=uri)


@contextlib.contextmanager
def _lock(path: Path, exclusive: bool) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
