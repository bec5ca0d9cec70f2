"""Runs trained together are tracked as runs: each its own metrics, artifacts, failure and end."""

import json
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from lenet_lab.cell import make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.engines.fates import Fate
from lenet_lab.engines.pack import fit_pack
from lenet_lab.packs import run_pack
from lenet_lab.run import run
from lenet_lab.signals import Stopped
from lenet_lab.sweeps import memory
from lenet_lab.sweeps.plan import make_plan
from lenet_lab.sweeps.shapes import cuts, room, shape, together
from lenet_lab.tracking import TakenOver, TrackedRun, open_store, read_runs
from lenet_lab.train import execution_of

FEW = ("data=digits", "data.train_size=200", "epochs=2", "tracking.artifacts=minimal")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LENET_LAB_TIMING", "alone")
    return tmp_path


def cell(*words):
    return make_ready(compose_cell([*FEW, *words]))


def by_seed(store):
    return {record.seed: record for record in read_runs(store)}


@pytest.mark.slow
def test_every_run_of_a_pack_is_a_run(folder):
    cells = [cell(f"seed={seed}", "norm=bn", "dropout=0.2") for seed in range(3)]
    assert [outcome.state for outcome in run_pack(cells)] == ["complete"] * 3
    store = open_store()
    together = by_seed(store)
    assert [together[seed].tags["lenet.timing"] for seed in range(3)] == ["packed"] * 3
    assert {json.loads(record.tags["lenet.execution"])["engine"] for record in together.values()} == {"replicas"}
    for record in together.values():
        files = {path.name for path in (Path("mlartifacts")).rglob(f"*{record.run_id}*/**/*")}
        assert {"config.yaml", "predictions.npz", "weights.safetensors"} <= files
        history = store.client.get_metric_history(record.run_id, "val/acc")
        assert [point.step for point in history] == [1, 2]
    assert [outcome.state for outcome in run_pack(cells)] == ["done"] * 3
    again = run(cell("seed=1", "norm=bn", "dropout=0.2"))
    assert again.state == "done"
    assert again.run_id == together[1].run_id


@pytest.mark.slow
def test_a_run_alone_comes_to_the_same_accuracy(folder):
    for outcome in run_pack([cell(f"seed={seed}") for seed in range(2)]):
        assert outcome.state == "complete"
    packed = by_seed(open_store())
    other = run(cell("seed=1", f"tracking.uri=sqlite:///{folder}/other.db"))
    assert other.figures["test/loss"] == pytest.approx(packed[1].metrics["test/loss"], rel=1e-3)
    assert other.figures["epochs"] == packed[1].metrics["epochs"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "kind", "tolerance"), [("64-true", torch.float64, 1e-12), ("bf16-mixed", torch.float32, 1e-2)]
)
def test_a_pack_is_as_precise_as_a_run_alone(precision, kind, tolerance, folder):
    """In test figures and in the weights that are kept."""
    words = ("data.train_size=40", f"trainer.precision={precision}", "seed=1")
    (outcome,) = run_pack([cell(*words)])
    other = run(cell(*words, f"tracking.uri=sqlite:///{folder}/other.db"))
    assert [outcome.state, other.state] == ["complete", "complete"], [outcome.error, other.error]
    assert outcome.figures["test/loss"] == pytest.approx(other.figures["test/loss"], rel=tolerance)
    for run_id in (outcome.run_id, other.run_id):
        (file,) = folder.glob(f"**/{run_id}/artifacts/weights.safetensors")
        assert {value.dtype for value in load_file(file).values()} == {kind}


@pytest.mark.slow
def test_a_diverging_run_is_an_outcome_of_its_own():
    cells = [cell("optimizer=sgd", "activation=relu", f"lr={rate}") for rate in ("0.01", "1e30", "0.02")]
    assert [outcome.state for outcome in run_pack(cells)] == ["complete", "diverged", "complete"]


@pytest.mark.slow
def test_the_machine_is_watched_for_every_run_of_a_pack(monkeypatch):
    watched, ended = [], []

    @contextmanager
    def system_metrics(store, run_id, wanted):
        watched.append((run_id, wanted))
        yield
        ended.append(run_id)

    monkeypatch.setattr("lenet_lab.run.system_metrics", system_metrics)
    monkeypatch.setattr("lenet_lab.config.schema.find_spec", lambda name: name)  # psutil need not be there
    monkeypatch.setattr("lenet_lab.train.fit_pack", out_of_memory)
    outcomes = run_pack([cell("tracking.system_metrics=true", f"seed={seed}") for seed in range(2)])
    assert watched == [(outcome.run_id, True) for outcome in outcomes]
    assert ended == [outcome.run_id for outcome in reversed(outcomes)]


@pytest.mark.slow
def test_a_run_that_is_taken_over_leaves_its_neighbours_alone(monkeypatch):
    cells, real = [cell("data.train_size=40", f"seed={seed}") for seed in range(3)], TrackedRun.metrics

    def metrics(tracked, values, step=0):
        if tracked.key == cells[1].key and step == 2:
            raise TakenOver("somebody is training it")
        real(tracked, values, step)

    monkeypatch.setattr(TrackedRun, "metrics", metrics)
    outcomes = run_pack(cells)
    assert [outcome.state for outcome in outcomes] == ["complete", "busy", "complete"]
    assert outcomes[1].error == "somebody is training it"
    assert [by_seed(open_store())[seed].state for seed in (0, 2)] == ["complete", "complete"]


