"""Filters: MLflow's syntax, the same answers on plain records, and one line for what cannot be read."""

import pytest
from report_study import run

from lenet_lab.records import LabError
from lenet_lab.report.filters import is_filter, parse

RECORD = run("a", 3, {"pool": "max", "norm": "gn"}, accuracy=0.95, tags={"lenet.note": "It's a note"}, name="first")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("params.pool = 'max'", True),
        ("param.pool != 'max'", False),
        ("params.missing != 'max'", False),
        ("params.pool = 'max' and metrics.test/acc > 0.9", True),
        ("params.pool = 'max' AND metrics.`test/acc` > 0.96", False),
        ('metrics."test/acc" <= 0.95 and params.seed = "3"', True),
        ("metrics.test/acc = 0.95", True),
        ("metrics.test/nothing < 1", False),
        ("params.pool LIKE 'm_x' and params.pool like '%x'", True),
        ("params.pool LIKE 'M%'", False),
        ("params.pool ILIKE 'M%'", True),
        ("params.pool IN ('avg', 'max') and params.norm not in ('gn')", False),
        ('tags.lenet.note = "It\'s a note"', True),
        ("tags.`lenet.note` IS NOT NULL and tags.other IS NULL", True),
        ("params.pool IS NULL", False),
        ("attributes.run_name = 'first' and start_time > 5", True),
        ("state = 'complete'", True),
    ],
)
def test_a_filter_keeps_what_it_says(text, kept):
    assert is_filter(text)
    assert parse(text)(RECORD) is kept


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("params.pool = max", "write 'max'"),
        ("params.pool > 'max'", "does not go with"),
        ("metrics.test/acc > 'high'", "is no number"),
        ("metrics.test/acc LIKE '9%'", "does not go with"),
        ("pool = 'max'", "attributes are run_id"),
        ("models.pool = 'max'", "is no key"),
        ("params.pool = 'max' or params.pool = 'avg'", "no `or`"),
        ("params.pool = 'max' and", "joined by `and`"),
        ("= 'max'", "joined by `and`"),
        ("params.pool = 'max", "not understood from"),
        ("params.pool IN 'max'", "does not go with"),
        ("params.pool IN ('max'", "list of texts"),
        ("params.pool IN ()", "list of texts"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(text, why):
    with pytest.raises(LabError) as refusal:
        parse(text)
    assert why in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "for example" in str(refusal.value)


def test_names_are_no_filters():
    assert not any(map(is_filter, ("pool_norm", "2b7b8157", "demo", "nosuch")))


@pytest.mark.slow
def test_mlflow_keeps_the_same_runs(tmp_path):
    """What both understand, asked of MLflow's own search."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs.db'}")
    experiment = client.create_experiment("filters")
    records = [
        run(f"{p}{a}", 0, {"pool": p, "norm": n}, accuracy=a) for p, n, a in
        (("max", "gn", 0.95), ("max", "bn", 0.5), ("avg", "gn", 0.95), ("conv", "none", 0.91))
    ]  # fmt: skip
    for record in records:
        made = client.create_run(experiment, run_name=record.run_id)
        client.log_metric(made.info.run_id, "test/acc", record.metrics["test/acc"])
        client.log_param(made.info.run_id, "pool", record.params["pool"])
        if record.params["norm"] != "none":
            client.log_param(made.info.run_id, "norm", record.params["norm"])
            continue
        del record.params["norm"]
    for text in (
        "params.pool = 'max'",
        "params.norm != 'gn'",
        "metrics.`test/acc` > 0.9 and params.pool LIKE '%v%'",
        'metrics."test/acc" <= 0.91',
        "params.pool ILIKE 'M%' and params.norm = 'bn'",
    ):
        found = {one.info.run_name for one in client.search_runs([experiment], text)}
        assert found == {record.run_id for record in records if parse(text)(record)}, text


@pytest.mark.slow
def test_a_database_read_at_once_gives_what_mlflow_s_search_gives(tmp_path):
    """Runs with and without values, one deleted, one of another experiment, a number that is none."""
    from lenet_lab.tracking import open_store, read_runs
    from lenet_lab.tracking.claims import each
    from lenet_lab.tracking.read import record

    store = open_store(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = store.client
    for i in range(4):
        tags = {"lenet.key": f"k{i}", "lenet.state": "failed", "mlflow.parentRunId": "p", "mlflow.note.content": "n"}
        run_id = client.create_run(store.experiment_id, start_time=5 + i % 2, run_name=f"r{i}", tags=tags).info.run_id
        if i:
            client.log_param(run_id, "seed", str(i))
            for step, value in enumerate((0.5, float("nan") if i == 2 else 0.25)):
                client.log_metric(run_id, "test/acc", value, step=step)
            client.set_terminated(run_id)
    client.delete_run(run_id)
    client.create_run(client.create_experiment("another"), tags={"lenet.key": "k9"})
    client.create_run(store.experiment_id, tags={"lenet.kind": "sweep"})
    found = read_runs(store)
    assert {row.name for row in found} == {"r0", "r1", "r2"}
    assert repr(found) == repr([record(store, run) for run in each(store) if "lenet.key" in run.data.tags])
    few = read_runs(store, only=("seed",))
    assert [(row.run_id, row.state, row.seed) for row in few] == [(row.run_id, row.state, row.seed) for row in found]
    assert not any(row.metrics for row in few)
