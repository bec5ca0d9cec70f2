"""Whole processes timed from nothing, in empty folders, in turn; and what a job adds to a sweep beside its training."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

HYDRA = "import hydra\n@hydra.main(config_path=None, version_base='1.3')\ndef main(cfg): pass\nmain()\n"
# What a run cannot do without, imported and nothing else. Both this and the next end at once: an interpreter that takes
# its leave of all these libraries needs more than a second.
IMPORTS = "import os, hydra, torch, torchvision, pytorch_lightning, mlflow\nos._exit(0)\n"
# the whole command, ended after its first update (and begun with the first thing that it does, which speeds up imports)
FIRST = (
    "import gc, os, sys\n"
    "gc.set_threshold(100_000, 20, 50)\n"
    "from torch.optim.optimizer import register_optimizer_step_post_hook\n"
    "register_optimizer_step_post_hook(lambda *a: os._exit({status}))\n"
    "sys.argv = ['lenet_lab', 'data=digits', 'epochs=1']\n"
    "from lenet_lab.cli import main\n"
    "main()\n"
)
TYPED = {"COMP_LINE": "lenet-lab norm=", "COMP_POINT": "15"}  # as bash asks for completion
JOBS = ("-m", "data=digits", "data.train_size=64", "epochs=1", "sweep.workers=1")
MORE = 10  # jobs

T = TypeVar("T")
Measured = tuple[str, str, Mapping[str, Sequence[float]], Sequence[tuple[str, str, float | None]]]


def start(rounds: int, say: Callable[[str], None]) -> Iterator[Measured]:
    """Each measurement: setting, unit, values by contender, (contender, against, least ratio).

    Help and completion are compared by `rows.PROMISES`.
    """
    say("start, --help and completion")
    help_ = {
        "empty Hydra application": lambda where: _whole([sys.executable, "app.py", "--help"], where),
        "--help": lambda where: _whole([sys.executable, "-m", "lenet_lab", "--help"], where),
        "completion": lambda where: _whole(
            [sys.executable, "-m", "lenet_lab", "-sc", "query=bash"], where, environment=TYPED
        ),
    }
    yield "help", "s", _turns(help_, rounds), []
    say("start, first step of training")
    first = {
        "bare imports": lambda where: _whole([sys.executable, "-c", IMPORTS], where),
        "first step": lambda where: _whole([sys.executable, "-c", FIRST.format(status=0)], where, ready=True),
    }
    yield "first step", "s", _turns(first, rounds), [("first step", "bare imports", 1 / 1.3)]
    say("start, a job of a sweep")
    jobs = {
        f"job, {which} artifacts": partial(job, [f"tracking.artifacts={which}"], MORE) for which in ("full", "minimal")
    }
    yield "one more job of a sweep", "s", alternate(jobs, max(3, rounds // 2)), []


def alternate(contenders: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each has measured in each round, every other one in reverse order.

    The first round is not kept: it finds the disk's cache cold.
    """
    values: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name in list(contenders) if number % 2 else list(contenders)[::-1]:
            value = contenders[name]()
            if number:
                values[name].append(value)
    return values


def _turns(contenders: Mapping[str, Callable[[Path], float]], rounds: int) -> dict[str, list[float]]:
    return alternate({name: partial(_in_a_folder, measure) for name, measure in contenders.items()}, rounds)


def _in_a_folder(measure: Callable[[Path], float]) -> float:
    with tempfile.TemporaryDirectory(prefix="lenet_lab-bench-") as folder:
        (Path(folder) / "app.py").write_text(HYDRA)
        return measure(Path(folder))


def _whole(
    words: Sequence[str], where: Path, ready: bool = False, environment: Mapping[str, str] | None = None
) -> float:
    """Seconds of a whole process; `ready`: on a store that is there already."""
    if ready:
        call([sys.executable, "-m", "lenet_lab", "data=digits", "epochs=1", "trainer.fast_dev=true"], where)
    begun = time.perf_counter()
    call(words, where, environment)
    return time.perf_counter() - begun


def clean() -> dict[str, str]:
    """The environment without what would change where or how something is run."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "LENET_LAB_"))}


def call(words: Sequence[str], where: Path, more: Mapping[str, str] | None = None) -> str:
    """What a process says.

    Raises:
        RuntimeError: it ends with another status than 0.
    """
    env = {**clean(), **(more or {})}
    done = subprocess.run(words, cwd=where, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)[:200]} ended with status {done.returncode}: {done.stderr[-500:]}")
    return done.stdout + done.stderr


def job(words: Sequence[str], more: int) -> float:
    """Seconds that a job of a sweep adds: what so many `more` jobs take, by one; training takes next to nothing.

    Composing, forking and ending it are in this, the start of the sweep is not.
    """
    return (sweep([*JOBS, *words], more + 1) - sweep([*JOBS, *words], 1)) / more


def sweep(words: Sequence[str], seeds: int) -> float:
    """Seconds of a whole sweep over so many seeds, as users start it, with a store of its own."""
    with tempfile.TemporaryDirectory(prefix="lenet_lab-bench-") as folder:
        return _whole([sys.executable, "-m", "lenet_lab", *words, f"seed=range({seeds})"], Path(folder))
