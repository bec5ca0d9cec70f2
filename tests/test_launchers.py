"""Hydra's other launchers keep tracking, run-once and resumption: each sweeps four cells, then is launched again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import pytest
from conftest import REQUIRED, Lab, make_lab

from lenet_lab.records import RunRecord
from lenet_lab.tracking import open_store, read_runs

CELLS = ("data=digits", "epochs=1", "tracking.artifacts=minimal", "pool=avg,max", "seed=0,1")
CLUSTER = """
import os, sys
from ray.cluster_utils import Cluster
os.chdir("/")
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def needed(distribution: str) -> None:
    """Skip where an extra is not installed, unless nothing may skip."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        (pytest.fail if REQUIRED else pytest.skip)(f"{distribution} is not installed")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The address of a Ray cluster of this machine, which knows nothing of the folder or the data of a sweep."""
    needed("hydra-ray-launcher")
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("LENET_LAB_", "MLFLOW_", "RAY_"))}
    with (tmp_path / "cluster.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER],
            # Ray's workers are nice (15): beside other tests they would get no processor for minutes
            env={**bare, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, (tmp_path / "cluster.log").read_text()
        try:
            yield address
        finally:
            process.stdin.close()
            process.wait(60)
            process.stdout.close()


def runs(folder: Path) -> list[RunRecord]:
    return read_runs(open_store(f"sqlite:///{folder / 'mlflow.db'}", create=False))


def sweep_and_go_on(
    folder: Path, lab: Lab, launcher: Sequence[str], *again_with: str, again_lab: Lab | None = None
) -> None:
    """Four cells are trained; the same command again, with other settings of the launcher, trains none."""
    swept = lab("-m", *launcher, *CELLS, timeout=400)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert "4 trained" in swept.stdout
    made = runs(folder)
    assert {(run.params["pool"], run.seed) for run in made} == {("avg", 0), ("avg", 1), ("max", 0), ("max", 1)}
    assert [run.state for run in made] == ["complete"] * 4
    assert {run.tags["lenet.timing"] for run in made} == {"shared"}
    (parent,) = {run.tags["mlflow.parentRunId"] for run in made}
    described = open_store(f"sqlite:///{folder / 'mlflow.db'}", create=False).client.get_run(parent)
    assert described.info.status == "FINISHED"
    assert described.data.tags["mlflow.note.content"].count("complete") == 4
    again = (again_lab or lab)("-m", *launcher, *again_with, *CELLS, timeout=400)
    assert again.returncode == 0, again.stderr
    assert "4 done already, nothing trained" in again.stdout
    assert {(run.run_id, run.end_ms) for run in runs(folder)} == {(run.run_id, run.end_ms) for run in made}
    assert len(list(folder.glob("multirun/*/*/[0-9]/.hydra"))) == 8


def test_joblib(tmp_path: Path) -> None:
    needed("hydra-joblib-launcher")
    sweep_and_go_on(
        tmp_path,
        make_lab(tmp_path, fresh=True),  # a forked process would wait minutes for joblib's at its end
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        "hydra.launcher.n_jobs=1",
        again_lab=make_lab(tmp_path),
    )


def test_ray(tmp_path: Path, cluster: str) -> None:
    """At first each job is a clean process, as is the rule; then processes are used again, since the user says so."""
    folder = tmp_path / "sweep"
    folder.mkdir()
    launcher = ["hydra/launcher=ray", f"hydra.launcher.ray.init.address={cluster}"]
    sweep_and_go_on(
        folder,
        make_lab(folder),
        launcher,
        "+hydra.launcher.ray.remote.max_calls=4",
        "+hydra.launcher.ray.remote.num_cpus=2",
    )
    assert len({run.tags["lenet.pid"] for run in runs(folder)}) == 4


def test_what_only_our_launcher_knows_is_refused(tmp_path: Path) -> None:
    needed("hydra-joblib-launcher")
    done = make_lab(tmp_path, fresh=True)("-m", "hydra/launcher=joblib", "sweep.retries=2", *CELLS)
    assert done.returncode == 2
    assert done.stderr.startswith("lenet_lab: sweep.retries=2: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "mlflow.db").exists()
