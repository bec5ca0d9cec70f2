"""SIGTERM and SIGINT as an orderly end of a run."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Stopped(BaseException):
    """A signal asked the run to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Signals:
    """SIGTERM and SIGINT become `Stopped`, once; later ones, and those at a run's end, only make it hurry."""

    def __init__(self) -> None:
        self.hurry: threading.Event | None = None
        self.raised = False

    def only_hurry(self, hurry: threading.Event) -> None:
        """From here on a signal does not interrupt: it sets `hurry`."""
        self.hurry = hurry

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._on) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on(self, number: int, frame: Any) -> None:
        if self.hurry is not None:
            self.hurry.set()
        elif not self.raised:
            self.raised = True
            raise Stopped(number)
