"""Models as MLflow stores them."""

from __future__ import annotations

import logging
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import nn

from lenet_lab.records import LabError
from lenet_lab.tracking import estimators, pt2
from lenet_lab.tracking.artifacts import digests, find_run, read_checked
from lenet_lab.tracking.sound import sound

if TYPE_CHECKING:
    from lenet_lab.models.classical import Classical, Learned
    from lenet_lab.tracking.store import Store

MODEL, GRAPH = "model/MLmodel", "model/data/model.pt2"
ESTIMATORS = ("model/estimator.skops", "estimator.skops")


def save_network(folder: Path, net: nn.Module, example: torch.Tensor) -> None:
    """Write a network as an MLflow model in `pt2` format: an exported graph, no pickle, any batch size.

    Args:
        net: on the CPU, in evaluation mode.
        example: images (n, C, H, W) with n above 1, so that the batch size stays free.
    """
    import mlflow.pytorch

    mlflow.pytorch.save_model(
        net,
        str(folder),
        input_example=example.numpy(),
        serialization_format="pt2",
        pip_requirements=[f"torch=={torch.__version__.split('+')[0]}"],
    )


def load_network(store: Store, run_id: str) -> nn.Module:
    """The network that a run has tracked, on the CPU, checked against the run's digests and loaded without unpickling.

    It is a graph as it was exported: it takes batches of any size, in evaluation mode only.

    Raises:
        LabError: the run has no network, one of its files is missing or damaged, or it is in any format but `pt2`.
    """
    run = find_run(store, run_id)
    files = sorted(name for name in digests(run_id, run.data.tags) if name.startswith("model/"))
    if not files or ESTIMATORS[0] in files:
        raise LabError(f"run {run_id}: has no tracked network; `tracking.artifacts=full` keeps one")
    if strange := [name for name in files if name.startswith("model/data/") and name != GRAPH]:
        raise LabError(f"run {run_id}: {strange[0]}: is in no format that is loaded here; allowed: pt2")
    with tempfile.TemporaryDirectory() as folder:
        for name in (MODEL, GRAPH):
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read_checked(store, run, name))
        try:
            _check_flavor(Path(folder) / MODEL)
            pt2.check(Path(folder) / GRAPH)
            return _load(Path(folder) / "model")
        except LabError as error:
            raise LabError(f"run {run_id}: {GRAPH}: {error}") from None


def save_classical(path: Path, state: Learned) -> None:
    """Write what a classical model has learned as one skops file: arrays and plain values, no pickle."""
    import skops.io

    skops.io.dump(vars(state), path, compression=zipfile.ZIP_DEFLATED, compresslevel=1)


def load_classical(store: Store, run_id: str, model: Classical, features: int, classes: int) -> Learned:
    """What a run's classical model has learned, checked against the run's digests and loaded without unpickling.

    Args:
        model: of the run's configuration; features: pixels of an image.

    Raises:
        LabError: the run has none, it is missing or damaged, holds a type that no model of lenet_lab is made of, or is
            no state of this model.
    """
    run = find_run(store, run_id)
    files = digests(run_id, run.data.tags)
    found = next((name for name in ESTIMATORS if name in files), None)
    if found is None:
        raise LabError(f"run {run_id}: has no tracked classical model")
    content = read_checked(store, run, found)
    try:
        state = estimators.load(content)
        right = sound(model.name, state, features, classes)
    except LabError as error:
        raise LabError(f"run {run_id}: {found}: {error}") from None
    except Exception:  # whatever is missing, or of another kind than a model's
        right = False
    if not right:
        raise LabError(f"run {run_id}: {found}: is no state of model={model.name}")
    return state


def _check_flavor(path: Path) -> None:
    """MLflow puts a model's `code` on the path and takes its data from where the flavour says."""
    try:
        flavor = yaml.safe_load(path.read_text())["flavors"]["pytorch"]
        plain = flavor.get("code") is None and flavor["model_data"] == "data"
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        plain = False
    if not plain:
        raise LabError("its MLmodel does not describe a network of lenet_lab")


def _load(folder: Path) -> nn.Module:
    import mlflow.pytorch
    from mlflow.environment_variables import MLFLOW_ALLOW_PICKLE_DESERIALIZATION as PICKLE
    from mlflow.exceptions import MlflowException

    before = PICKLE.get_raw()
    PICKLE.set(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("mlflow").setLevel(logging.ERROR)
            net: Any = mlflow.pytorch.load_model(str(folder))
    except MlflowException as error:
        raise LabError(" ".join(str(error).split())[:200]) from None
    except Exception as error:  # a graph that torch cannot make sense of
        raise LabError(f"torch cannot read it: {type(error).__name__}") from None
    finally:
        PICKLE.unset() if before is None else PICKLE.set(before)
    assert isinstance(net, nn.Module)
    return net
