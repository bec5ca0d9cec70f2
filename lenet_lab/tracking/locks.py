"""Who trains a cell: a lock held by the living process, so that death needs no announcement."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from lenet_lab.tracking.store import Store


class RunLock:
    """An exclusive lock on one run key on this machine; the kernel frees it when the process dies, however."""

    def __init__(self, store: Store, key: str) -> None:
        self.path = lock_path(store, key)
        self._file: IO[str] | None = None

    def acquire(self, patience: float = 0.5) -> bool:
        """True when held now. Waits a moment, since `alive` holds a shared lock for microseconds."""
        file = self.path.open("a+")
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    file.close()
                    return False
                time.sleep(0.02)
            else:
                if not _is_at(file, self.path):  # `gc` has just removed it: a lock that nobody else can find is none
                    file.close()
                    file = self.path.open("a+")
                    continue
                self._file = file
                file.truncate(0)
                file.write(f"{os.getpid()}\n")
                file.flush()
                return True

    def release(self, remove: bool = False) -> None:
        """Give it back; with `remove`, its file goes too."""
        if self._file is not None:
            if remove:
                self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def lock_path(store: Store, key: str) -> Path:
    """Locks are spread over folders by the key's first letters."""
    return store.folder("locks", key[:2]) / f"{key}.lock"


def alive(store: Store, key: str) -> bool:
    """Whether a process of this machine holds the key."""
    path = store.state / "locks" / key[:2] / f"{key}.lock"
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
