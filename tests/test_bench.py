"""`bench`: each contender does the work that it is timed for, and the table says what was measured."""

import importlib.util
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from conftest import REPOSITORY
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from lenet_lab.bench import CASES, Row, cases, judged, markdown, starts, sweeps, text
from lenet_lab.bench.contenders import CONTENDERS, LR, Work, _config, _images, lenet5
from lenet_lab.bench.limits import arithmetic, memory
from lenet_lab.bench.profile import PYTHON
from lenet_lab.bench.rows import METHOD
from lenet_lab.bench.starts import alternate
from lenet_lab.bench.stores import beginning, measured
from lenet_lab.bench.teams import Team, Teams
from lenet_lab.cell import build
from lenet_lab.cli import main
from lenet_lab.config.numbers import quote
from lenet_lab.engines import Execution
from lenet_lab.engines.execution import NVML_CHECK
from lenet_lab.sweeps.plan import compose_multirun

ADAM = ("Adam", 0.001, (0.9, 0.999), 1e-8, 0.0)  # torch's own settings


class Updates:
    """What optimizers do: how many updates, and of the weights that they have, how many numbers are others now."""

    def __enter__(self):
        self.count, self.before, self.settings = 0, {}, set()
        self.hooks = (
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
        )
        return self

    def __exit__(self, *error):
        for hook in self.hooks:
            hook.remove()

    def _before(self, optimizer, args, kwargs):
        for weights in self._weights(optimizer):
            self.before.setdefault(id(weights), (weights, weights.detach().clone()))

    def _after(self, optimizer, args, kwargs):
        self.count += 1
        for group in optimizer.param_groups:
            lr, decay = float(group["lr"]), float(group["weight_decay"])
            self.settings.add((type(optimizer).__name__, lr, group["betas"], group["eps"], decay))

    def _weights(self, optimizer):
        return [weights for group in optimizer.param_groups for weights in group["params"]]

    @property
    def changed(self):
        return sum(int((now != before).sum()) for now, before in self.before.values())


# harness, packs and Lightning train two epochs, of which the second is timed
@pytest.mark.parametrize(
    ("name", "replicas", "epochs"),
    [("bare", 1, 1), ("fastest", 1, 1), ("harness", 1, 2), ("pack", 3, 2), ("compiled", 2, 2)],
)
def test_a_contender_trains_the_epoch_that_it_is_timed_for(name, replicas, epochs, monkeypatch):
    monkeypatch.setenv(NVML_CHECK, "1")  # bare takes it away
    epoch = CONTENDERS[name](Work(8, 64, 1, replicas))
    with Updates() as updates:
        images, seconds = epoch()
    assert images == 64 * replicas
    assert 0 < seconds < 30
    assert updates.count == epochs * 64 // 8
    assert updates.changed > 0.99 * 44_426 * replicas
    if replicas == 1:
        assert updates.settings == {ADAM}


@pytest.mark.slow
def test_lightning_as_in_tutorials(mnist_root):
    epoch = CONTENDERS["lightning"](Work(32, 64, 1, root=str(mnist_root)))
    with Updates() as updates:
        images, seconds = epoch()
    assert images == 64
    assert 0 < seconds < 30
    assert updates.count == 2 * 64 // 32
    assert updates.changed > 0.99 * 44_426
    assert updates.settings == {ADAM}


def test_the_bare_loop_is_as_torch_has_it(monkeypatch):
    """The harness's switches, its setting of malloc above all, are left alone."""
    monkeypatch.setenv(NVML_CHECK, "1")
    monkeypatch.setattr(Execution, "applied", lambda self: pytest.fail("the harness's switches"))
    monkeypatch.setattr(Execution, "exact", lambda self: pytest.fail("the harness's switches"))
    CONTENDERS["bare"](Work(8, 16, 1))()
    assert NVML_CHECK not in os.environ, "Lightning's: torch would look for a GPU before every update"


