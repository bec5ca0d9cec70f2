"""`hydra/launcher=lab`: Hydra's name for the pool of clean processes in `lenet_lab.sweeps`."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LabLauncher(Launcher):
    """Runs a sweep's jobs side by side on this machine."""

    packed = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook."""
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Hydra's hook; a job that fails is an outcome, not an exception."""
        from lenet_lab.sweeps.launch import launch

        words = [list(words) for words in job_overrides]
        return launch(self.hydra_context, self.config, words, initial_job_idx, self.packed)


class PackedLauncher(LabLauncher):
    """Trains the cells of one shape together, several to a process; the rest as jobs."""

    packed = True
