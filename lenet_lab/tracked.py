"""A tracked model, found, checked and ready to be asked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from lenet_lab.cell import threads
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import GROUPS, PLAIN, Config, parse
from lenet_lab.data import Split
from lenet_lab.engines import Evaluation
from lenet_lab.records import LabError, RunRecord
from lenet_lab.tracking import Store, read_runs
from lenet_lab.tracking.artifacts import digests, find_run, read_artifact
from lenet_lab.tracking.read import find_record

CONFIG, DATA = "config.yaml", "data.json"
AT_ONCE = 2000


@dataclass(frozen=True)
class Tracked:
    """A complete run and its model.

    Attributes:
        classes: name of class 0, 1, ...
        moments: mean and standard deviation of x/255 that its training images were normalised by.
        ask: a split as the model sees it.
    """

    store: Store
    record: RunRecord
    resolved: dict[str, Any]
    config: Config
    classes: tuple[str, ...]
    moments: tuple[float, float]
    ask: Callable[[Split], Evaluation]

    def answers(self, images: NDArray[np.uint8]) -> tuple[Tensor, NDArray[np.float32], NDArray[np.int64]]:
        """What the model sees, float32 (n, 1, H, W), its scores (n, k) and its answers (n,), for images (n, 28, 28)."""
        seen = self.config.data.inputs(torch.from_numpy(images).unsqueeze(1), self.moments)
        unknown = torch.zeros(len(images), dtype=torch.int64)
        given = self.ask(Split(seen, unknown, torch.arange(len(images))))
        return seen, given.scores.float().numpy(), given.predicted.numpy()


def open_tracked(store: Store, word: str) -> Tracked:
    """The model of a run.

    Args:
        word: the run's id, its beginning, or the run's name.

    Raises:
        LabError: no run or several, a run that is not complete, or one whose files are missing or damaged.
    """
    record = find(store, word)
    if record.state != "complete":
        raise LabError(f"run {record.run_id[:8]}: its state is {record.state}; allowed: complete runs")
    resolved = _resolved(store, record)
    config = parse(resolved)
    classes, moments = _known(store, record, config)
    return Tracked(store, record, resolved, config, classes, moments, load_model(store, record.run_id, config, classes))


def find(store: Store, word: str) -> RunRecord:
    """The run of this id, beginning of an id, or name.

    Raises:
        LabError: there is none, or several.
    """
    named = [record for record in read_runs(store) if record.name == word]
    if len(named) > 1:
        ids = ", ".join(record.run_id[:8] for record in named[:8])
        raise LabError(f"run {word!r}: several runs have this name; take an id: {ids}")
    return named[0] if named else find_record(store, word)


def load_model(store: Store, run_id: str, config: Config, classes: tuple[str, ...]) -> Callable[[Split], Evaluation]:
    """What a run has learned, as a function of a split; nothing is unpickled.

    Raises:
        LabError: the run keeps no model, or it is missing, damaged or in another format.
    """
    from lenet_lab.tracking import models

    if config.model.engine == "classical":
        from lenet_lab.engines.classical import ask

        model: Any = config.model
        learned = models.load_classical(store, run_id, model, math.prod(config.data.in_shape), len(classes))
        return lambda split: ask(model, learned, split, len(classes), threads(config), lambda share: None)
    net = models.load_network(store, run_id)
    return lambda split: _asked(net, config.loss, split)


@torch.inference_mode()
def _asked(net: nn.Module, objective: Any, split: Split) -> Evaluation:
    """One pass of an exported network, which has no modes to switch."""
    kind = next((value.dtype for value in net.parameters()), torch.float32)
    try:
        outputs = torch.cat([net(images.to(kind)) for images in split.images.split(AT_ONCE)])
    except Exception as error:  # guards of the exported graph
        shape = "x".join(map(str, split.images.shape[1:]))
        raise LabError(f"the network cannot be given images of {shape} ({type(error).__name__})") from None
    return Evaluation(
        objective.scores(outputs), objective.loss(outputs, split.labels), objective.predict(outputs), split.labels
    )


def _resolved(store: Store, record: RunRecord) -> dict[str, Any]:
    """The run's configuration; what later versions have added to it is as in today's baseline."""
    try:
        found = yaml.safe_load(read_artifact(store, record.run_id, CONFIG))
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):
        raise LabError(f"run {record.run_id[:8]}: {CONFIG}: is no configuration")
    base = compose_cell().resolved
    return {**{key: base[key] for key in (*GROUPS, *PLAIN) if key in base}, **found}


def _known(store: Store, record: RunRecord, config: Config) -> tuple[tuple[str, ...], tuple[float, float]]:
    """Class names and moments, as the run has recorded them; for one that has not, from its data set."""
    if DATA not in digests(record.run_id, find_run(store, record.run_id).data.tags):
        return config.data.classes, config.data.moments()
    try:
        found = json.loads(read_artifact(store, record.run_id, DATA))
        mean, std = (float(value) for value in found["moments"])
        classes = tuple(str(name) for name in found["classes"])
    except (ValueError, KeyError, TypeError):
        raise LabError(f"run {record.run_id[:8]}: {DATA}: is no description of a data set") from None
    if not (math.isfinite(mean) and math.isfinite(std)) or len(classes) < 2:
        raise LabError(f"run {record.run_id[:8]}: {DATA}: is no description of a data set")
    return classes, (mean, std)
