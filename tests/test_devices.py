"""What needs devices of another kind: half precision with a loss scaler, and several machines under torchrun."""

import os
import re
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision

from lenet_lab.cell import load
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import parse
from lenet_lab.distributed import Ranks
from lenet_lab.sweeps.launch import _gpus_of, narrowed, width
from lenet_lab.train import execution_of, train

REPOSITORY = Path(__file__).resolve().parent.parent
engine = import_module("lenet_lab.engines.fit")  # the module, not the function of that name


def trained(*words):
    config = parse(
        compose_cell(["data=digits", "data.train_size=600", "trainer.threads=1", "epochs=3", *words]).resolved
    )
    return train(config, load(config.data), execution_of(config), None)[1]


@pytest.fixture
def half(monkeypatch):
    """What trainer.precision=16-mixed does on a GPU, by torch's float16 and loss scaler for the CPU."""
    trainer = pl.Trainer

    def with_scaler(scaler):
        def build(precision, plugins, **how):
            return trainer(plugins=[*plugins, MixedPrecision("16-mixed", "cpu", scaler)], **how)

        monkeypatch.setattr(engine.pl, "Trainer", build)
        return scaler

    return with_scaler


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many cores and GPUs, as far as a sweep looks at it."""

    def pretend(cores, gpus, visible=None):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
        monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return pretend


@pytest.mark.parametrize(
    ("cores", "gpus", "asked", "cells", "processes", "expected"),
    [
        (8, 0, {}, 20, 1, (8, 1)),
        (8, 0, {}, 3, 1, (3, 2)),
        (8, 0, {}, 20, 2, (4, 1)),  # DistributedDataParallel on the CPU
        (2, 0, {}, 20, 4, (1, 1)),
        (16, 4, {}, 20, 1, (4, 4)),
        (16, 4, {}, 20, 2, (2, 4)),
        (16, 1, {}, 20, 1, (1, 16)),
        (16, 4, {"accelerator": "cpu"}, 20, 1, (16, 1)),
        (16, 4, {"workers": 8}, 20, 1, (8, 2)),
        (8, 0, {"threads": 3}, 20, 1, (8, 3)),
    ],
)
def test_jobs_share_a_machine(cores, gpus, asked, cells, processes, expected, machine):
    machine(cores, gpus)
    words = {"accelerator": "auto", "workers": None, "threads": None, **asked}
    config = SimpleNamespace(trainer=SimpleNamespace(**words), sweep=SimpleNamespace(**words))
    done = SimpleNamespace(world_size=1, finished=object())
    planned = [SimpleNamespace(world_size=processes, finished=None)] * cells
    assert width(config, [done, *planned]) == expected


@pytest.mark.parametrize(
    ("asked", "packs", "expected"), [(None, 9, (8, 2)), (None, 3, (3, 5)), (2, 3, (3, 2)), (None, 0, (1, 16))]
)
def test_fewer_packs_than_workers_share_the_cores(asked, packs, expected):
    config = SimpleNamespace(sweep=SimpleNamespace(threads=asked))
    assert narrowed(config, 8, asked or 2, packs) == expected


@pytest.mark.parametrize(
    ("gpus", "visible", "processes", "workers", "given"),
    [
        (4, None, 1, 4, ["0", "1", "2", "3"]),
        (4, None, 2, 2, ["0,1", "2,3"]),
        (4, None, 1, 2, ["0", "2"]),  # beside jobs of two processes
        (3, "GPU-a,GPU-b,5", 1, 3, ["GPU-a", "GPU-b", "5"]),
        (2, None, 1, 3, ["0", "1", "0"]),  # `sweep.workers` says so
        (2, None, 2, 2, ["0,1", "1,0"]),
        (1, None, 1, 1, [None]),
        (0, None, 1, 2, [None, None]),
        (2, None, 4, 1, [None]),  # of several machines: who started the processes has dealt the GPUs out
    ],
)
def test_jobs_side_by_side_have_gpus_of_their_own(gpus, visible, processes, workers, given, machine):
    machine(8, gpus, visible)
    found = [_gpus_of(slot, processes, workers).get("CUDA_VISIBLE_DEVICES") for slot in range(workers)]
    assert found == given


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_sixteen_bits_with_a_scaler_learn_as_thirty_two_do(half, optimizer):
    words = [f"optimizer={optimizer}", "lr=0.001" if optimizer == "adam" else "lr=0.02", "norm=bn"]
    whole = trained(*words).log_book[-1]
    scaler = half(torch.amp.GradScaler("cpu"))
    mixed = trained(*words).log_book[-1]
    assert scaler.get_scale() == 2.0**16, "no step was skipped"
    assert mixed["val/loss"] != whole["val/loss"]
    assert mixed["val/loss"] == pytest.approx(whole["val/loss"], rel=0.02)
    assert mixed["val/acc"] == pytest.approx(whole["val/acc"], abs=0.03)


@pytest.mark.slow
def test_an_update_whose_scaled_gradients_overflow_is_left_out(half):
    scaler = half(torch.amp.GradScaler("cpu", init_scale=2.0**60))
    left_out = trained("data.train_size=256", "epochs=2")
    assert scaler.get_scale() == 2.0 ** (60 - 16), "each of 16 updates halves the scale"
    first, last = left_out.log_book
    assert first["val/loss"] == last["val/loss"], "the weights are those of the beginning"


def test_momentum_is_not_fused_with_a_loss_scaler():
    """Where the first step is left out, torch 2.11's fused kernel takes what the memory held for momentum."""

    def fused(*words):
        return execution_of(parse(compose_cell(["data=digits", "trainer.precision=16-mixed", *words]).resolved)).fused

    assert not fused("optimizer=momentum")
    assert fused("optimizer=adam")