@pytest.mark.parametrize("batch_norm", [False, True])
def test_they_train_the_same_network(batch_norm):
    """The same answers from the same weights, and the same weights after the same updates."""
    config = _config(Work(8, 64, 1, batch_norm=batch_norm))
    ours, theirs = build(config).double(), lenet5(batch_norm).double()
    assert sum(value.numel() for value in theirs.parameters()) == 44_426 + 44 * batch_norm
    with torch.no_grad():
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            own.copy_(other)
    images, labels = _images(32)
    images = images.double()  # Adam makes much of the last bits of next to no gradient, as of a bias before batch norm
    torch.testing.assert_close(ours(images), theirs(images))
    optimizers = [
        config.optimizer.build(list(ours.parameters()), config.lr.value, config.weight_decay.value),
        torch.optim.Adam(theirs.parameters(), LR),
    ]
    for _ in range(5):
        for net, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            outputs = net(images)
            loss = config.loss.loss(outputs, labels).mean() if net is ours else cross_entropy(outputs, labels)
            loss.backward()
            optimizer.step()
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(images), theirs(images), atol=1e-4, rtol=1e-3)
    assert config.schedule.factor(7, 8, 2) == 1.0, "a constant rate"


def test_the_limits_of_the_device_are_measured():
    cpu = torch.device("cpu")
    assert 1e8 < arithmetic(cpu, side=256) < 1e14
    assert 1e8 < memory(cpu, mebibytes=8) < 1e13


def performance():
    """docs/performance.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("performance", REPOSITORY / "docs" / "performance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_measurements():
    module = performance()
    assert module.rendered() == module.PAGE.read_text(), "python docs/performance.py"
    assert module.PICTURE.exists()


def test_what_is_different_about_older_measurements_is_said_until_they_are_made_again():
    module = performance()
    measured = json.loads(module.DATA.read_text())
    old = {"machine": "m", "rows": [{**row, "method": 1} for row in measured["rows"]]}
    new = {"machine": "m", "rows": [{**row, "method": METHOD} for row in measured["rows"]]}
    cases_there = {row["case"] for row in measured["rows"]}
    for case in module.BEFORE.keys() & cases_there:
        assert module.BEFORE[case] in module.page(old)
        assert module.BEFORE[case] not in module.page(new)
    middle = {"machine": "m", "rows": [{**row, "method": 2} for row in measured["rows"]]}
    for case in module.KERNELS.keys() & cases_there:
        assert module.KERNELS[case] in module.page(middle)
    assert module.page(middle).count("*These") == len(module.KERNELS.keys() & cases_there) + ("profile" in cases_there)
    assert not [line for line in module.page(new).splitlines() if line.startswith("*These")]
    (row,) = cases.rows_of("start", "first step", "s", {"bare imports": [1.0]}, [])
    assert row.method == METHOD


def test_the_sentences_of_the_page_are_those_of_the_measurements():
    module = performance()
    rows = [
        *cases.rows_of("side", "batch 8, 2 processes", "images/s", {"harness": [8.0], "one process": [2.0]}, []),
        *cases.rows_of("profile", "batch 8, 1 thread", "%", {"tanh": [11.0], "pooling": [12.0], PYTHON: [77.0]}, []),
        *cases.rows_of(
            "packed",
            "batch 8, 2 cores",
            "images/s",
            {"one at a time": [1.0], "side by side": [2.0], "packs of 16": [3.5]},
            [("side by side", "one at a time", None), ("packs of 16", "one at a time", 2.0)],
        ),
    ]
    rows = [row.compared("harness", [8.0], None) if row.contender == "one process" else row for row in rows]
    said = module.limits(rows)
    assert "Lightning) takes 77% at batch 8:" in said
    assert "tanh and pooling take 23% at batch 8." in said
    assert "trains 0.25 at batch 8 of what" in said
    assert "3.50 times at batch 8" in said
    assert "packs are ahead in every row" in said
    assert "3.50 times at batch 8" in module.guidance(rows, [])
    behind = [replace(row, ratio=1.5) if row.contender == "packs of 16" else row for row in rows]
    assert "packs are ahead nowhere" in module.packs(behind)
    assert module.by_batch({8: "a", 32: "b", 128: "c"}) == "a at batch 8, b at 32 and c at 128"


def test_the_page_has_a_section_of_what_a_gpu_has_shown():
    module = performance()
    measured = json.loads(module.DATA.read_text())
    page = module.page(measured, {**measured, "machine": "a machine with a GPU"})
    own, on_gpu = page.split("\n## On a GPU\n")
    assert "Measured on: a machine with a GPU." in on_gpu
    assert own.count("\n## A training epoch\n") == on_gpu.count("\n### A training epoch\n") == 1
    assert "make bench-gpu" not in on_gpu


@pytest.fixture
def forked(monkeypatch):
    """Processes of a benchmark start Python anew; here they come from a server that has the imports done."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["lenet_lab.sweeps.preload", "processes"])
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: server)