@pytest.mark.slow
def test_a_run_that_other_code_has_begun_fails_alone(monkeypatch):
    old, *new = (cell("data.train_size=40", f"seed={seed}") for seed in range(3))
    with monkeypatch.context() as before:
        before.setattr("lenet_lab.provenance.code_digest", lambda: "f" * 64)
        before.setattr(Fate, "finish", out_of_memory)
        assert run_pack([old])[0].state == "failed"
    outcomes = run_pack([new[0], old, new[1]])
    assert [outcome.state for outcome in outcomes] == ["complete", "failed", "complete"]
    assert "begun by another version of the code; sweep.changed_code=continue" in outcomes[1].error
    assert [record.state for _, record in sorted(by_seed(open_store()).items())] == ["failed", "complete", "complete"]


@pytest.mark.slow
def test_a_pack_goes_on_with_each_run_as_it_was_begun(monkeypatch):
    """A run of before subnormal numbers counted as zero keeps them; a new one beside it does not."""
    begun, new = cell("seed=0"), cell("seed=1")
    with monkeypatch.context() as before:
        before.setattr(
            "lenet_lab.run.execution_of",
            lambda config, packed: replace(execution_of(config, packed), flush_denormals=False),
        )
        before.setattr("lenet_lab.train.fit_pack", out_of_memory)
        assert run_pack([begun])[0].state == "failed"
    trained = []

    def watched(replicas, *rest):
        trained.append([(one.recipe.seed, one.recipe.execution.flush_denormals) for one in replicas])
        return fit_pack(replicas, *rest)

    monkeypatch.setattr("lenet_lab.train.fit_pack", watched)
    assert [outcome.state for outcome in run_pack([begun, new])] == ["complete", "complete"]
    assert trained == [[(0, False)], [(1, True)]]
    records = by_seed(open_store())
    assert [json.loads(records[seed].tags["lenet.execution"])["flush_denormals"] for seed in (0, 1)] == [False, True]


