"""How the arithmetic is done: choices that change speed and last bits, never what is computed.

Measured with LeNet-5 (valid convolutions) forward, backward and Adam on a 2-core AMD EPYC, torch 2.15: fused updates
take 0.84 of the plain ones' time a step at batch 8 and 0.91 at 32 (one thread); at batch 8 convolutions without oneDNN
0.81 of a step's time with it.

Channels-last against contiguous, a step, oneDNN and fused updates, medians of 7 alternating rounds, batch 32, 128, 512;
with `blocks.average`, `blocks.maximum` and `blocks.tanh`, which made contiguous maps the faster ones of most networks:
one thread, average pooling 1.10, 1.21, 1.29, max pooling 1.01, 1.10, 1.20, strided convolutions 0.99, 1.00, 1.02; two
threads, average pooling 1.04, 1.03, 1.10, max pooling 0.88, 0.86, 0.99, strided convolutions 0.90, 0.88, 0.88. Batch
norm and average pooling 1.20, 1.31, 1.42 and 1.35, 1.58, 1.84; group norm and max pooling 1.06, 1.20, 1.32 and 0.84,
0.93, 1.06. With 32 and 64 maps and max pooling 0.89, 0.90, 0.90 and 0.88, 0.84, 0.95.

Sixteen replicas, one thread, forward and backward: as one by `vmap` without oneDNN 10.2 ms at batch 8 and 43 at 32, in
turn 12.6 and, with oneDNN, 29.

Subnormal numbers (below 1.2e-38) as zeros: where gradients or their squares get that small, as behind an RBF head whose
scores begin at 1e-20, two epochs took 20 s and not 101 (one thread, batch 32, 32x32 images).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
OMP_PAUSE_HARD = 2  # omp.h
SUBNORMAL = 1e-39
NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"  # Lightning sets it
SMALL_BATCH = 16  # below it, images a process, oneDNN costs more than it brings


@dataclass(frozen=True)
class Execution:
    """One way of doing the arithmetic; part of a run's execution record.

    Attributes:
        threads: of torch, in one process.
        memory_format: of weights and activations.
        onednn: whether convolutions go through oneDNN (CPU).
        fused: whether the optimizer updates all weights in one kernel, where torch has one.
        stacked: whether the replicas of a pack go through the network as one, and not in turn.
        flush_denormals: whether subnormal numbers count as zero (CPU).
        compiled: whether `torch.compile` has translated the forward pass and the loss (`engines.compiling`).
        one_rate: whether the replicas of a pack have one learning rate, which their optimizer itself applies.
    """

    threads: int
    memory_format: Literal["contiguous", "channels_last"]
    onednn: bool
    fused: bool = True
    stacked: bool = True
    flush_denormals: bool = False
    compiled: bool = False
    one_rate: bool = False

    @property
    def layout(self) -> torch.memory_format:
        """torch's name for the memory format."""
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    @contextmanager
    def applied(self) -> Iterator[None]:
        """torch's process-wide switches set, and put back."""
        threads, onednn = (
            torch.get_num_threads(),
            torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled(),
        )
        torch.set_num_threads(self.threads)
        torch.backends.mkldnn.set_flags(self.onednn)
        _keep_freed_memory()
        try:
            with self.exact(), _no_search_for_gpus():
                yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.mkldnn.set_flags(onednn)

    @contextmanager
    def exact(self) -> Iterator[None]:
        """What decides bits, and no threads: subnormal numbers as this says, on every thread of torch, and put back.

        On a GPU convolutions of 32-bit floats are done in 32 bits, by algorithms that give the same bits again; torch's
        own choice is TF32, with 10 bits of mantissa, and whichever algorithm is fastest.
        """
        cudnn, before = torch.backends.cudnn, not torch.full((1,), SUBNORMAL).mul(1).any()
        usual = cudnn.allow_tf32, cudnn.deterministic
        _flush(self.flush_denormals)
        cudnn.allow_tf32, cudnn.deterministic = False, True
        try:
            yield
        finally:
            _flush(before)
            cudnn.allow_tf32, cudnn.deterministic = usual

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the execution record."""
        return asdict(self)


@contextmanager
def _no_search_for_gpus() -> Iterator[None]:
    """Where there is no GPU, let torch know at once.

    Most of its optimizers ask before every update. The variable that Lightning sets for the sake of forks makes torch
    look for NVIDIA's library on the disk each time: 31 microseconds an update, without it 1.3 (means of 2,000).
    """
    kept = None if torch.cuda.is_available() else os.environ.pop(NVML_CHECK, None)
    try:
        yield
    finally:
        if kept is not None:
            os.environ[NVML_CHECK] = kept


def _flush(on: bool) -> None:
    torch.set_flush_denormal(on)  # of this thread; those that OpenMP starts from it anew are the same
    pause = _pause()
    if (
        pause is not None and torch.get_num_threads() > 1
    ):  # alone there are none, or those of a process it was forked from
        pause(OMP_PAUSE_HARD)


def _can_flush(threads: int) -> bool:
    """Whether the processor can, and so many threads all would."""
    return torch.set_flush_denormal(False) and (threads == 1 or _pause() is not None)


@cache
def _pause() -> Any:
    """What ends the threads of the OpenMP that torch has loaded, so that the next parallel loop starts them anew."""
    return getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)


@cache
def _keep_freed_memory() -> None:
    """Tell glibc's malloc not to hand large blocks back, which the next batch would have to fault in again.

    Training at batch 512, two threads, six epochs each in two turns: median 24,800 images/s (20,500 to 27,300), not
    19,900 (16,200 to 22,900); no change that could be seen at 8, 32 and 128. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            mallopt(option, 1 << 30)


def choose(batch_size: int, world_size: int, device: torch.device, threads: int, planar: bool = False) -> Execution:
    """The fastest way measured, by the images of a batch that one process gets.

    Args:
        planar: whether contiguous maps suit several threads better too: with batch norm or average pooling.
    """
    if device.type != "cpu":
        return Execution(threads, "channels_last", True)
    small = batch_size // world_size < SMALL_BATCH
    layout: Literal["contiguous", "channels_last"] = (
        "contiguous" if small or planar or threads == 1 else "channels_last"
    )
    return Execution(threads, layout, not small, stacked=small, flush_denormals=_can_flush(threads))


def recorded(record: Mapping[str, Any]) -> Execution:
    """The way an execution record states, for a resumption.

    Raises:
        KeyError: the record is another version's.
    """
    return Execution(
        record["threads"],
        record["memory_format"],
        record["onednn"],
        record["fused"],
        record.get("stacked", True),
        record.get("flush_denormals", False),
        record.get("compiled", False),
        record.get("one_rate", False),
    )