@pytest.mark.slow
def test_teams_are_asked_in_turn(forked):
    with Teams({"one": ("bare", Work(8, 64, 1), 1), "two": ("bare", Work(8, 64, 1), 2)}) as teams:
        rates = teams.rounds(2)
        processes = [process for team in teams.teams.values() for process, *_ in team.members]
    assert [len(rates[name]) for name in ("one", "two")] == [2, 2]
    assert min(rates["one"] + rates["two"]) > 0
    assert not any(process.is_alive() for process in processes)


@pytest.mark.slow
def test_a_contender_that_fails_is_named(forked):
    with pytest.raises(RuntimeError, match=r"^bare: "):
        Team().start("bare", Work(0, 64, 1)).ready().epoch()


def dies(work):
    os.write(2, b"no such kernel image\n")
    os._exit(9)


@pytest.mark.slow
def test_of_a_contender_that_died_its_last_words_are_told(forked, monkeypatch):
    monkeypatch.setitem(CONTENDERS, "bare", dies)
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: multiprocessing.context.ForkContext())
    with pytest.raises(RuntimeError, match=r"has died: no such kernel image$"):
        Team().start("bare", Work(8, 64, 1)).ready()


RATES = {"harness": [90.0, 100.0, 110.0], "loop": [100.0, 100.0, 100.0]}


def test_ratios_are_taken_within_a_round():
    slow_in_turn = {"a": [1.0, 10.0, 100.0], "b": [2.0, 20.0, 200.0]}
    row, reference = cases.rows_of("epoch", "batch 8", "images/s", slow_in_turn, [("a", "b", 0.6)])
    assert (row.ratio, row.met, row.median) == (0.5, False, 10.0)
    assert (reference.ratio, reference.met) == (None, None)
    (timed, _) = cases.rows_of("start", "help", "s", slow_in_turn, [("a", "b", 0.6)])
    assert (timed.ratio, timed.more, timed.met) == (2.0, -10.0, True)


def test_the_table_says_what_was_measured():
    rows = cases.rows_of("epoch", "batch 8", "images/s", RATES, [("harness", "loop", 0.95)])
    for table in (text(rows), markdown(rows)):
        assert "1.00 of loop" in table
        assert "at least 0.95: met" in table
        assert "90.00 images/s to 110 images/s" in table
    assert len(markdown(rows).splitlines()) == 4


def test_what_was_promised_is_judged_from_the_rounds():
    rates = {"bare loop": [50.0, 90.0], "harness": [100.0, 100.0], "Lightning": [40.0, 20.0]}
    rows = cases.rows_of("epoch", "batch 128, 2 threads", "images/s", rates, [("Lightning", "harness", None)])
    said = [(row.contender, row.against, row.goal, row.met) for row in rows]
    assert said == [
        ("bare loop", None, None, None),
        ("harness", "bare loop", 1.0, True),
        ("harness", "Lightning", 3.0, True),
        ("Lightning", "harness", None, None),
    ]
    assert rows[2].ratio == 3.75, "the median of 2.5 and 5"
    assert judged(rows) == rows, "once"
    other = cases.rows_of("epoch", "batch 32, 2 threads", "images/s", rates, [])
    assert not [row for row in other if row.against == "Lightning"], "promised for batches of 128"
    gpu = cases.rows_of("epoch", "batch 128, cuda", "images/s", rates, [])
    assert not [row for row in gpu if row.goal], "and for CPUs"


def test_the_goals_of_rows_that_were_measured_before_are_judged_too():
    """Seconds more than a reference, by the rounds in the file."""
    taken = {"empty Hydra application": (0.5, 0.5, 0.6), "--help": (0.6, 0.8, 0.7), "completion": (0.7, 0.8, 0.9)}
    rows = judged([Row("start", "help", name, "s", values) for name, values in taken.items()])
    assert [(row.more, row.met) for row in rows[1:]] == [(pytest.approx(0.1), True), (pytest.approx(0.3), False)]
    assert "at most 0.20 s more: met" in text(rows)
    assert "at most 0.20 s more: missed" in text(rows)
    assert "(+0.10 s)" in text(rows)


