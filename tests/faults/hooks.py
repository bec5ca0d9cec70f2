"""What a life does to itself before it begins. Each takes `say(word, ...)` first, which tells the campaign."""

from __future__ import annotations

import time
from typing import Any


def patch(say: Any, target: str, value: Any) -> None:
    """Set `package.module.name` to a value, in this process."""
    from importlib import import_module

    module, _, name = target.rpartition(".")
    setattr(import_module(module), name, value)


def lease(say: Any, seconds: float) -> None:
    """Shorten the lease, and beat as much faster."""
    for module in ("runs", "claims", "read"):
        patch(say, f"lenet_lab.tracking.{module}.LEASE_S", seconds)
    patch(say, "lenet_lab.tracking.runs.HEARTBEAT_S", seconds / 4)


def timed(say: Any) -> None:
    """Say how long each call to the tracking of an epoch kept training waiting."""
    from lenet_lab.tracking.runs import TrackedRun

    inner = TrackedRun.metrics

    def metrics(self: Any, values: Any, step: int = 0) -> None:
        begun = time.monotonic()
        try:
            inner(self, values, step)
        finally:
            say("call", time.monotonic() - begun)

    TrackedRun.metrics = metrics  # type: ignore[method-assign]


def clock(say: Any, jump: float, after: float) -> None:
    """`time.time` jumps by so many seconds, so many seconds from now."""
    real, begun = time.time, time.monotonic()
    time.time = lambda: real() + (jump if time.monotonic() - begun >= after else 0.0)


def code(say: Any, digest: str) -> None:
    """The code is another."""
    from lenet_lab import provenance

    provenance.code_digest = lambda: digest  # type: ignore[assignment]


def memory(say: Any, beyond_mib: int) -> None:
    """No more than so many MiB of memory beyond what is in use now."""
    import resource
    from pathlib import Path

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + beyond_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def file_size(say: Any, size: int) -> None:
    """No file of more than so many bytes; writing on is an error, not a signal."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def obey(say: Any) -> None:
    """Permissions mean nothing to root: give up the capabilities that pass them by (Linux, capset(2))."""
    import ctypes
    import os

    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) == 0:
        for word in range(3):  # effective, permitted, inheritable: without CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            sets[word] &= ~0b110
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