def cut_after(epoch, monkeypatch, several, trained):
    """Train until a signal comes in the epoch after this one."""
    real = TrackedRun.metrics

    def metrics(tracked, values, step=0):
        real(tracked, values, step)
        if step == epoch + 1 and "val/loss" in values:
            raise Stopped(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(TrackedRun, "metrics", metrics)
        with pytest.raises(Stopped):
            trained(several)


@pytest.mark.slow
def test_what_was_begun_in_a_pack_goes_on_alone_as_a_pack_of_one(monkeypatch, capsys):
    cells = [cell("data.train_size=40", "epochs=4", f"seed={seed}") for seed in range(2)]
    cut_after(2, monkeypatch, cells, run_pack)
    begun, epochs = by_seed(open_store()), []
    assert [one.shape is not None for one in make_plan(cells, open_store()).cells] == [True, True]
    outcome = run(cells[1], lambda epoch, done, figures: epochs.append(epoch))
    assert outcome.state == "complete"
    assert outcome.run_id == begun[1].run_id
    assert min(epochs) == 2
    tags = by_seed(open_store())[1].tags
    assert (json.loads(tags["lenet.execution"])["engine"], tags["lenet.timing"]) == ("replicas", "packed")
    assert "begun anew" not in capsys.readouterr().err


@pytest.mark.slow
def test_what_was_begun_alone_is_not_packed_and_a_pack_says_when_it_begins_anew(monkeypatch, capsys):
    cells = [cell("data.train_size=40", "epochs=3", f"seed={seed}") for seed in range(2)]
    cut_after(1, monkeypatch, cells[0], run)
    assert [one.shape is None for one in make_plan(cells, open_store()).cells] == [True, False]
    assert "begun anew" not in capsys.readouterr().err
    assert [outcome.state for outcome in run_pack(cells)] == ["complete", "complete"]
    line = f"{cells[0].name}: begun by the engine `single`, from whose checkpoints `replicas` cannot go on: begun anew"
    said = capsys.readouterr().err
    assert (said.count("begun anew"), said.count(line)) == (1, 1)


def out_of_memory(*_):
    raise MemoryError("no more of it")


def test_what_fits_together(monkeypatch):
    base = shape(of("seed=0"))
    for words in ("seed=1", "lr=0.5", "weight_decay=0.1", "init=he_normal"):
        assert shape(of(words)) == base
    for words in ("pool=max", "batch_size=8", "epochs=3", "optimizer=sgd", "dropout=0.1", "weight_decay=l1"):
        assert shape(of(words)) not in (base, None)
    for words in ("model=knn epochs=5", "averaging=ema", "trainer=ddp_cpu"):
        assert shape(of(words)) is None
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert shape(of("trainer.precision=16-mixed trainer.accelerator=auto")) is None
    assert shape(of("trainer.precision=bf16-mixed")) is not None


@pytest.mark.parametrize(
    ("groups", "workers", "sizes"),
    [
        ([3], 2, [2, 1]),
        ([2] * 24, 2, [2] * 24),
        ([2] * 25, 2, [2] * 25),  # an odd one at the end is not worth two jobs
        ([5] * 6, 8, [3, 2, 3, 2, 5, 5, 5, 5]),
        ([17], 2, [9, 8]),
        ([33], 2, [9, 8, 8, 8]),  # [11, 11, 11] would take 22 and not 17
        ([32], 1, [16, 16]),
        ([3], 8, [1, 1, 1]),
        ([1] * 5, 2, [1] * 5),
        ([], 2, []),
    ],
)
def test_packs_are_as_large_as_keeps_all_workers_busy(groups, workers, sizes):
    assert [size for group in cuts(groups, [16] * len(groups), workers) for size in group] == sizes


def test_many_workers_share_many_arms():
    packs = [size for group in cuts([10] * 10, [16] * 10, 64) for size in group]
    assert len(packs) == 64
    assert set(packs) == {1, 2}
    packs = [size for group in cuts([100] * 10, [16] * 10, 64) for size in group]
    assert 64 <= len(packs) <= 128
    assert max(packs) <= 16


@pytest.mark.parametrize(("pack", "sizes"), [(None, [2, 1, 2, 2, 2, 1]), (5, [3, 5, 1, 1]), (1, [1] * 10)])
def test_a_sweep_is_divided_by_shape(pack, sizes, monkeypatch):
    """All cells once, in their order; those that fit nobody by themselves; `sweep.pack` is taken as it is said."""
    monkeypatch.setattr("lenet_lab.sweeps.shapes.cell_of", lambda *_: None)
    monkeypatch.setattr("lenet_lab.sweeps.shapes.make_ready", lambda _: SimpleNamespace(config=None))
    monkeypatch.setattr("lenet_lab.sweeps.shapes.room", lambda config, workers: 16)
    shapes = [("a",)] * 3 + [("b",)] * 6 + [None]
    waiting = [(i, SimpleNamespace(shape=one, overrides=())) for i, one in enumerate(shapes)]
    composed = SimpleNamespace(hydra=SimpleNamespace(runtime=SimpleNamespace(choices={})))
    config = SimpleNamespace(sweep=SimpleNamespace(pack=pack))
    packs = together(config, waiting, lambda index: composed, 6)
    assert [len(pack) for pack in packs] == sizes
    assert [member for pack in packs for member in pack] == waiting
    assert all(len({planned.shape for _, planned in pack}) == 1 for pack in packs)


def of(words):
    return cell(*words.split())


def test_memory_decides_how_many(monkeypatch):
    config = cell("batch_size=8").config
    there = {"free": 1 << 40}
    monkeypatch.setattr(memory, "free", lambda root: there["free"])
    assert room(config, 1) == 16
    there["free"] = 40 * 1000 * 1000
    few = room(config, 1)
    assert 2 <= few < 16
    assert room(config, 2) == few // 2
    assert room(cell("batch_size=8", "trainer.precision=64-true").config, 1) == few // 2
    there["free"] = 0
    assert room(config, 1) == 1


def test_memory_is_what_the_system_and_the_container_leave(tmp_path):
    """Cached files count as free; the tightest of the limits above a process counts."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   5000 kB\n")
    assert memory.free(tmp_path) == 5_120_000
    (tmp_path / "proc/self/cgroup").write_text("0::/jobs/mine\n")
    groups = tmp_path / "sys/fs/cgroup"
    for group, limit, used, cached in (("jobs/mine", "max", 10, 0), ("jobs", "3000000", 2_500_000, 400_000)):
        (groups / group).mkdir(parents=True, exist_ok=True)
        (groups / group / "memory.max").write_text(f"{limit}\n")
        (groups / group / "memory.current").write_text(f"{used}\n")
        (groups / group / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\n")
    assert memory.free(tmp_path) == 900_000
    assert memory.share(torch.device("cpu"), 3, tmp_path) == 300_000


def test_a_gpu_is_shared_by_its_own_workers_alone(monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (600, 1000))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert [memory.share(torch.device("cuda"), workers) for workers in (1, 4, 5, 12)] == [600, 600, 300, 200]


@pytest.mark.slow
def test_a_packed_sweep_trains_what_fits_together_and_the_rest_as_jobs(lab):
    words = (
        *("-m", "hydra/launcher=packed", *FEW[:2], "epochs=1", "tracking.artifacts=minimal", "sweep.workers=1"),
        *("averaging=none,ema", "seed=0,1"),
    )
    first = lab(*words)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("\ncomplete") == 4
    engine = {r.name: json.loads(r.tags["lenet.execution"])["engine"] for r in read_runs(open_store())}
    assert sorted(engine.values()) == ["replicas", "replicas", "single", "single"]
    assert {value for name, value in engine.items() if "none" in name} == {"replicas"}
    again = lab(*words)
    assert again.returncode == 0
    assert "4 done already" in again.stderr
