"""Contenders in processes of their own, asked in turn: what slows the machine down for a while slows all of them."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from lenet_lab.bench.contenders import CONTENDERS, Work


class Member(NamedTuple):
    """A process, our end of its pipe, and what it and its libraries say."""

    process: Any
    pipe: Any
    log: Any

    def ask(self) -> None:
        """Let it train an epoch.

        Raises:
            RuntimeError: it has died.
        """
        try:
            self.pipe.send("epoch")
        except OSError:
            raise self._died() from None

    def answer(self) -> Any:
        """What it sends next.

        Raises:
            RuntimeError: it has failed, or died.
        """
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if kind == "error":
            raise RuntimeError(value)
        return value

    def _died(self) -> RuntimeError:
        said = Path(self.log.name).read_text(errors="replace").strip().splitlines()
        return RuntimeError(": ".join(["a process of the benchmark has died", *said[-1:]]))


class Team:
    """One contender, or several that train side by side; its rate is the sum of theirs."""

    def __init__(self) -> None:
        self.members: list[Member] = []

    def start(self, name: str, work: Work, processes: int = 1) -> Team:
        """Start its processes; `ready` waits for them."""
        context = multiprocessing.get_context("spawn")
        for _ in range(processes):
            ours, theirs = context.Pipe()
            log = tempfile.NamedTemporaryFile(prefix="lenet_lab-bench-", suffix=".log")  # noqa: SIM115
            process = context.Process(target=_serve, args=(name, work, theirs, log.name), daemon=name != "lightning")
            process.start()
            self.members.append(Member(process, ours, log))
            theirs.close()
        return self

    def ready(self) -> Team:
        """Wait until all of them can begin.

        Raises:
            RuntimeError: one of them cannot.
        """
        for member in self.members:
            member.answer()
        return self

    def epoch(self) -> float:
        """Train one epoch each, at the same time: images a second, all together.

        Raises:
            RuntimeError: one of them has failed.
        """
        for member in self.members:
            member.ask()
        return sum(images / seconds for images, seconds in [member.answer() for member in self.members])

    def end(self) -> None:
        """Let the processes go."""
        for member in self.members:
            member.pipe.close()
        for member in self.members:
            member.process.join(10)
            if member.process.is_alive():
                member.process.kill()
            member.log.close()


class Teams:
    """A context with teams by name."""

    def __init__(self, asked: Mapping[str, tuple[str, Work, int]]) -> None:
        self.asked = asked
        self.teams = {name: Team() for name in asked}

    def __enter__(self) -> Teams:
        measuring = [name for name, (contender, _, _) in self.asked.items() if contender == "fastest"]
        others = [name for name in self.asked if name not in measuring]
        try:
            for together in (others, *([name] for name in measuring)):  # who measures while it starts does so alone
                for name in together:
                    self.teams[name].start(*self.asked[name])
                for name in together:
                    self.teams[name].ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for team in self.teams.values():
            team.end()

    def rounds(self, count: int) -> dict[str, list[float]]:
        """Rates of each team in `count` rounds, after one that is not counted; every other round in reverse order."""
        rates: dict[str, list[float]] = {name: [] for name in self.teams}
        for number in range(count + 1):
            names: Sequence[str] = list(self.teams)
            for name in names if number % 2 else names[::-1]:
                rate = self.teams[name].epoch()
                if number:
                    rates[name].append(rate)
        return rates


def _serve(name: str, work: Work, pipe: Any, log: str) -> None:
    os.environ["OMP_NUM_THREADS"] = str(work.threads)
    hears = os.open(log, os.O_WRONLY | os.O_APPEND)  # what libraries say
    os.dup2(hears, 1)
    os.dup2(hears, 2)
    try:
        import torch

        torch.set_num_threads(work.threads)
        epoch = CONTENDERS[name](work)
        pipe.send(("ready", None))
        while True:
            try:
                pipe.recv()
            except EOFError:
                return
            pipe.send(("epoch", epoch()))
    except Exception as error:
        pipe.send(("error", f"{name}: {type(error).__name__}: {error}"))
