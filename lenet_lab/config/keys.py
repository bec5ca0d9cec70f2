"""The names of runs: a run key is the digest of everything that decides a run's numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

# where things are written, read or shown, and on what they run: none of it changes what is trained
NOT_IN_KEY: dict[str, Literal[True] | tuple[str, ...]] = {
    "name": True,
    "experiment": True,
    "study": True,
    "sweep": True,
    "tracking": True,
    "data": ("root", "download", "train", "test"),
    "trainer": ("accelerator", "threads", "compile", "devices", "nodes", "strategy"),
}

# What came after runs had been tracked: at this value it is left out, so that those runs keep their names.
LATER = {"averaging": {"_target_": "lenet_lab.optim.averaging.NoAveraging"}}
LATER_KEYS: dict[str, dict[str, Any]] = {"data": {"noise": 0}, "augment": {"clean_epochs": 0}}


def identity(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that decides the numbers, with the world size spelled out."""
    kept: dict[str, Any] = {}
    for key, value in resolved.items():
        drop = NOT_IN_KEY.get(key, ())
        if drop is True or LATER.get(key, ...) == value:
            continue
        kept[key] = value
        if isinstance(value, Mapping):
            later = LATER_KEYS.get(key, {})
            kept[key] = {k: v for k, v in value.items() if k not in drop and later.get(k, ...) != v}
    trainer = resolved["trainer"]
    kept["trainer"] = {**kept["trainer"], "world_size": trainer["devices"] * trainer["nodes"]}
    return kept


def run_key(resolved: Mapping[str, Any], data_digest: str) -> str:
    """SHA-256 (hex) of the identity of a cell, its seed and its data."""
    return _sha256({**identity(resolved), "data_digest": data_digest})


def arm_key(resolved: Mapping[str, Any], data_digest: str) -> str:
    """The same without the seed: runs of one arm differ by seed alone."""
    kept = identity(resolved)
    kept.pop("seed")
    return _sha256({**kept, "data_digest": data_digest})


def sweep_id(run_keys: Iterable[str]) -> str:
    """SHA-256 (hex) of the sorted run keys."""
    return _sha256(sorted(set(run_keys)))


def _sha256(document: Any) -> str:
    text = json.dumps(_numbers(document), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _numbers(value: Any) -> Any:
    """The same with 1.0 spelled 1: the schema takes both for one number."""
    if isinstance(value, Mapping):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
