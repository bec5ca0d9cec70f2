"""Tracking calls go to a local file first, and from there to the store, in order and until they arrive.

One append-only file a run, a line an event: its CRC-32 and its JSON; `<file>.ack` holds how far the store has it. A
line may arrive twice (a crash between delivery and acknowledgement) and counts once: a metric point is its key, step,
value and time, a tag its key, an artifact its path. So training never waits for the store, and the last line can say
that all before it is there. A line that a crash has cut has no end, and was never acknowledged; any other line whose
sum does not hold is damage, and nothing of that file is believed: the run is gone on with from its checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class DamagedSpool(ValueError):
    """The file is not what was written."""


class Spool:
    """Appends events; knows which metric points it already holds.

    Args:
        held: the (key, step) of every point that the store holds, asked for where the file is damaged and begun anew.
    """

    def __init__(self, path: Path, held: Callable[[], Iterable[tuple[str, int]]] = tuple) -> None:
        self.path = path
        try:
            self._points = points(path)
        except DamagedSpool as damage:
            logging.getLogger(__name__).warning("%s; the run goes on from its checkpoint", damage)
            self._points = set(held())
            for file in (path.with_suffix(".ack"), path):
                file.unlink(missing_ok=True)
        self._file = path.open("ab", buffering=0)
        self._file.truncate(path.read_bytes().rfind(b"\n") + 1)  # a crash may have cut the last line

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
        line, size = encoded(json.dumps(event, separators=(",", ":"))), os.fstat(self._file.fileno()).st_size
        try:
            written = self._file.write(line)
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError:  # a full disk may have taken half of it
            self._file.truncate(size)
            raise
        self._points.update((p[0], p[3]) for p in points)
        if sync:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """No more events."""
        self._file.close()


def encoded(text: str) -> bytes:
    """A text with its CRC-32 before it, as one line."""
    content = text.encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def decoded(line: bytes) -> bytes | None:
    """The text of such a line; None where it is none."""
    content = line[9:-1]
    return content if line == b"%08x %s\n" % (zlib.crc32(content), content) else None


def events(path: Path, offset: int) -> Iterator[tuple[Event, int]]:
    """The whole events after `offset`, each with the offset behind it; a line without its end is not there yet.

    Raises:
        DamagedSpool: the sum of a line does not hold.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            content = decoded(line)
            if content is None:
                raise DamagedSpool(f"{path}: damaged, the sum of a line does not hold")
            offset += len(line)
            yield json.loads(content), offset


def points(path: Path) -> set[tuple[str, int]]:
    """Key and step of every metric point in a spool, all of which is checked.

    Raises:
        DamagedSpool: the sum of a line does not hold, or there is less of it than the store has.
    """
    found: set[tuple[str, int]] = set()
    ends, upto = {0}, acknowledged(path)
    for event, end in events(path, 0):
        found.update((p[0], p[3]) for p in event.get("metrics", ()))
        ends.add(end)
    if upto not in ends:
        raise DamagedSpool(f"{path}: damaged, cut where the store has more of it")
    return found


def acknowledged(path: Path) -> int:
    """How far the store has a spool, in bytes; what cannot be read is nothing, since all may be sent again."""
    try:
        return int(decoded(path.with_suffix(".ack").read_bytes()) or 0)
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
    part.write_bytes(encoded(str(pending[-1][1])))
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
            if acknowledged(self.path) == self.path.stat().st_size:
                return True
            self.nudge()
            self._idle.wait(0.05)
        return self.fatal is None and acknowledged(self.path) == self.path.stat().st_size

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
