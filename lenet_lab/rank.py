"""One of the other ranks of a run: trains beside rank 0 and writes nothing. `python -m lenet_lab.rank CONFIG.json`."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read the resolved configuration and take part."""
    if sys.platform == "linux":  # a rank must not outlive rank 0, however that one dies
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ.get("LENET_LAB_PARENT_PID", os.getppid())):
            sys.exit(1)
    order = json.loads(Path(sys.argv[1]).read_text())
    participate(order["config"], order["execution"])


def participate(resolved: dict[str, Any], execution: dict[str, Any] | None = None) -> None:
    """Train as this process's rank, from the same checkpoint as rank 0."""
    from lenet_lab.cell import load
    from lenet_lab.config.keys import run_key
    from lenet_lab.config.schema import parse
    from lenet_lab.engines import recorded
    from lenet_lab.tracking.store import locate, state_folder
    from lenet_lab.train import execution_of, train

    config = parse(resolved)
    key = run_key(resolved, config.data.digest())
    how = execution_of(config) if execution is None else recorded(execution)
    train(config, load(config.data), how, state_folder(locate(config.tracking.uri)) / "checkpoints" / key)


if __name__ == "__main__":
    main()
