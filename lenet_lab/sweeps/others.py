"""What other launchers than ours need: jobs that find their data and store, clean processes, threads shared out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from lenet_lab.config.paths import prepare
from lenet_lab.config.validate import refuse

# what only our own launcher knows how to do, and the words that say so elsewhere
OURS = ("workers", "retries", "fail_fast", "time_limit")
# a Ray cluster's processes inherit nothing from the command line that sends them jobs
CARRIED = (
    "LENET_LAB_DATA",
    "LENET_LAB_PARENT",
    "LENET_LAB_SWEEP",
    "LENET_LAB_THREADS",
    "LENET_LAB_TIMING",
    "MLFLOW_TRACKING_URI",
    "OMP_NUM_THREADS",
    "XDG_CACHE_HOME",
)


def is_ours(config: DictConfig) -> bool:
    """Whether the sweep uses `hydra/launcher=lab`."""
    return str(config.hydra.launcher._target_).endswith((".LabLauncher", ".PackedLauncher"))


def check(config: DictConfig) -> None:
    """Refuse what another launcher would ignore.

    Raises:
        LabError: a key of the group `sweep` that only our own launcher serves.
    """
    if is_ours(config):
        return
    name = str(config.hydra.runtime.choices["hydra/launcher"])
    for key in OURS:
        if config.sweep[key]:
            refuse(
                f"sweep.{key}", config.sweep[key], f"hydra/launcher={name} does not know it; allowed: null, 0 or false"
            )


def fit(config: DictConfig) -> None:
    """Set what the user has left open, in the environment of this process and in Ray's part of the configuration.

    `max_calls` makes each of Ray's jobs a clean process. Call it when the sweep and its parent are in the environment.
    """
    if is_ours(config):
        return
    launcher = config.hydra.launcher
    threads = str(config.sweep.threads or _share(launcher))
    for key, value in {"LENET_LAB_THREADS": threads, "OMP_NUM_THREADS": threads, "LENET_LAB_TIMING": "shared"}.items():
        os.environ.setdefault(key, value)
    if "ray" in launcher:
        with open_dict(launcher):
            launcher.ray.init = OmegaConf.merge(_ray_init(launcher.ray.init), launcher.ray.init)
            launcher.ray.remote = OmegaConf.merge({"num_cpus": 1, "max_calls": 1}, launcher.ray.remote)


def settle() -> None:
    """Ray's set-up of a worker: find our plugins, and work where the command was given, so that relative paths hold."""
    prepare()
    folder = os.environ.get("LENET_LAB_FOLDER", "")
    if folder and Path(folder).is_dir():
        os.chdir(folder)


def _share(launcher: DictConfig) -> int:
    """Threads a job: the cores divided among joblib's workers, or what Ray sets aside for one."""
    if "ray" in launcher:
        return max(1, int(launcher.ray.remote.get("num_cpus") or 1))
    jobs = int(launcher.get("n_jobs") or 1)
    cores = len(os.sched_getaffinity(0))
    return max(1, cores // jobs) if jobs > 0 else 1


def _ray_init(given: Mapping[str, Any]) -> dict[str, Any]:
    """A cluster that runs refuses the size of the object store, which the plugin sets where nobody does."""
    carried = {key: os.environ[key] for key in CARRIED if os.environ.get(key)} | {"LENET_LAB_FOLDER": str(Path.cwd())}
    environment = {"env_vars": carried, "worker_process_setup_hook": "lenet_lab.sweeps.others.settle"}
    made = {"include_dashboard": False, "log_to_driver": False, "runtime_env": environment}
    joins = given.get("address") or os.environ.get("RAY_ADDRESS")
    return {**made, "object_store_memory": None} if joins else made
