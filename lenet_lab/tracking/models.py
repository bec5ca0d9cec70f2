"""Models as MLflow stores them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


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
