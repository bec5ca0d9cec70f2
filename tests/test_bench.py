"""`bench`: each contender does the work that it is timed for, and the table says what was measured."""

import importlib.util
import json
import multiprocessing
import os
import sys

import pytest
import torch
from conftest import REPOSITORY

from lenet_lab.bench import CASES, Row, cases, markdown, text
from lenet_lab.bench.contenders import CONTENDERS, Work, lenet5
from lenet_lab.bench.limits import arithmetic, memory
from lenet_lab.bench.starts import JOB_LINE
from lenet_lab.bench.stores import measured
from lenet_lab.bench.teams import Team, Teams
from lenet_lab.cell import build
from lenet_lab.cli import main
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import parse


@pytest.mark.parametrize(
    ("name", "replicas"), [("bare", 1), ("fastest", 1), ("harness", 1), ("pack", 3), ("compiled", 2)]
)
def test_a_contender_trains_an_epoch(name, replicas):
    images, seconds = CONTENDERS[name](Work(8, 64, 1, replicas))()
    assert images == 64 * replicas
    assert 0 < seconds < 30


@pytest.mark.slow
def test_lightning_as_in_tutorials(mnist_root):
    images, seconds = CONTENDERS["lightning"](Work(32, 64, 1, root=str(mnist_root)))()
    assert images == 64
    assert 0 < seconds < 30


@pytest.mark.parametrize(("words", "values"), [((), 44_426), (("norm=bn",), 44_470)], ids=["plain", "batch norm"])
def test_they_train_the_same_network(words, values):
    """From the same weights: the same outputs and gradients."""
    config = parse(compose_cell(["data=digits", *words]).resolved)
    ours, theirs = build(config).double(), lenet5(batch_norm=bool(words)).double()
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    assert sum(value.numel() for value in theirs.parameters()) == values
    for one, other in pairs:
        other.data.copy_(one.data)
    images, labels = torch.randn(8, 1, 28, 28, dtype=torch.float64), torch.arange(8)
    outputs = [net.train()(images) for net in (ours, theirs)]
    torch.testing.assert_close(*outputs)
    config.loss.loss(outputs[0], labels).mean().backward()
    torch.nn.functional.cross_entropy(outputs[1], labels).backward()
    for one, other in pairs:
        torch.testing.assert_close(one.grad, other.grad)


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
    (timed, _) = cases.rows_of("start", "help", "s", slow_in_turn, [("a", "b", 0.6)], less_is_better=True)
    assert (timed.ratio, timed.met) == (2.0, True)


def test_the_table_says_what_was_measured():
    rows = cases.rows_of("epoch", "batch 8", "images/s", RATES, [("harness", "loop", 0.95)])
    for table in (text(rows), markdown(rows)):
        assert "1.00 of loop" in table
        assert "at least 0.95: met" in table
        assert "90.00 images/s to 110 images/s" in table
    assert len(markdown(rows).splitlines()) == 4


def test_the_line_of_a_job_is_found():
    assert JOB_LINE.findall("[1/2] complete     2.6 s  data=digits seed=3  87.50%\nother\n") == ["2.6"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["nothing"],
            "bench: nothing: no such case; allowed: epoch, packed, side, replicas, compiled, start, stores, profile",
        ),
        (["--rounds", "0"], "bench: --rounds 0: must be 1 or more"),
        (
            ["start", "--batches", "8"],
            "bench: --batches: start has its own; allowed with: epoch, packed, side, replicas, compiled",
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
