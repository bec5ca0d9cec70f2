"""What tests run in processes of their own; a module apart, since each process imports it."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


class Forked:
    """`python -m lenet_lab WORDS` in a clean process with this folder and environment, in a group of its own.

    It is forked from a server that has done the imports, which take longer than most of what is tested. Tests of
    imports, of the terminal's Ctrl-C and of the README's first command start Python themselves. Its methods are those
    of `subprocess.Popen`.
    """

    def __init__(self, words: Sequence[str], where: Path, env: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["lenet_lab.sweeps.preload", "processes"])
        self.args, self._folder = list(words), tempfile.TemporaryDirectory(prefix="lenet_lab-test-")
        self._files = [str(Path(self._folder.name) / name) for name in ("out", "err")]
        self._process = context.Process(target=_command, args=(self.args, str(where), dict(env), *self._files))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self._said: tuple[str, str] | None = None

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has said when it ends.

        Raises:
            subprocess.TimeoutExpired: it does not.
        """
        if self._said is None:
            self._process.join(timeout)
            if self.returncode is None:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            out, err = (Path(file).read_text() if Path(file).exists() else "" for file in self._files)
            self._said = out, err
            self._folder.cleanup()
        return self._said


_SERVER = """
import json, os, runpy, sys, traceback

import lenet_lab.sweeps.preload
import processes

for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        processes._prepare(order["where"], order["env"], order["out"], order["err"])
        sys.argv, code = order["words"], 0
        try:
            if sys.argv[0] == "-m":
                sys.argv = sys.argv[1:]
                runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Elsewhere:
    """A context: `python ...` with the package that is found in `path`, and not this repository's, its imports once.

    Every call is forked from a Python that has imported that package and what it needs.
    """

    def __init__(self, path: Path) -> None:
        here = str(Path(__file__).parent)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "LENET_LAB_", "PYTHON"))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            cwd=path,
            env={**clean, "PYTHONPATH": os.pathsep.join([str(path), here]), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Elsewhere:
        return self

    def call(self, words: Sequence[str], where: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """`python WORDS` (`-m MODULE ...` or `FILE ...`), waited for."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory(prefix="lenet_lab-test-") as folder:
            out, err = f"{folder}/out", f"{folder}/err"
            order = {"words": list(words), "where": str(where), "env": dict(env), "out": out, "err": err}
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            code = self._process.stdout.readline()
            said = [Path(file).read_text() if Path(file).exists() else "" for file in (out, err)]
        assert code, f"the server has died\n{said}"
        return subprocess.CompletedProcess(list(words), int(code), *said)

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:  # a command of its hangs, or its test has been ended
            for child in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
                os.killpg(int(child), signal.SIGKILL)
            self._process.kill()
            self._process.wait(30)
        finally:
            self._process.stdout.close()


def command_line(
    words: Sequence[str], where: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """The same, waited for; killed where it takes longer than `timeout` seconds."""
    process = Forked(words, where, env)
    try:
        out, err = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        raise
    assert process.returncode is not None
    return subprocess.CompletedProcess(list(words), process.returncode, out, err)


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


def _prepare(where: str, env: Mapping[str, str], out: str, err: str) -> None:
    """Make a fork what a new process would be: a session, folder, environment and output of its own."""
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
    for path in filter(None, env.get("PYTHONPATH", "").split(os.pathsep)):
        if (site := Path(path, "sitecustomize.py")).exists():  # which a new Python would run at its start
            runpy.run_path(str(site))


def _command(words: list[str], where: str, env: dict[str, str], out: str, err: str) -> None:
    _prepare(where, env, out, err)
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
