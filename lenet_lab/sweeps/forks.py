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
    from multiprocessing import forkserver

    made = multiprocessing.get_context("forkserver")
    vars(forkserver._forkserver).pop("ensure_running", None)  # of a sweep that was stopped
    made.set_forkserver_preload(["lenet_lab.sweeps.preload"])
    return made


def warm_up(config: DictConfig) -> None:
    """Start the server now, where the sweep will use it."""
    if is_ours(config):
        from multiprocessing.forkserver import ensure_running

        context()
        # the terminal's Ctrl-C reaches the server too, which would say so at length in the middle of its imports;
        # what is ignored stays so in what is started, and in a job until its run listens itself
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            ensure_running()
        finally:
            signal.signal(signal.SIGINT, before)


def cool_down() -> None:
    """End the server at once, where no job will be forked: it may still be importing, for nobody."""
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver
    if server._forkserver_pid is not None:
        kill_server()
        server._stop()


def kill_for_good() -> None:
    """The same from a signal handler, which may take no lock: who waits for the first job, or is about to ask for it,
    finds the server gone (OSError) and starts no other."""
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver
    server.ensure_running = _gone
    kill_server()


def _gone() -> None:
    raise OSError("the sweep has been stopped")


def kill_server() -> None:
    """Kill the server's process, where there is one."""
    from multiprocessing import forkserver

    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
