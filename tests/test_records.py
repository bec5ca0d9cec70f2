"""Run records and the comparison table."""

import dataclasses
import random

import pandas as pd
import pytest

from lenet_lab.records import RunRecord, frame


def record(run_id, arm="a", seed=0, **over):
    fields = {
        "name": f"run {run_id}", "key": f"key-{run_id}", "state": "complete", "sweep": "s",
        "params": {"pool": "max"},
        "metrics": {"test/acc": 0.98}, "tags": {"lenet.timing": "alone"}, "start_ms": 1, "end_ms": 2,
        "artifact_uri": "file:/x",
    }  # fmt: skip
    return RunRecord(run_id=run_id, arm=arm, seed=seed, **(fields | over))


def test_a_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        record("r").state = "failed"


def test_frame_has_a_row_a_run_and_a_column_a_fact():
    rows = [
        record("r2", seed=1, metrics={"test/acc": 0.97, "test/loss": 0.1}),
        record("r1"),
        record("r3", arm="b", seed=None, metrics={}, params={"pool": "avg", "norm": "bn"}, start_ms=None),
    ]
    table = frame(rows)
    assert table["run_id"].tolist() == ["r1", "r2", "r3"]
    assert table["metrics.test/acc"].tolist()[:2] == [0.98, 0.97]
    assert table["metrics.test/acc"].dtype == "float64"
    assert pd.isna(table["metrics.test/acc"][2])
    assert table["params.pool"].tolist() == ["max", "max", "avg"]
    assert pd.isna(table["params.norm"][0])
    assert table["params.norm"][2] == "bn"
    assert table["tags.lenet.timing"].tolist() == ["alone"] * 3
    assert table["seed"].tolist()[:2] == [0, 1]
    assert pd.isna(table["seed"][2])
    assert table.groupby("arm")["metrics.test/acc"].mean()["a"] == pytest.approx(0.975)


def test_frame_does_not_depend_on_the_order_of_the_store():
    rows = [record(f"r{i:02}", arm=f"arm{i % 3}", seed=i // 3) for i in range(12)]
    shuffled = rows.copy()
    random.Random(0).shuffle(shuffled)
    pd.testing.assert_frame_equal(frame(rows), frame(shuffled))


def test_frame_of_nothing_is_empty_but_has_its_columns():
    table = frame([])
    assert len(table) == 0
    assert {"run_id", "arm", "seed", "state"} <= set(table.columns)