def test_contenders_alternate_and_the_first_round_is_not_kept():
    asked = []
    contenders = {name: lambda name=name: asked.append(name) or len(asked) for name in "ab"}
    assert alternate(contenders, 2) == {"a": [3, 6], "b": [4, 5]}
    assert "".join(asked) == "ba" + "ab" + "ba"


def test_a_job_is_what_it_adds_to_a_sweep(monkeypatch):
    """Not what a line of the sweep says that it took, which leaves out composing and forking, and has one decimal."""
    monkeypatch.setattr(starts, "sweep", lambda words, seeds: 7.0 + 0.625 * seeds)
    assert starts.job(["tracking.artifacts=full"], 10) == pytest.approx(0.625)


def lightning_works(monkeypatch, gpu):
    asked = {}

    class Quiet(Teams):
        def __enter__(self):
            asked.update(self.asked)
            return self

        def rounds(self, count):
            return {name: [1.0] * count for name in self.asked}

    monkeypatch.setattr(cases, "Teams", Quiet)
    monkeypatch.setattr(cases, "has_gpu", lambda: gpu)
    list(cases.epoch(cases.Asked(1, "/mnist", print, batches=(128,))))
    return {name: work for name, (_, work, _) in asked.items()}


def test_all_contenders_of_an_epoch_do_the_same_work(monkeypatch):
    works = lightning_works(monkeypatch, gpu=False)
    assert {"Lightning", "Lightning, 2 workers"} <= works.keys()
    assert {(work.batch, work.images, work.threads) for work in works.values() if not work.batch_norm} == {
        (128, 60_000, works["harness"].threads)
    }


@pytest.mark.slow
def test_a_first_step_ends_after_its_update(tmp_path):
    """Nothing of the run is tracked but its beginning, and both it and the imports end without taking leave."""
    code = starts.FIRST.format(status=7)
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=starts.clean(), capture_output=True)
    assert ended.returncode == 7, ended.stderr
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as base:
        states = base.execute("SELECT value FROM tags WHERE key = 'lenet.state'").fetchall()
        assert states == [("running",)]
    assert starts.IMPORTS.endswith("os._exit(0)\n")


@pytest.mark.slow
def test_the_beginning_of_a_run_is_timed_in_its_process(tmp_path):
    begun = time.perf_counter()
    seconds = [beginning(tmp_path, seed) for seed in (1, 2)]
    assert 0 < sum(seconds) < (time.perf_counter() - begun) / 2, "the imports are not in it"
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as base:
        assert base.execute("SELECT count(*) FROM runs WHERE status = 'FAILED'").fetchone() == (2,)


