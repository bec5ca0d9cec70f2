"""Synthetic runs for the tests of the report: what a small study would have left in the store."""

import math
import random

from lenet_lab.records import RunRecord

EPOCHS = 5


def run(arm, seed, params, *, state="complete", accuracy=0.985, tags=None, metrics=None, **over):
    """One run; `metrics` are added to (or, with the value None, taken from) those of a complete run."""
    run_id = over.pop("run_id", f"{arm}-{seed}")
    values = {
        "test/acc": accuracy, "test/errors": round(1e4 * (1 - accuracy)), "test/loss": 3.2 * (1 - accuracy),
        "test/n": 1e4, "train_eval/acc": accuracy + 0.006, "time/train_s": 40.0 + seed,
        "images_per_s": 6500.0 + seed, "params/total": 44426.0, "epochs": float(EPOCHS),
    }  # fmt: skip
    values = {k: v for k, v in (values | (metrics or {})).items() if v is not None}
    fields = {
        "name": f"{arm} seed={seed}",
        "key": f"key-{run_id}",
        "sweep": "sweep-1",
        "params": {"model": "lenet5", "seed": str(seed), "epochs": str(EPOCHS), "data": "mnist", **params},
        "metrics": values if state == "complete" else {"train/loss": math.nan},
        "tags": {"lenet.timing": "alone", "lenet.data_digest": "d1", "lenet.code": "c1", **(tags or {})},
        "start_ms": 1000 + seed,
        "end_ms": 2000 + seed,
        "artifact_uri": "file:/store",
        "link": f"http://127.0.0.1:5000/#/experiments/1/runs/{run_id}",
    }
    return RunRecord(run_id=run_id, arm=arm, seed=seed, state=state, **(fields | over))


def curve(level, seed):
    """Five epochs towards `level`, a little different for each seed."""
    draw = random.Random(f"{level} {seed}")
    accuracy = [level - 0.03 * 0.5**epoch + draw.gauss(0, 8e-4) for epoch in range(EPOCHS)]
    by_metric = {
        "val/acc": accuracy,
        "train/loss": [0.02 + 3 * (1 - value) for value in accuracy],
        "val/loss": [0.01 + 3.4 * (1 - value) for value in accuracy],
    }
    return {name: tuple(enumerate(values, 1)) for name, values in by_metric.items()}


def study(pools=("avg", "max"), norms=("none", "bn", "gn"), seeds=(0, 1, 2)):
    """Runs and curves of pools x norms x seeds, plausible numbers."""
    draw = random.Random(1)
    records, curves = [], {}
    for pool in pools:
        for norm in norms:
            level = 0.983 + 0.003 * (pool == "max") + 0.003 * (norm == "bn") + 0.0015 * (norm == "gn")
            for seed in seeds:
                params = {"pool": pool, "pool.name": pool, "norm": norm, "norm.name": norm, "lr": "0.001"}
                accuracy = round(level + draw.gauss(0, 6e-4), 4)
                cost = {
                    "params/total": 44426.0 + 44 * (norm != "none"),
                    "params/macs": 281640.0 + 5760 * (norm != "none"),
                    "epochs/best": 4.0,
                }
                record = run(f"{pool}-{norm}", seed, params, accuracy=accuracy, metrics=cost)
                records.append(record)
                curves[record.run_id] = curve(level + 5e-4 * (pool == "max"), seed)
    return records, curves
