"""A tracked run rebuilt from its own record, trained again, and compared bit for bit with what it left."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lenet_lab.cell import Ready, make_ready
from lenet_lab.config.compose import Cell, compose_cell
from lenet_lab.config.keys import run_key
from lenet_lab.config.schema import GROUPS, PLAIN
from lenet_lab.outcome import Outcome
from lenet_lab.records import LabError, RunRecord
from lenet_lab.run import Watch
from lenet_lab.run import rerun as train
from lenet_lab.tracking import Store, read_curves
from lenet_lab.tracking.artifacts import digests, find_run, read_artifact

CONFIG, PREDICTIONS, WEIGHTS, GRAPH = "config.yaml", "predictions.npz", "weights.safetensors", "model/data/model.pt2"
CLOCKS = ("time/", "images_per_s")  # metrics that no machine gives twice


@dataclass(frozen=True)
class Rebuilt:
    """A run made ready to be trained again, and what had to be supposed on the way."""

    ready: Ready
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One thing compared: what it is, and how it differs; None where every bit is the same."""

    what: str
    differs: str | None


def rebuild(store: Store, record: RunRecord) -> Rebuilt:
    """The cell of a tracked run: from its `config.yaml`, or where that did not travel, from its params.

    Raises:
        LabError: the run has not ended, its configuration cannot be had, or the data here is other data.
    """
    short = record.run_id[:8]
    if record.state not in ("complete", "diverged"):
        raise LabError(f"run {short}: its state is {record.state}; allowed: complete or diverged runs")
    resolved, notes = _configuration(store, record)
    base = compose_cell().resolved
    added = [key for key in (*GROUPS, *PLAIN) if key in base and key not in resolved]
    told = [key for key in added if key not in ("tracking", "sweep", "name")]
    if told:
        notes.append(f"not in its record, and so as in today's baseline: {', '.join(told)}")
    whole = {**{key: base[key] for key in added}, **resolved}
    whole["tracking"] = {**whole["tracking"], "uri": store.uri}
    root = whole["data"].get("root")
    if root and not Path(root).is_dir():
        whole["data"] = {**whole["data"], "root": None}
        notes.append(f"data.root={root}: not there; the data is looked for in the usual places")
    choices = {group: record.params[group] for group in GROUPS if group in record.params}
    ready = make_ready(Cell(_overrides(record), whole, choices))
    theirs = record.tags.get("lenet.data_digest", "")
    if ready.data_digest != theirs:
        raise LabError(
            f"run {short}: data={ready.config.data.name}: the files here ({ready.data_digest[:12]}) are not those that "
            f"it was trained on ({theirs[:12] or 'not recorded'})"
        )
    if record.key not in (ready.key, run_key(resolved, theirs)):
        notes.append("its run key does not come out of its record: another version of the configuration, or incomplete")
    return Rebuilt(ready, tuple(notes))


def train_again(rebuilt: Rebuilt, record: RunRecord, watch: Watch | None = None) -> Outcome:
    """Train it with the threads and the memory format of its execution record.

    Raises:
        LabError, Stopped: as `run.run`.
    """
    key = hashlib.sha256(f"rerun {record.run_id}".encode()).hexdigest()
    return train(rebuilt.ready, record.run_id, key, record.tags.get("lenet.execution", ""), watch)


def compare(store: Store, before: RunRecord, after: RunRecord) -> list[Finding]:
    """What both runs left, bit for bit: predictions and scores, every metric of every epoch, weights."""
    return [
        finding
        for finding in (
            _predictions(store, before, after),
            _metrics(store, before, after),
            _weights(store, before, after),
        )
        if finding is not None
    ]


def _configuration(store: Store, record: RunRecord) -> tuple[dict[str, Any], list[str]]:
    try:
        found = yaml.safe_load(read_artifact(store, record.run_id, CONFIG))
        if isinstance(found, dict) and all(
            isinstance(found.get(group), dict) for group in ("data", "model", "trainer")
        ):
            return {str(key): value for key, value in found.items()}, []
        why = "is no configuration"
    except LabError as error:
        why = str(error).rpartition(f"{CONFIG}: ")[2]
    except yaml.YAMLError:
        why = "is not readable"
    resolved = _from_params(record.params)
    missing = [group for group in ("data", "model", "optimizer", "trainer", "seed") if group not in resolved]
    if missing:
        raise LabError(f"run {record.run_id[:8]}: {CONFIG}: {why}, and its params lack {', '.join(missing)}")
    return resolved, [f"{CONFIG}: {why}; rebuilt from its params"]