@pytest.mark.slow
def test_whole_sweeps_are_timed(monkeypatch):
    said = []
    monkeypatch.setattr(starts, "call", lambda words, where, more=None: said.append(words[3:]))
    ((setting, unit, values, goals),) = sweeps.whole(2, print, (8,), seeds=2, epochs=1)
    assert (setting, unit, goals) == ("2 seeds, batch 8, digits, 1 epochs", "s", [("packs", "jobs", None)])
    assert {name: len(several) for name, several in values.items()} == {"jobs": 3, "packs": 3}
    for words in said[:2]:
        compose_multirun([quote(word) for word in words[1:]])
    assert [words[-2:] for words in said[:2]] == [
        ["hydra/launcher=packed", "seed=range(2)"],
        ["hydra/launcher=lab", "seed=range(2)"],
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["nothing"],
            "bench: nothing: no such case; "
            "allowed: epoch, again, packed, side, sweep, replicas, compiled, start, stores, profile",
        ),
        (["--rounds", "0"], "bench: --rounds 0: must be 1 or more"),
        (
            ["start", "--batches", "8"],
            "bench: --batches: start has its own; allowed with: epoch, again, packed, side, sweep, replicas, compiled",
        ),
        (["epoch", "--sizes", "8"], "bench: --sizes: epoch has its own; allowed with: replicas, compiled"),
        (["--out", "/nowhere/at/all.json"], "bench: --out /nowhere/at/all.json: no folder /nowhere/at"),
    ],
)
def test_bad_input_is_one_line(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(["bench", *words])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"lenet_lab: {said}\n"


def test_sizes_are_whole_numbers(capsys):
    with pytest.raises(SystemExit) as end:
        main(["bench", "--batches", "8,x"])
    assert end.value.code == 2
    assert "argument --batches: 8,x: whole numbers, 1 or more" in capsys.readouterr().err


def test_measurements_are_written(tmp_path, monkeypatch, capsys):
    row = Row("side", "batch 8", "harness", "images/s", (1.0, 2.0, 4.0), "loop", 0.5, 0.9)
    said = []

    def side(asked):
        said.append((asked.rounds, asked.batches, asked.sizes))
        yield row

    monkeypatch.setitem(CASES, "replicas", side)
    out = tmp_path / "bench.json"
    with pytest.raises(SystemExit) as end:
        main(["bench", "replicas", "--rounds", "2", "--batches", "8,32", "--sizes", "4", "--out", str(out)])
    assert end.value.code == 0
    assert said == [(2, (8, 32), (4,))]
    (written,) = json.loads(out.read_text())["rows"]
    assert (written["median"], written["goal"]) == (2.0, 0.9)
    assert "at least 0.90: missed" in capsys.readouterr().out


def test_what_was_measured_before_a_contender_failed_is_kept(tmp_path, monkeypatch, capsys):
    row = Row("side", "batch 8", "harness", "images/s", (1.0, 2.0, 4.0))

    def side(asked):
        yield row
        raise RuntimeError("bare: no memory")

    monkeypatch.setitem(CASES, "side", side)
    with pytest.raises(SystemExit) as end:
        main(["bench", "side", "--out", str(tmp_path / "bench.json")])
    assert end.value.code == 1
    assert [one["contender"] for one in json.loads((tmp_path / "bench.json").read_text())["rows"]] == ["harness"]
    told = capsys.readouterr()
    assert "bench: side: bare: no memory" in told.err
    assert "harness" in told.out


def test_an_epoch_is_long_enough_to_be_timed():
    for batch in (1, 2, 8, 32, 100, 128, 512, 30_000):
        assert cases.images_of(batch) // 4 // batch >= 2, "a quarter of it is asked for, too"
        assert cases.images_of(batch, gpu=True) / batch >= 800


def test_who_measures_while_it_starts_does_so_alone(monkeypatch):
    told = []

    class Quiet(Team):
        def start(self, name, work, processes=1):
            self.name = name
            told.append(f"start {name}")
            return self

        def ready(self):
            told.append(f"ready {self.name}")
            return self

    monkeypatch.setattr("lenet_lab.bench.teams.Team", Quiet)
    work = Work(8, 64, 1)
    with Teams({"a": ("bare", work, 1), "b": ("fastest", work, 1), "c": ("harness", work, 1)}) as teams:
        assert list(teams.teams) == ["a", "b", "c"]
    assert told == ["start bare", "start harness", "ready bare", "ready harness", "start fastest", "ready fastest"]


@pytest.mark.slow
def test_a_contender_that_dies_between_two_epochs_is_told(forked):
    team = Team().start("bare", Work(8, 64, 1)).ready()
    team.members[0].process.kill()
    team.members[0].process.join()
    with pytest.raises(RuntimeError, match="has died"):
        team.epoch()
    team.end()


def test_a_time_that_was_promised_is_met_or_missed():
    for seconds, word in ((4.9, "met"), (5.1, "missed")):
        (row,) = cases.rows_of("stores", "10,000 runs", "s", {"status": [seconds] * 3}, [])
        assert text([row]).endswith(f"at most 5.00 s: {word}")


def test_memory_is_that_of_the_process_alone(tmp_path):
    """Not of the one that forked it, which the kernel's own peak counts."""
    held = bytearray(200 << 20)
    code = "import time; held = bytearray({} << 20); time.sleep(0.2)"
    small, large = (measured([sys.executable, "-c", code.format(size)], tmp_path).mebibytes for size in (1, 150))
    assert small < 100
    assert 150 < large < 250
    del held
