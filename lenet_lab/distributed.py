"""The other processes, if any, of a run that DistributedDataParallel trains on devices of this machine.

They are started here, each with one rank and the resolved configuration, and not by Lightning: its way is to start
the command line again, which in a sweep would be the sweep. Under torchrun or SLURM every process is there already.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from lenet_lab.config.schema import Trainer
from lenet_lab.engines import Execution


class Ranks:
    """A context in which the other local ranks of a run are alive, if it has several devices; this process is rank 0.

    Several machines are left to who has started the processes there.
    """

    def __init__(self, resolved: Mapping[str, Any], trainer: Trainer, execution: Execution) -> None:
        self.ours = trainer.distributed and trainer.nodes == 1 and "LOCAL_RANK" not in os.environ
        self.count = trainer.devices - 1 if self.ours else 0
        self.resolved, self.trainer, self.execution = resolved, trainer, execution
        self.processes: list[subprocess.Popen[bytes]] = []
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> Ranks:
        if self.ours:
            address = {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(_free_port()),
                "WORLD_SIZE": str(self.trainer.devices),
                "NODE_RANK": "0",
                "LOCAL_RANK": "0",
            }
            self._before = {key: os.environ.get(key) for key in address}
            os.environ.update(address)
            self._folder = tempfile.TemporaryDirectory(prefix="lenet_lab-ranks-")
            spec = Path(self._folder.name) / "config.json"
            spec.write_text(json.dumps({"config": self.resolved, "execution": self.execution.as_dict()}))
            for rank in range(1, self.count + 1):
                environment = {
                    **os.environ,
                    "LOCAL_RANK": str(rank),
                    "LENET_LAB_PARENT_PID": str(os.getpid()),
                }
                command = [sys.executable, "-m", "lenet_lab.rank", str(spec)]
                self.processes.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))
        return self

    def join(self, timeout: float = 60.0) -> None:
        """Wait for the others after training.

        Raises:
            RuntimeError: one of them failed.
        """
        for rank, process in enumerate(self.processes, 1):
            if process.wait(timeout) != 0:
                raise RuntimeError(f"rank {rank} ended with status {process.returncode}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        if self.ours:
            import torch.distributed as dist

            if dist.is_available() and dist.is_initialized():
                dist.destroy_process_group()
            self._folder.cleanup()
            for key, value in self._before.items():
                os.environ.pop(key, None)
                if value is not None:
                    os.environ[key] = value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
