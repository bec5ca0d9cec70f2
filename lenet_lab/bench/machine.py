"""On what was measured, and with what."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from lenet_lab.data.files import Where


def machine() -> str:
    """Processor, cores, GPU, Python and libraries, in one line."""
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "pytorch-lightning", "mlflow"))
    return f"{_processor()}, {len(os.sched_getaffinity(0))} cores{gpu}; Python {platform.python_version()}, {versions}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # on the path, but not installed
        return "?"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def mnist_root() -> str | None:
    """A folder with MNIST's files, where torchvision finds them too; nothing is downloaded."""
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    roots = [root for _, root in Where("mnist", download=False).roots()]
    complete = (root for root in roots if all((root / "MNIST" / "raw" / name).is_file() for name in names))
    return next(map(str, complete), None)