def _from_params(params: Mapping[str, str]) -> dict[str, Any]:
    """The resolved configuration out of `<group>.<key>` texts, which are Python's own."""
    resolved: dict[str, Any] = {}
    for name, text in params.items():
        group, _, key = name.partition(".")
        if key and group in GROUPS:
            resolved.setdefault(group, {})[key] = _value(text)
        elif name in PLAIN and name != "name":
            resolved[name] = _value(text)
    for group in GROUPS:  # a group without keys leaves its option alone
        if group in params:
            resolved.setdefault(group, {})
    return resolved


def _value(text: str) -> Any:
    if text == "null":
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _overrides(record: RunRecord) -> tuple[str, ...]:
    try:
        words = json.loads(record.tags.get("lenet.overrides", "[]"))
    except ValueError:
        words = []
    return tuple(word for word in words if isinstance(word, str))


def _metrics(store: Store, before: RunRecord, after: RunRecord) -> Finding:
    names = sorted(name for name in {*before.metrics, *after.metrics} if not name.startswith(CLOCKS))
    curves = read_curves(store, [before.run_id, after.run_id], names)
    one, other = curves[before.run_id], curves[after.run_id]
    wrong = []
    for name in names:
        first = _first(one.get(name, ()), other.get(name, ()))
        if first is not None:
            wrong.append(f"{name} {first}")
    epochs = max((step for points in one.values() for step, _ in points), default=0)
    what = f"{len(names)} metrics over {epochs} epoch{'s' * (epochs != 1)}"
    shown = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
    return Finding(what, f"{len(wrong)} differ: {shown}" if wrong else None)


def _first(one: Any, other: Any) -> str | None:
    """Where two curves part: the first step whose values are not the same double."""
    left, right = dict(one), dict(other)
    for step in sorted({*left, *right}):
        if step not in left or step not in right:
            return f"{'is missing now' if step in left else 'is new'} at epoch {step}"
        if left[step] != right[step] and not (math.isnan(left[step]) and math.isnan(right[step])):
            return f"from epoch {step}: {left[step]:.10g} was {right[step]:.10g} now"
    return None


def _predictions(store: Store, before: RunRecord, after: RunRecord) -> Finding | None:
    one, other = _both(store, before, after, PREDICTIONS, _arrays)
    if one is None or other is None:
        return None
    what = f"predictions and scores of {len(one['label'])} test images"
    if any(one[key].shape != other[key].shape for key in ("label", "predicted", "scores", "loss")):
        return Finding(what, f"{len(other['label'])} images now")
    if all(one[key].tobytes() == other[key].tobytes() for key in one):
        return Finding(what, None)
    changed = int((one["predicted"] != other["predicted"]).sum())
    largest = float(np.nanmax(np.abs(one["scores"] - other["scores"])))
    return Finding(what, f"{changed} predictions differ, scores by at most {largest:.3g}")


def _weights(store: Store, before: RunRecord, after: RunRecord) -> Finding | None:
    kept = [digests(record.run_id, find_run(store, record.run_id).data.tags) for record in (before, after)]
    if all(WEIGHTS in names for names in kept):
        same = kept[0][WEIGHTS] == kept[1][WEIGHTS]
        return Finding("weights", None if same else "other bytes")
    if not all(GRAPH in names for names in kept):
        return None
    try:
        one, other = (_tensors(store, record.run_id) for record in (before, after))
    except LabError:
        return None  # they did not travel with an export
    what = f"{sum(array.size for array in one.values()):,} weights"
    if one.keys() != other.keys():
        return Finding(what, "another network")
    wrong = [name for name in one if one[name].tobytes() != other[name].tobytes()]
    return Finding(what, f"{', '.join(wrong[:4])} differ" if wrong else None)


def _tensors(store: Store, run_id: str) -> dict[str, Any]:
    from lenet_lab.tracking.models import load_network

    return {name: tensor.numpy() for name, tensor in load_network(store, run_id).state_dict().items()}


def _arrays(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _both(store: Store, before: RunRecord, after: RunRecord, name: str, read: Callable[[bytes], Any]) -> list[Any]:
    """A file of both runs; None where a run has none (it diverged, or came without its files)."""
    found = []
    for record in (before, after):
        try:
            found.append(read(read_artifact(store, record.run_id, name)))
        except (LabError, ValueError, OSError, KeyError):
            found.append(None)
    return found
