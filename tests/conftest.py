"""What tests share: MNIST and a browser where the machine has them, a folder of one's own, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIRED = {word for word in os.environ.get("LENET_LAB_REQUIRE", "").split(",") if word}

os.environ.setdefault("OMP_NUM_THREADS", "1")
# else each folder of a test, with a cache of its own, has the fonts of the machine listed anew
os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / f"lenet_lab-matplotlib-{os.getuid()}"))


def _missing(what: str, why: str) -> None:
    if what in REQUIRED:
        pytest.fail(f"LENET_LAB_REQUIRE names {what}, and {why}")
    pytest.skip(why)


def find_mnist() -> Path | None:
    """The folder that holds MNIST/raw, or None."""
    given = os.environ.get("LENET_LAB_DATA")
    candidates = [Path(given)] if given else []
    candidates.append(REPOSITORY.parent / "shared" / "data")
    return next((c for c in candidates if (c / "MNIST" / "raw" / "train-images-idx3-ubyte").exists()), None)


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """A root for `data.root`, or a skip that says why."""
    found = find_mnist()
    if found is None:
        _missing("mnist", "the MNIST files are neither in LENET_LAB_DATA nor in ../shared/data")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium, or a skip that says why."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        _missing("browser", "no Chromium is installed")
    assert found is not None
    return found


Lab = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """`lab("-m", "pool=avg,max", ...)`: the command line in a folder of its own, as a user runs it."""
    return make_lab(tmp_path)


def make_lab(folder: Path, environment: Mapping[str, str] | None = None, fresh: bool = False) -> Lab:
    """The same for a folder of one's choice; `fresh`: Python is started anew, as a user does."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "LENET_LAB_"))}
    clean |= {
        "XDG_CACHE_HOME": str(folder / ".cache"),
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "200",
        **(environment or {}),
    }
    found = find_mnist()
    if found is not None:
        clean.setdefault("LENET_LAB_DATA", str(found))

    def run(
        *words: str, timeout: float = 240, cwd: Path | None = None, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        env, where = {**clean, **extra}, cwd or folder
        if not fresh:
            from processes import command_line

            return command_line(words, where, env, timeout)
        return subprocess.run(
            [sys.executable, "-m", "lenet_lab", *words],
            cwd=where,
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    return run
