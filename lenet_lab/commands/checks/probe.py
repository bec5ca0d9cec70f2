"""Imports tried in a process of their own, since one that does not fit can end its process.

`python -m lenet_lab.commands.checks.probe MODULE...` prints a line of JSON before and after each import.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

from lenet_lab.provenance import PACKAGE

# in the order of their dependence; the two groups are tried side by side
GROUPS = (
    ("torch", "torchvision", "pytorch_lightning"),
    ("mlflow", "hydra", "pandas", "sklearn", "scipy.stats", "matplotlib", "jinja2", "pydantic"),
)
TIMEOUT_S = 60.0


class Probes:
    """The trial of all imports; it runs beside the other checks."""

    def __init__(self, groups: Sequence[Sequence[str]] = GROUPS, timeout: float = TIMEOUT_S) -> None:
        path = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        self._end, self._timeout = time.monotonic() + timeout, timeout
        self._running = [
            subprocess.Popen(
                [sys.executable, "-m", __name__, *group],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for group in groups
        ]

    @cached_property
    def answers(self) -> dict[str, dict[str, Any]]:
        """For each module that was reached: `error`, a text or None, and for torch what it knows of GPUs."""
        found: dict[str, dict[str, Any]] = {}
        for process in self._running:
            said, why = self._hear(process)
            for line in said.splitlines():
                with contextlib.suppress(ValueError):
                    answer = json.loads(line)
                    found[answer["module"]] = answer
            for answer in found.values():
                if "begun" in answer:  # and not ended
                    answer["error"] = why
                    del answer["begun"]
        return found

    def _hear(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        try:
            said, _ = process.communicate(timeout=max(0.1, self._end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            return process.communicate()[0], f"not imported within {self._timeout:g} s"
        return said, f"ended Python with status {process.returncode}"

    def stop(self) -> None:
        """End what nobody waits for any more."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.communicate()


def main(modules: Sequence[str]) -> None:
    """Import one after the other and say how it went."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    for module in modules:
        print(json.dumps({"module": module, "begun": True}), file=out)
        answer: dict[str, Any] = {"module": module, "error": None}
        try:
            import_module(module)
            answer.update(ASK[module]() if module in ASK else {})
        except BaseException as error:
            answer["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(json.dumps(answer), file=out)


def _gpus() -> dict[str, Any]:
    """What torch knows of GPUs, without taking memory of one."""
    import torch

    there = torch.cuda.is_available()
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())] if there else []
    return {
        "built_for": torch.version.cuda or getattr(torch.version, "hip", None),
        "gpus": [[device.name, device.total_memory] for device in devices],
    }


def _operators() -> dict[str, Any]:
    """Call one of torchvision's compiled operators: they are built for one version of torch."""
    import torch
    import torchvision.ops

    torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    return {}


ASK = {"torch": _gpus, "torchvision": _operators}

if __name__ == "__main__":
    main(sys.argv[1:])
