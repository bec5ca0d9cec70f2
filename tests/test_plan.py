"""Before a sweep: what it will cost, and what is wrong with its design."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from report_study import run

from lenet_lab.cell import build
from lenet_lab.config.numbers import quote
from lenet_lab.outcome import Outcome
from lenet_lab.records import LabError
from lenet_lab.stats import seeds_needed
from lenet_lab.study import Study
from lenet_lab.sweeps.forecast import MACS_S, RUN_S, UPDATE_S, duration, forecast
from lenet_lab.sweeps.launch import Job, Pool
from lenet_lab.sweeps.lint import lints, spread
from lenet_lab.sweeps.plan import Planned, compose_multirun
from lenet_lab.sweeps.screen import SweepScreen


def cells_of(*words, seeds=1):
    """The cells of a grid; seeds are set, not composed, which would take their number of times as long."""
    composed = compose_multirun([quote(word) for word in ("data=digits", *words)])
    return [
        replace(ready, key=f"{ready.key}-{seed}", config=replace(ready.config, seed=seed))
        for ready in composed
        for seed in range(seeds)
    ]


def found(*words, seeds=6, study=None, records=(), difference=None):
    return lints(cells_of(*words, seeds=seeds), study, records, difference)


def test_a_sound_design_has_no_lints():
    assert found("pool=avg,max") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("dropout.place=fc,conv",),
            "changes nothing: dropout.place=fc and dropout.place=conv build",
        ),
        (("optimizer=adam,adamw",), "changes nothing: optimizer=adam and optimizer=adamw"),
        (
            ("schedule=step", "schedule.step_size=5,7"),
            "changes nothing: schedule.step_size=5 and schedule.step_size=7",
        ),
        (("early_stopping=5,9",), "changes nothing: early_stopping=5 and early_stopping=9"),
        (("pool=avg,conv",), "confounded by size: along pool networks have 44,426 to 45,616 parameters (+3%)"),
        (("data.size=28,32",), "confounded by size: along data.size networks have 44,426 to 61,706 parameters (+39%)"),
        (("model=lenet5,lenet5_1998",), "confounded by budget: along model arms train on 5 x 1,237, 20 x 1,237"),
        (("pool=max,conv",), "no baseline: no arm has what the default configuration has (pool=avg); add it"),
    ],
)
def test_what_is_wrong_is_said(words, said):
    lines = found(*words)
    assert [line for line in lines if line.startswith(said)], lines


@pytest.mark.parametrize(
    "words",
    [
        ("dropout=0.1", "dropout.place=fc,conv"),
        ("optimizer=adam,adamw", "weight_decay=0.01"),
        ("schedule=step", "schedule.step_size=2,4"),
        ("early_stopping=2,3",),
        ("model.units=[120,84],[60,42]",),
        ("epochs=5,10",),
    ],
)
def test_what_is_not_wrong_is_not_said(words):
    lines = found(*words)
    assert not [line for line in lines if line.startswith(("changes", "confounded"))], lines


def test_adamw_without_decay_is_adam():
    """The finding itself, on torch."""
    (one, other) = cells_of("optimizer=adam,adamw")
    weights = []
    for ready in (one, other):
        net = build(ready.config)
        optimizer = ready.config.optimizer.build(list(net.parameters()), 0.01, 0.0)
        images = torch.linspace(-1, 1, 4 * 28 * 28).reshape(4, 1, 28, 28)
        for _ in range(3):
            optimizer.zero_grad()
            net(images).square().sum().backward()
            optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(*weights)


def test_a_cell_spelled_twice_is_named():
    (line,) = (line for line in found("lr=0.001,1e-3") if "spelled" in line)
    assert line.startswith("6 cells are spelled twice; each is trained once")


def test_seeds_that_cannot_reach_the_level():
    (line,) = found("pool=avg,max", seeds=5)
    assert line == 'too few seeds: with 5 an exact sign-flip test cannot reach p < 0.05; 6 can: seed="range(6)"'
    (line,) = found("pool=avg,max", "norm=none,bn")
    assert line.endswith('6 can for one comparison, 7 for the family (3 comparisons, Holm): seed="range(7)"')
    study = Study("x", "pool=avg norm=none", ("pool", "norm"), ("pool=max norm=none",))
    assert found("pool=avg,max", "norm=none,bn", study=study) == [], "a family of one"


def test_a_study_whose_baseline_is_not_there():
    (line,) = found("pool=avg,max", study=Study("x", "pool=avg norm=bn", ("pool",)))
    assert line.startswith("study=x: 'pool=avg norm=bn': selects no arm")


def test_seeds_for_a_difference():
    cells = cells_of("pool=avg,max", seeds=6)
    sd = math.sqrt(0.98 * 0.02 / 360)
    assert spread(cells[0], []) == (pytest.approx(sd), "supposed: the binomial error of 360 test images at 98%")
    (line,) = lints(cells, None, [], 0.005)
    needed = seeds_needed(math.sqrt(2) * sd, 0.005)
    assert line.startswith(
        f"too few seeds for a difference of 0.5 points: {needed} find it 80% of the time, here are 6"
    )
    params = {"data.name": "digits"}
    several = [run(arm, seed, params, accuracy=0.9 + 1e-4 * (seed % 2)) for arm in "ab" for seed in range(4)]
    assert spread(cells[0], several) == (pytest.approx(1e-4 * math.sqrt(1 / 3)), "from 8 finished runs on this data")
    assert lints(cells, None, several, 0.005) == [], "six seeds will do with so small a spread"


def test_a_forecast_takes_the_closest_finished_runs():
    cells = cells_of("pool=avg,max", "epochs=4")
    shared = {"data.name": "digits", "model": "lenet5", "batch_size.value": "32"}
    speeds = {"images_per_s": 1000.0, "time/train_s": 5.0, "time/total_s": 7.0}
    like = run("other", 0, shared, metrics=speeds)
    same = run(cells[0].arm, 1, shared, metrics={**speeds, "images_per_s": 500.0})
    away = run("away", 0, {**shared, "data.name": "mnist"}, metrics={**speeds, "images_per_s": 9.0})
    images = 4 * 1237
    one = forecast(cells, [like, away], workers=1)
    assert one.seconds == pytest.approx(2 * (images / 1000 + 2))
    assert one.basis == "2 from finished runs with the same data, model and batch (1,000 images/s)"
    two = forecast(cells, [like, same], workers=1)
    assert two.seconds == pytest.approx(images / 500 + images / 750 + 4), "the median of both for the other arm"
    beside = forecast(cells, [like, same], workers=2)
    assert beside.seconds == pytest.approx(images / 500 + 2), "no sweep is shorter than its longest run"
    assert two.bytes == 1_000_000


def test_a_forecast_without_runs_states_its_rule():
    (ready,) = cells_of()
    macs = 24 * 24 * 6 * 25 + 8 * 8 * 16 * 150 + 256 * 120 + 120 * 84 + 840
    images = 5 * 1237
    cost = forecast([ready], [], workers=2)
    assert cost.seconds == pytest.approx(images * 3 * macs / MACS_S + images / 32 * UPDATE_S + RUN_S)
    assert cost.basis.startswith("1 from a rule: 3 multiply-accumulates an image at 7e+09 a second")


def test_durations():
    assert [duration(s) for s in (12, 89, 100, 5000, 7200)] == ["12 s", "89 s", "2 min", "83 min", "2.0 h"]


@pytest.mark.parametrize("word", ["--difference=2", "--difference=x", "--difference"])
def test_a_difference_that_is_none(word):
    from lenet_lab.commands.plan import main

    with pytest.raises(LabError, match="a share of the test images"):
        main(["-m", word])


def test_the_option_is_taken_out_of_the_words():
    from lenet_lab.commands.plan import _difference

    assert _difference(["-m", "--difference", "0.01", "pool=avg"]) == (0.01, ["-m", "pool=avg"])
    assert _difference(["--difference=0.01", "pool=avg"]) == (0.01, ["pool=avg"])


def test_a_run_of_a_pack_speaks_for_training_and_not_for_what_is_beside():
    """Its `time/total_s` is what the whole pack took."""
    (ready,) = cells_of("epochs=4")
    shared = {"data.name": "digits", "model": "lenet5", "batch_size.value": "32"}
    figures = {"images_per_s": 4000.0, "time/train_s": 5.0, "time/total_s": 80.0}
    packed = run("other", 0, shared, metrics=figures, tags={"lenet.timing": "packed"})
    only = forecast([ready], [packed], workers=1)
    assert only.seconds == pytest.approx(4 * 1237 / 4000 + RUN_S)
    assert only.basis == "1 from finished runs with the same data, model and batch, in packs (4,000 images/s)"
    job = run("other", 1, shared, metrics={"images_per_s": 1000.0, "time/train_s": 5.0, "time/total_s": 7.0})
    both = forecast([ready], [packed, job], workers=1)
    assert both.seconds == pytest.approx(4 * 1237 / 1000 + 2)


def shown(total, done=0):
    """A screen of a sweep that began 100 seconds ago."""
    screen = SweepScreen(total, done)
    screen.started = time.perf_counter() - 100
    return screen


def test_a_pack_is_as_many_cells_as_it_trains():
    ready = cells_of()[0]
    pack = [(index, planned(ready)) for index in range(16)]
    screen = shown(32)
    for slot in range(2):
        screen.start(slot, "a pack", 4, len(pack))
        screen.report(slot, 2, 0.0, {})
    assert screen.remaining() == pytest.approx(100, abs=1)
    ended = Outcome("", "", "complete", seconds=1.0)
    for _ in range(8):
        screen.end(0, ended)
    assert screen.remaining() == pytest.approx(100 / (8 + 4 + 8) * 12, abs=1), "eight ended, eight of it still run"
    for _ in range(8):
        screen.end(0, ended)
    assert list(screen.running) == [1]
    assert screen.remaining() == pytest.approx(100 / 24 * 8, abs=1)


def test_a_job_is_one_cell():
    screen = shown(5, done=1)
    assert screen.remaining() is None, "nothing is known yet"
    screen.start(0, "a job", epochs=4)
    screen.report(0, 1, 0.0, {})
    assert screen.remaining() == pytest.approx(100 / 0.25 * 3.75, abs=5)


def planned(ready):
    return Planned(ready.key, ready.arm, ready.name, 4, 1, ())


def test_the_next_job_is_composed_while_others_run(monkeypatch):
    """One ahead and no more; not when the sweep is to end."""
    said = []

    class Watched(Pool):
        def _start(self, job):
            said.append(f"start {job.log}{', composed' if job.order else ''}")
            job.order = None
            self.running.append(job)

        def _listen(self):
            said.append("listen")
            self.stopped_by = 15 if len(said) > 7 else None

        def _ended(self, job):
            return True

        def _reap(self, job, queue):
            self.running.remove(job)

    monkeypatch.setattr("lenet_lab.sweeps.launch.context", lambda: None)
    jobs = deque()
    for name in "abcde":
        jobs.append(Job([], lambda name=name: said.append(f"compose {name}") or "order", name))
    pool = Watched(SimpleNamespace(fail_fast=False), 1, {}, None, 5)
    pool.run(jobs)
    assert said == [
        *("start a", "compose b", "listen", "start b, composed", "compose c", "listen", "start c, composed"),
        *("compose d", "listen"),
    ]
