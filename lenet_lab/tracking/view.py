"""The table of runs as a person wants to see it in MLflow's UI: what varies, what came out, the best on top.

MLflow keeps a shared view in a tag of the experiment, which the page's address names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from lenet_lab.tracking.store import Store

NAME = "lenet_lab"
TAG = f"mlflow.sharedViewState.{NAME}"
SEEN, MOST = 1000, 8  # runs looked at, params shown
METRICS = ("test/acc", "test/errors", "test/loss", "val/acc", "epochs", "time/train_s")


def varied(several: Iterable[Mapping[str, str]]) -> list[str]:
    """The params that differ among runs, seed last; a group's inner values only where the group itself does not."""
    values: dict[str, set[str]] = {}
    for params in several:
        for key, value in params.items():
            values.setdefault(key, set()).add(value)
    differ = sorted(key for key, found in values.items() if len(found) > 1)
    kept = [key for key in differ if "." not in key or key.partition(".")[0] not in differ]
    return [key for key in kept if key != "seed"][: MOST - 1] + ["seed"] * ("seed" in kept)


def prepare_view(store: Store) -> str:
    """Write the view, and return what the address of the runs' page ends with."""
    found = store.client.search_runs([store.experiment_id], "tags.`lenet.state` = 'complete'", max_results=SEEN)
    params = varied(run.data.params for run in found)
    columns = [f"params.`{key}`" for key in params] + [f"metrics.`{name}`" for name in METRICS]
    state = {"selectedColumns": columns, "orderByKey": "metrics.`test/acc`", "orderByAsc": False}
    store.client.set_experiment_tag(store.experiment_id, TAG, json.dumps(state))
    return f"?viewStateShareKey={NAME}"
