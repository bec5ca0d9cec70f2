"""Whole processes timed from nothing, in empty folders, in turn; and what a job costs beside its training."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

HYDRA = "import hydra\n@hydra.main(config_path=None, version_base='1.3')\ndef main(cfg): pass\nmain()\n"
# what a run cannot do without, imported and nothing else
IMPORTS = "import hydra, torch, torchvision, pytorch_lightning, mlflow\n"
# the whole command, ended at its first step of training
FIRST = (
    "import os, sys\n"
    "import lenet_lab.engines.single as single\n"
    "single.SingleNetwork.training_step = lambda *a, **k: os._exit(0)\n"
    "sys.argv = ['lenet_lab', 'data=digits', 'epochs=1']\n"
    "from lenet_lab.cli import main\n"
    "main()\n"
)
TYPED = {"COMP_LINE": "lenet-lab norm=", "COMP_POINT": "15"}  # as bash asks for completion
JOBS = ("-m", "data=digits", "data.train_size=64", "epochs=1", "sweep.workers=1")
JOB_LINE = re.compile(r"^\[\d+/\d+\] complete +([\d.]+) s", re.MULTILINE)

Measured = tuple[str, str, Mapping[str, Sequence[float]], Sequence[tuple[str, str, float | None]]]


def start(rounds: int, say: Callable[[str], None]) -> Iterator[Measured]:
    """Each measurement: setting, unit, values by contender, (contender, against, least ratio)."""
    say("start, --help and completion")
    help_ = {
        "empty Hydra application": lambda where: _whole([sys.executable, "app.py", "--help"], where),
        "--help": lambda where: _whole([sys.executable, "-m", "lenet_lab", "--help"], where),
        "completion": lambda where: _whole(
            [sys.executable, "-m", "lenet_lab", "-sc", "query=bash"], where, environment=TYPED
        ),
    }
    yield "help", "s", _turns(help_, rounds), [(name, "empty Hydra application", None) for name in list(help_)[1:]]
    say("start, first step of training")
    first = {
        "bare imports": lambda where: _whole([sys.executable, "-c", IMPORTS], where),
        "first step": lambda where: _whole([sys.executable, "-c", FIRST], where, ready=True),
    }
    yield "first step", "s", _turns(first, rounds), [("first step", "bare imports", 1 / 1.3)]
    say("start, a job of a sweep")
    few = max(3, rounds // 2)
    jobs = {f"job, {which} artifacts": _jobs(few, f"tracking.artifacts={which}") for which in ("full", "minimal")}
    yield "job in a warm process", "s", jobs, []


def _turns(contenders: Mapping[str, Callable[[Path], float]], rounds: int) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):  # the first warms the disk's cache
        for name, measure in contenders.items():
            with tempfile.TemporaryDirectory(prefix="lenet_lab-bench-") as folder:
                (Path(folder) / "app.py").write_text(HYDRA)
                seconds = measure(Path(folder))
            if number:
                values[name].append(seconds)
    return values


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


def _jobs(count: int, artifacts: str) -> list[float]:
    """Seconds of jobs whose training takes none worth naming, but for the first, which finds nothing warm."""
    with tempfile.TemporaryDirectory(prefix="lenet_lab-bench-") as folder:
        seeds = ",".join(map(str, range(count + 1)))
        said = call([sys.executable, "-m", "lenet_lab", *JOBS, artifacts, f"seed={seeds}"], Path(folder))
    return [float(seconds) for seconds in JOB_LINE.findall(said)][1:]
