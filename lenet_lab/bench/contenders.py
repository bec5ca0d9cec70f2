"""Who trains LeNet-5 for an epoch: each contender is made in a process of its own and asked for epochs.

All of them do the same work: 28x28 grey images, 44,426 weights, average pooling, tanh, Adam, shuffled batches.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import Config, parse
from lenet_lab.data import Arrays, Split
from lenet_lab.engines import Execution
from lenet_lab.engines.execution import NVML_CHECK

LR = 0.001
TRIAL_IMAGES, TRIAL_STEPS, TRIALS = 3200, 20, 5  # steps at least

Epoch = Callable[[], tuple[int, float]]  # trains one: images, seconds


@dataclass(frozen=True)
class Work:
    """What is trained: images of a batch and of an epoch, threads, replicas of a pack, the folder of MNIST's files."""

    batch: int
    images: int
    threads: int
    replicas: int = 1
    workers: int = 0  # of a DataLoader
    root: str | None = None
    batch_norm: bool = False  # after the convolutions


def bare(work: Work) -> Epoch:
    """The loop that people write over tensors in memory: torch's defaults throughout, malloc's too.

    Its process is one of its own. The variable that Lightning sets when it is imported is taken away: torch would look
    for a GPU before every update, which it does not where there is no Lightning.
    """
    os.environ.pop(NVML_CHECK, None)
    return _loop(work, None, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def fastest(work: Work) -> Epoch:
    """The same loop in the way that is fastest here: memory format, convolutions and optimizer, all tried in turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ways = [
        Execution(work.threads, layout, onednn, fused)
        for layout in ("contiguous", "channels_last")
        for onednn in ((True, False) if device.type == "cpu" else (True,))
        for fused in (False, True)
    ]
    trial = replace(work, images=min(work.images, max(TRIAL_IMAGES, TRIAL_STEPS * work.batch)))
    rounds = [[_loop(trial, way, device)()[1] for way in ways] for _ in range(TRIALS)]
    seconds = [median(several) for several in zip(*rounds, strict=True)]
    return _loop(work, ways[seconds.index(min(seconds))], device)


def harness(work: Work) -> Epoch:
    """This package: from the end of one epoch to the end of the next, everything between them included."""
    from lenet_lab.train import execution_of, train

    config, arrays = _config(work), _arrays(work)
    execution = replace(execution_of(config), threads=work.threads)

    def epoch() -> tuple[int, float]:
        ends: list[float] = []
        train(config, arrays, execution, None, sink=lambda values, step: ends.append(time.perf_counter()))
        return work.images, ends[-1] - ends[-2]

    return epoch


def pack(work: Work) -> Epoch:
    """As many replicas as `work.replicas`, trained as one pack by this package."""
    return _pack(work, compiled=False)


def compiled(work: Work) -> Epoch:
    """The same, its forward pass and loss compiled; the first epoch pays for that."""
    return _pack(work, compiled=True)


def _pack(work: Work, compiled: bool) -> Epoch:
    from lenet_lab.cell import build
    from lenet_lab.engines.pack import Replica, fit_pack
    from lenet_lab.train import execution_of, hardware_of, recipe_of

    config, arrays = _config(work), _arrays(work)
    execution = replace(execution_of(config, packed=True), threads=work.threads, compiled=compiled, one_rate=True)

    def epoch() -> tuple[int, float]:
        ends: list[float] = []
        replicas = []
        for seed in range(work.replicas):
            own = replace(config, seed=seed)
            last = seed == work.replicas - 1
            sink = (lambda values, step: ends.append(time.perf_counter())) if last else None
            replicas.append(Replica(build(own), recipe_of(own, arrays, execution), None, sink))
        fit_pack(replicas, arrays, work.batch, config.early_stopping, hardware_of(config.trainer))
        return work.images * work.replicas, ends[-1] - ends[-2]

    return epoch


def lightning(work: Work) -> Epoch:
    """A LightningModule with torchvision's data set, transforms and a DataLoader, as tutorials have it.

    Lightning's own bars, checkpoints and loggers are off.
    """
    import pytorch_lightning as pl
    from torch.utils.data import DataLoader, Subset
    from torchvision import transforms
    from torchvision.datasets import MNIST

    class Plain(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = lenet5()

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            images, labels = batch
            outputs = self.net(images)
            loss = functional.cross_entropy(outputs, labels)
            self.log("train/loss", loss)
            self.log("train/acc", (outputs.argmax(1) == labels).float().mean())
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=LR)

    torch.set_num_threads(work.threads)
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    assert work.root is not None
    images = Subset(MNIST(Path(work.root), train=True, transform=steps), range(work.images))

    def epoch() -> tuple[int, float]:
        ends: list[float] = []

        class Clock(pl.Callback):
            def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
                if pl_module.device.type == "cuda":
                    torch.cuda.synchronize()
                ends.append(time.perf_counter())

        trainer = pl.Trainer(
            max_epochs=2,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Clock()],
        )
        kept = work.workers > 0  # else an epoch pays for starting them
        loader = DataLoader(images, work.batch, shuffle=True, num_workers=work.workers, persistent_workers=kept)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(Plain(), loader)
        return work.images, ends[-1] - ends[-2]

    return epoch


CONTENDERS: Mapping[str, Callable[[Work], Epoch]] = {
    "bare": bare,
    "fastest": fastest,
    "harness": harness,
    "pack": pack,
    "compiled": compiled,
    "lightning": lightning,
}


def lenet5(batch_norm: bool = False) -> nn.Module:
    """LeNet-5 as everybody writes it: 44,426 weights on 28x28 images, and 44 of batch norm."""

    def convolution(maps_in: int, maps: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(maps)] if batch_norm else []
        return [nn.Conv2d(maps_in, maps, 5), *norm, nn.Tanh(), nn.AvgPool2d(2)]

    return nn.Sequential(
        *(*convolution(1, 6), *convolution(6, 16), nn.Flatten()),
        *(nn.Linear(256, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )


def _loop(work: Work, way: Execution | None, device: torch.device) -> Epoch:
    """Epochs of a plain loop; `way` None: as torch does it by itself."""
    images, labels = (tensor.to(device) for tensor in _images(work.images))
    layout = torch.contiguous_format if way is None else way.layout
    net = lenet5(work.batch_norm).to(device, memory_format=layout)  # type: ignore[call-overload]
    images = images.contiguous(memory_format=layout)
    kind: Any = {"fused": True} if way is not None and way.fused else {}
    optimizer = torch.optim.Adam(net.parameters(), LR, **kind)

    def epoch() -> tuple[int, float]:
        with _switched(way, device):
            begun = time.perf_counter()
            for rows in torch.randperm(work.images, device=device).split(work.batch):
                optimizer.zero_grad()
                functional.cross_entropy(net(images[rows]), labels[rows]).backward()
                optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            return work.images, time.perf_counter() - begun

    return epoch


def _switched(way: Execution | None, device: torch.device) -> AbstractContextManager[None]:
    if way is None:
        return nullcontext()
    return way.applied() if device.type == "cpu" else way.exact()


def _config(work: Work) -> Config:
    words = [f"batch_size={work.batch}", f"lr={LR}", "epochs=2", "data=digits", f"trainer.threads={work.threads}"]
    norm = ["norm=bn"] if work.batch_norm else []
    return parse(compose_cell([*words, *norm]).resolved)


def _images(n: int) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28, 28) of noise and labels (n,): the time does not depend on what they show."""
    draws = torch.Generator().manual_seed(0)
    return torch.randn(n, 1, 28, 28, generator=draws), torch.randint(0, 10, (n,), generator=draws)


def _arrays(work: Work) -> Arrays:
    images, labels = _images(work.images)
    split = Split(images, labels, torch.arange(work.images))
    few = Split(images[:10], labels[:10], torch.arange(10))
    return Arrays(split, None, few, tuple("0123456789"), "noise", "noise")
