"""diff: what sets runs apart, the likeliest reason first; rerun: the same run again, bit for bit or not."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from dataclasses import replace

import pytest
from report_study import curve, run, study
from sharing import shared

from lenet_lab.cell import make_ready
from lenet_lab.cli import main
from lenet_lab.commands import diff
from lenet_lab.config.compose import compose_cell
from lenet_lab.records import LabError
from lenet_lab.report.diff_figures import curves, mean, spark
from lenet_lab.report.differences import differences, matters
from lenet_lab.run import run as train
from lenet_lab.study import Study
from lenet_lab.tracking import find, open_store, read_runs
from lenet_lab.tracking.exports import read_export, write_export
from lenet_lab.tracking.imports import import_runs
from lenet_lab.tracking.parents import find_parent, open_parent, study_of

EXECUTION = {"threads": 1, "memory_format": "contiguous", "device": "cpu", "code": "c1", "versions": {"torch": "2.0"}}


def one(seed=0, params=None, tags=None, **execution):
    """A run with an execution record."""
    record = json.dumps({**EXECUTION, **execution})
    return run("a", seed, params or {"pool": "avg"}, tags={"lenet.execution": record, **(tags or {})})


def test_the_likeliest_reason_comes_first():
    left = one(0, {"pool": "avg", "data.train_size": "100"}, {"lenet.host": "here"})
    other = {"lenet.data_digest": "d2", "lenet.code": "c2", "lenet.host": "there"}
    right = one(1, {"pool": "max", "data.train_size": "200"}, other, threads=2, versions={"torch": "2.1"}, code="c2")
    rows = differences([left], [right])
    assert [(row.kind, row.key, row.left, row.right) for row in rows] == [
        ("data", "digest", "d1", "d2"),
        ("data", "data.train_size", "100", "200"),
        ("configuration", "pool", "avg", "max"),
        ("seed", "seed", "0", "1"),
        ("code", "training modules", "c1", "c2"),
        ("libraries", "torch", "2.0", "2.1"),
        ("execution", "threads", "1", "2"),
        ("surroundings", "host", "here", "there"),
    ]
    assert matters(rows) == rows[:-1]


def test_equal_runs_have_no_differences_and_a_commit_alone_is_none():
    assert differences([one()], [one()]) == []
    commits = [{"mlflow.source.git.commit": digit * 40} for digit in "12"]
    rows = differences([one(tags=commits[0])], [one(tags=commits[1])])
    assert [row.kind for row in rows] == ["surroundings"], "the same modules give the same numbers"
    (_, row) = differences([one(tags=commits[0])], [one(tags={**commits[1], "lenet.code": "c2"})])
    assert (row.kind, row.key) == ("code", "commit")


def test_an_option_shows_its_keys_and_a_key_of_the_same_option_stands_alone():
    none = {"norm": "none", "norm._target_": "x.NoNorm"}
    two = {"norm": "gn", "norm._target_": "x.GroupNorm", "norm.groups": "2", "norm.place": "conv"}
    (row,) = differences([one(params=none)], [one(params=two)])
    assert (row.key, row.left, row.right) == ("norm", "none", "gn (groups=2 place=conv)")
    (row,) = differences([one(params=two)], [one(params={**two, "norm.groups": "3"})])
    assert (row.key, row.left, row.right) == ("norm.groups", "2", "3")


def test_arms_are_compared_by_what_all_their_runs_have():
    records, _ = study()
    left = [record for record in records if record.arm == "avg-none"]
    right = [record for record in records if record.arm == "avg-bn"]
    assert [(row.key, row.left, row.right) for row in differences(left, right)] == [("norm", "none", "bn")]
    (row,) = differences(left, left[:1])
    assert (row.kind, row.left, row.right) == ("seed", "0, 1, 2", "0")


def test_a_tag_cannot_reach_the_terminal():
    (row,) = differences([one()], [one(params={"pool": "\x1b[31mred\n"})])
    assert row.right.isprintable()


def test_a_side_is_a_run_or_an_arm():
    records, _ = study()
    records = [*records, run("avg-none", 0, {"pool": "avg", "norm": "none"}, run_id="later", end_ms=9000)]
    records.append(run("avg-none", 7, {"pool": "avg", "norm": "none"}, run_id="broken", state="failed"))
    side = diff.find_side(records, "pool=avg norm=none")
    assert [record.run_id for record in side.runs] == ["later", "avg-none-1", "avg-none-2"], "of two runs the later"
    assert [record.run_id for record in diff.find_side(records, "pool=avg norm=none seed=1").runs] == ["avg-none-1"]
    assert [record.state for record in diff.find_side(records, "brok").runs] == ["failed"]
    numbered = [replace(record, run_id=f"{number:032x}") for number, record in enumerate(records)]
    assert [record.arm for record in diff.find_side(numbered, "max-b").runs] == ["max-bn"] * 3
    for text, line in (
        ("pool=avg", "'pool=avg': selects 3 arms; say also norm"),
        ("pool=x", "'pool=x': selects no arm; there are: pool=avg, pool=max"),
        ("max", "'max': several runs or arms begin so; there are runs: "),
        ("zzz", "'zzz': no runs or arms begin so; there are runs: "),
        ("", "'': no runs or arms begin so; there are runs: "),
    ):
        with pytest.raises(LabError, match=re.escape(line)):
            diff.find_side(records, text)


def test_results_are_paired_by_seed():
    accuracies = {"a": {0: 0.90, 1: 0.92, 2: 0.97}, "b": {1: 0.93, 2: 0.99}}
    sides = [
        diff.Side(arm, tuple(run(arm, seed, {}, accuracy=value) for seed, value in by_seed.items()))
        for arm, by_seed in accuracies.items()
    ]
    rows = {row[0]: row[1:] for row in diff.results(*sides)}
    # differences 1 and 2 points: mean 1.5, sd 1/sqrt 2, t(1, 0.975) = 12.706: half width 12.706 * 0.5
    left, right, gap = rows["test accuracy, %"]
    assert (left, right) == ("93.00 ± 3.61 (n=3)", "96.00 ± 4.24 (n=2)")
    assert gap == "+1.50, 95% -4.85 to +7.85 (paired, n=2)"
    assert rows["parameters"] == ("44,426 (all 3)", "44,426 (all 2)", "+0")
    beside = diff.Side("b", tuple(run("b", 1, {}, tags={"lenet.timing": "shared"}) for _ in range(1)))
    assert {row[0]: row[3] for row in diff.results(sides[0], beside)}["train time, s"].startswith("not compared")


def test_sparklines():
    assert spark([0, 1, 2, 3, 4, 5, 6, 7], 0, 7) == "▁▂▃▄▅▆▇█"
    assert spark([5, 5], 5, 5) == "▄▄", "a flat line has no scale"
    long = spark(list(range(1000)), 0, 999, width=40)
    assert len(long) == 40
    assert (long[0], long[-1]) == ("▁", "█")
    assert mean([((1, 2.0), (2, 4.0)), ((1, 4.0),)]) == [(1, 3.0)], "epochs that all runs reached"


def test_the_picture(tmp_path):
    sides = {name: {"val/acc": [curve(level, seed)["val/acc"] for seed in range(2)]} for name, level in
             (("A: pool=max $x$", 0.99), ("B: pool=avg", 0.98))}  # fmt: skip
    curves(tmp_path / "one.png", sides, ("val/acc", "val/loss"))
    curves(tmp_path / "two.png", sides, ("val/acc", "val/loss"))
    content = (tmp_path / "one.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content == (tmp_path / "two.png").read_bytes()


# a store, and its runs again


def make(folder):
    """Two cells: one with its model as a graph, one with its bare weights; and an export without files."""
    uri = f"sqlite:///{folder}/mlflow.db"
    tiny = (
        "data=digits",
        "data.train_size=64",
        "epochs=2",
        "batch_size=16",
        "trainer.threads=1",
        f"tracking.uri={uri}",
    )
    for words in (("pool=max",), ("pool=avg", "tracking.artifacts=minimal", "dropout=0.2")):
        assert train(make_ready(compose_cell([*tiny, f"tracking.uri={uri}", *words]))).state == "complete"
    store = open_store(uri)
    cells = [{"key": r.key, "arm": r.arm, "name": r.name, "overrides": []} for r in read_runs(store)]
    open_parent(store, "5" * 64, "tiny", cells[:1], Study("tiny", "pool=max", ("pool",)))
    write_export(store, folder / "none.zip")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return shared(tmp_path_factory, "diff-and-rerun", make)[0]


@pytest.fixture
def store(trained, tmp_path, monkeypatch):
    """A copy of the store, in whose folder the commands run."""
    with contextlib.closing(sqlite3.connect(trained / "mlflow.db")) as database:
        database.execute("VACUUM INTO ?", (str(tmp_path / "mlflow.db"),))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return open_store(f"sqlite:///{tmp_path}/mlflow.db")


def said(capsys, *words):
    """Exit status and output."""
    with pytest.raises(SystemExit) as end:
        main(words)
    captured = capsys.readouterr()
    return end.value.code, captured.out + captured.err


def of(store, **params):
    (found,) = (
        r for r in read_runs(store) if all(r.params[k] == v for k, v in params.items()) if r.state == "complete"
    )
    return found


@pytest.mark.slow
def test_a_run_comes_out_again_and_counts_for_nothing(store, capsys):
    for pool, kept in (("max", "44,426 weights"), ("avg", "weights")):
        before = of(store, pool=pool)
        status, out = said(capsys, "rerun", before.run_id[:8])
        assert status == 0, out
        assert "identical: predictions and scores of 360 test images" in out
        assert "metrics over 2 epochs" in out
        assert f"identical: {kept}" in out
        (again,) = (r for r in read_runs(store) if r.tags.get("lenet.rerun_of") == before.run_id)
        assert (again.state, again.arm) == ("rerun", before.arm)
        assert again.key != before.key
        assert find(store, [before.key])[before.key].info.run_id == before.run_id
        assert json.loads(again.tags["lenet.execution"])["threads"] == 1
        assert not any((store.state / "checkpoints").iterdir())
        status, out = said(capsys, "rerun", again.run_id)
        assert (status, "its state is rerun; allowed: complete or diverged runs" in out) == (2, True)
    assert write_export(store, store.state / "x.zip")[0] == 2, "an export leaves reruns out"
    status, out = said(capsys, "diff", before.run_id, again.run_id)
    assert status == 0
    assert "nothing differs" in out


@pytest.mark.slow
def test_what_differs_is_said(store, capsys):
    before = of(store, pool="avg")
    store.client.log_metric(before.run_id, "val/loss", 9.0, step=1)
    store.client.set_tag(before.run_id, "lenet.code", "0" * 64)
    store.client.set_tag(before.run_id, "mlflow.source.git.commit", "ab" * 20)
    status, out = said(capsys, "rerun", before.run_id)
    assert status == 1, out
    assert re.search(r"different: \d+ metrics over 2 epochs: 1 differ: val/loss from epoch 1: 9 was 2\.\d+ now", out)
    assert "identical: predictions" in out
    assert f"code: training modules: {'0' * 12} then," in out
    assert f"git checkout {'ab' * 20}" in out
    assert "not identical; run" in out


@pytest.mark.slow
def test_an_imported_run_is_rebuilt_from_its_params(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    import_runs(trained / "none.zip", f"sqlite:///{tmp_path}/mlflow.db")
    store = open_store(f"sqlite:///{tmp_path}/mlflow.db")
    status, out = said(capsys, "rerun", of(store, pool="avg").run_id)
    assert status == 0, out
    assert "config.yaml: is missing from the store, or cannot be read; rebuilt from its params" in out
    assert "run key" not in out, "the params give the same key as the configuration did"
    assert "predictions" not in out
    assert "metrics over 2 epochs" in out


@pytest.mark.slow
def test_a_study_travels_with_its_sweep(trained, tmp_path):
    asked = {"5" * 64: Study("tiny", "pool=max", ("pool",))}
    assert read_export(trained / "none.zip").studies == asked
    import_runs(trained / "none.zip", f"sqlite:///{tmp_path}/mlflow.db")
    store = open_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert study_of(find_parent(store, "tiny")) == asked["5" * 64]
    assert write_export(store, tmp_path / "again.zip", "tiny") == (1, 1), "the one cell of the study"
    done = import_runs(trained / "none.zip", f"sqlite:///{tmp_path}/mlflow.db")
    assert (done.runs, done.sweeps, done.present) == (0, 0, 2), "nothing is there twice"
    with pytest.raises(LabError, match="no sweeps begin so"):
        find_parent(store, "tin")
    cell = {"key": read_runs(store)[0].key, "arm": "a", "name": "n", "overrides": []}
    open_parent(store, "6" * 64, "tiny, more", [cell], asked["5" * 64])
    open_parent(store, "7" * 64, "another", [cell])
    assert write_export(store, tmp_path / "both.zip", "tiny")[1] == 2, "both sweeps of the study"
    with pytest.raises(
        LabError, match=r"'tiny': several sweeps begin so; there are: (66666666, 55555555|55555555, 66666666)$"
    ):
        find_parent(store, "tiny")


@pytest.mark.slow
def test_what_cannot_be_run_again_is_one_line(store, capsys):
    before = of(store, pool="avg")
    store.client.set_tag(before.run_id, "lenet.data_digest", "e" * 64)
    status, out = said(capsys, "rerun", before.run_id)
    assert status == 2
    assert re.fullmatch(
        rf"lenet_lab: run {before.run_id[:8]}: data=digits: the files here \(\w{{12}}\) are not those that it was "
        r"trained on \(eeeeeeeeeeee\)\n",
        out,
    )
    status, out = said(capsys, "rerun", "ffff")
    assert status == 2
    assert out.startswith("lenet_lab: run 'ffff': no runs begin so; there are: ")


def test_a_run_without_a_configuration_says_what_it_lacks(monkeypatch):
    from lenet_lab import rerun

    def missing(store, run_id, name):
        raise LabError(f"run {run_id}: {name}: is not among the files of the run")

    monkeypatch.setattr(rerun, "read_artifact", missing)
    line = r"run a-0: config.yaml: is not among the files of the run, and its params lack optimizer, trainer$"
    with pytest.raises(LabError, match=line):
        rerun.rebuild(None, run("a", 0, {"data.name": "digits"}))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-08", 1e-8),
        ("True", True),
        ("null", None),
        ("[0.9, 0.999]", [0.9, 0.999]),
        ("32-true", "32-true"),
        ("mnist", "mnist"),
        ("__import__('os')", "__import__('os')"),
    ],
)
def test_a_param_as_a_value(text, value):
    from lenet_lab.rerun import _value

    assert _value(text) == value