@pytest.mark.slow
def test_one_process_under_ddp_is_the_run_without(tmp_path, lab):
    """Its key and its numbers; the reports and weights of one process come out of the same path as those of several."""
    words = ["data=digits", "data.train_size=200", "epochs=2", "trainer.threads=1"]
    said = [
        lab(*words, *more)
        for more in (["trainer=ddp_cpu", "trainer.devices=1"], ["tracking.uri=sqlite:///other.db", "trainer=cpu"])
    ]
    assert [one.returncode for one in said] == [0, 0], [one.stderr for one in said]
    accuracies = [re.search(r"complete; test accuracy [^\n]*", one.stdout).group() for one in said]
    assert accuracies[0] == accuracies[1]
    again = lab(*words, "trainer=cpu")
    assert "complete already, nothing trained" in again.stdout, again.stdout + again.stderr


def test_one_process_under_ddp_is_under_ddp(monkeypatch):
    built, trainer = {}, pl.Trainer
    monkeypatch.setattr(engine.pl, "Trainer", lambda **how: built.update(how) or trainer(**how))
    config = parse(
        compose_cell(
            [
                "data=digits",
                "data.train_size=64",
                "epochs=1",
                "trainer=ddp_cpu",
                "trainer.devices=1",
                "trainer.threads=1",
            ]
        ).resolved
    )
    execution = execution_of(config)
    with Ranks({}, config.trainer, execution) as ranks:
        assert (ranks.count, os.environ["WORLD_SIZE"]) == (0, "1")
        _, under = train(config, load(config.data), execution, None)
    assert built["strategy"] == "ddp"
    assert "WORLD_SIZE" not in os.environ
    assert not torch.distributed.is_initialized()
    alone = trained("data.train_size=64", "epochs=1")
    assert {**under.log_book[0], "time/epoch_s": 0} == {**alone.log_book[0], "time/epoch_s": 0}


def test_machines_that_somebody_else_has_started_keep_their_addresses(monkeypatch):
    """Under SLURM, whose processes have no LOCAL_RANK."""
    config = parse(compose_cell(["data=digits", "trainer=nodes", "trainer.accelerator=cpu"]).resolved)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("MASTER_ADDR", "first")
    before = dict(os.environ)
    with Ranks({}, config.trainer, execution_of(config)) as ranks:
        assert ranks.processes == []
        assert dict(os.environ) == before


@pytest.mark.slow
def test_two_machines_under_torchrun_train_one_run(tmp_path, lab):
    """Two agents of torchrun, as two machines have them, with one folder; the same run on one machine has its key."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "LENET_LAB_"))}
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    words = ["data=digits", "data.train_size=200", "epochs=2", "trainer.threads=1"]
    nodes = ["trainer=nodes", "trainer.accelerator=cpu", "trainer.nodes=2", "trainer.devices=1"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", port]
    agents = [
        subprocess.Popen(
            [*torchrun, "--node-rank", str(rank), "-m", "lenet_lab", *words, *nodes],
            cwd=tmp_path,
            env={**clean, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [agent.communicate(timeout=240)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], "\n".join(said)
    assert "complete; test accuracy" in said[0]
    assert "test accuracy" not in said[1], "the second says nothing and writes nothing"
    again = lab(*words, "trainer=ddp_cpu")
    assert "complete already, nothing trained" in again.stdout, again.stdout + again.stderr
