"""What tests run in processes of their own; a module apart, since each process imports it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def command_line(
    words: Sequence[str], where: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """`python -m lenet_lab WORDS` in a clean process with this folder and environment.

    It is forked from a server that has done the imports, which take longer than most of what is tested. Tests of
    imports, of signals to a process group, of the README and of the wheel start Python themselves.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lenet_lab.sweeps.preload", "processes"])
    with tempfile.TemporaryDirectory(prefix="lenet_lab-test-") as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = context.Process(target=_command, args=(list(words), str(where), dict(env), str(out), str(err)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(words), timeout)
        return subprocess.CompletedProcess(list(words), process.exitcode, out.read_text(), err.read_text())


def _served(spawn: Callable[..., int]) -> Callable[..., int]:
    """multiprocessing's way to start a helper process; but the server of a sweep's jobs is forked here and now.

    This process is as clean as the server would be after its imports, and has done them.
    """

    def start(path: Any, args: Sequence[str], passed: Sequence[int]) -> int:
        if "forkserver" not in args[-1]:
            return spawn(path, args, passed)
        pid = os.fork()
        if pid == 0:
            try:
                from multiprocessing import forkserver

                kept = sorted({0, 1, 2, *passed})
                for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
                    os.closerange(low + 1, high)
                forkserver.main(*passed, [])
            finally:
                os._exit(0)
        return pid

    return start


def _command(words: list[str], where: str, env: dict[str, str], out: str, err: str) -> None:
    from multiprocessing import forkserver, util

    os.setsid()
    forkserver._forkserver = forkserver.ForkServer()  # a sweep has its own, with this environment
    for name in ("ensure_running", "get_inherited_fds", "connect_to_new_process", "set_forkserver_preload"):
        setattr(forkserver, name, getattr(forkserver._forkserver, name))
    util.spawnv_passfds = _served(util.spawnv_passfds)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(where)
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["lenet_lab", *words]
    from lenet_lab.cli import main

    main()


def start_and_finish(uri, number, barrier):
    """A run on a store that may not be there yet, started when all the others are ready too."""
    from lenet_lab.tracking import TrackedRun, claim, open_store

    barrier.wait(120)
    tracked = claim(open_store(uri), f"{number:064x}", "a run")
    assert isinstance(tracked, TrackedRun)
    tracked.begin({})
    tracked.metrics({"val/acc": number / 8}, step=1)
    assert tracked.finish("complete")
