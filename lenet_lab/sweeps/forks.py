"""The server that jobs are forked from: it pays the imports once, while the parent still checks the cells."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from typing import Any

from omegaconf import DictConfig

from lenet_lab.sweeps.others import is_ours


def context() -> ForkServerContext:
    """Processes made here start clean, with everything imported."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["lenet_lab.sweeps.preload"])
    return made


def warm_up(config: DictConfig) -> None:
    """Start the server now, where the sweep will use it."""
    if is_ours(config):
        from multiprocessing.forkserver import ensure_running

        context()
        ensure_running()


def cool_down() -> None:
    """End the server at once, where no job will be forked: it may still be importing, for nobody."""
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver
    pid = server._forkserver_pid
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        server._stop()
