"""On what was measured, and with what."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path


def machine() -> str:
    """Processor, cores, GPU, Python and libraries, in one line."""
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "pytorch-lightning", "mlflow"))
    return f"{_processor()}, {len(os.sched_getaffinity(0))} cores{gpu}; Python {platform.python_version()}, {versions}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def mnist_root() -> str | None:
    """A folder with MNIST's files, where torchvision finds them too; nothing is downloaded."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lenet_lab"
    candidates = [os.environ.get("LENET_LAB_DATA"), str(cache)]
    files = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    for root in filter(None, candidates):
        if all((Path(root) / "MNIST" / "raw" / name).is_file() for name in files):
            return root
    return None
