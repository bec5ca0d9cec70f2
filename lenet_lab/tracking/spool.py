"""Tracking calls go to a local file first, and from there to the store, in order and until they arrive.

One append-only file of JSON lines a run; `<file>.ack` holds how far the store has it. A line may arrive twice (a crash
between delivery and acknowledgement) and counts once: a metric point is its key, step, value and time, a tag its key,
an artifact its path. So training never waits for the store, and the last line can say that all before it is there.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class Spool:
    """Appends events; knows which metric points it already holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._points = {(p[0], p[3]) for event, _ in events(path, 0) for p in event.get("metrics", ())}
        self._file = path.open("ab", buffering=0)
        # a crash may have cut the last line: the next one closes it, so that it is skipped and glued to nothing
        self._cut = path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")

    def append(self, event: Event, sync: bool = False) -> None:
        """One whole line; a metric point whose key and step are here already is left out.

        Raises:
            OSError: the disk does not take it.
        """
        points = [p for p in event.get("metrics", ()) if (p[0], p[3]) not in self._points]
        if "metrics" in event:
            if not points:
                return
            event = {**event, "metrics": points}
        line = (b"\n" if self._cut else b"") + json.dumps(event, separators=(",", ":")).encode() + b"\n"
        self._cut = True  # until the whole line is there: a full disk may take half of it
        written = self._file.write(line)
        while written < len(line):
            written += self._file.write(line[written:])
        self._cut = False
        self._points.update((p[0], p[3]) for p in points)
        if sync:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """No more events."""
        self._file.close()


def events(path: Path, offset: int) -> Iterator[tuple[Event, int]]:
    """The whole events after `offset`, each with the offset behind it; a half-written line ends or is skipped."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                event = json.loads(line)
            except ValueError:
                continue
            yield event, offset


def acknowledged(path: Path) -> int:
    """How far the store has a spool, in bytes."""
    try:
        return int(path.with_suffix(".ack").read_text())
    except (FileNotFoundError, ValueError):
        return 0


def deliver(path: Path, send: Callable[[list[Event]], None]) -> bool:
    """Send what is not acknowledged, in one call to `send`; True when there was anything."""
    offset = acknowledged(path)
    pending = list(events(path, offset))
    if not pending:
        return False
    send([event for event, _ in pending])
    part = path.with_suffix(f".ack.{os.getpid()}.part")
    part.write_text(str(pending[-1][1]))
    part.replace(path.with_suffix(".ack"))
    return True


class Courier(threading.Thread):
    """Carries a spool to the store in the background, and beats the run's heart."""

    def __init__(self, path: Path, send: Callable[[list[Event]], None], beat: Callable[[], None], every: float) -> None:
        super().__init__(name="lenet_lab-courier", daemon=True)
        self.path, self.send, self.beat, self.every = path, send, beat, every
        self.error: BaseException | None = None  # what the store answered last; None when it answered well
        self.fatal: BaseException | None = None  # an answer that trying again cannot mend
        self._wake, self._ending, self._idle = threading.Event(), threading.Event(), threading.Event()

    def run(self) -> None:
        """Deliver until stopped; wait longer after each failure."""
        failures, next_beat = 0, time.monotonic() + self.every
        while not self._ending.is_set():
            try:
                self._wake.clear()
                while deliver(self.path, self.send):
                    pass
                if time.monotonic() >= next_beat:
                    self.beat()
                    next_beat = time.monotonic() + self.every
                self.error, failures = None, 0
                self._idle.set()
                self._wake.wait(max(0.05, next_beat - time.monotonic()))
            except StopDelivery as error:
                self.fatal = error
                self._idle.set()
                return
            except Exception as error:
                self.error = error
                self._ending.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1

    def nudge(self) -> None:
        """There is something to deliver."""
        self._idle.clear()
        self._wake.set()

    def flush(self, timeout: float, hurry: threading.Event) -> bool:
        """Wait until everything has arrived; False when it has not by then, or when `hurry` is set."""
        end = time.monotonic() + timeout
        while time.monotonic() < end and self.fatal is None and self.is_alive() and not hurry.is_set():
            if acknowledged(self.path) >= self.path.stat().st_size:
                return True
            self.nudge()
            self._idle.wait(0.05)
        return self.fatal is None and acknowledged(self.path) >= self.path.stat().st_size

    def stop(self) -> None:
        """End the thread; what is left stays in the spool.

        A thread that a store keeps waiting is left behind: it ends with the process.
        """
        self._ending.set()
        self._wake.set()
        if self.ident is not None:
            self.join(timeout=2)


class StopDelivery(Exception):
    """Delivering makes no sense any more: the run belongs to somebody else."""
