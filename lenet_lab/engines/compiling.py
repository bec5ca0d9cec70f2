"""Where `torch.compile` pays, and how it is asked.

CPU milliseconds of a forward pass, the loss and the backward pass as they are and compiled, one thread of an EPYC
(Zen 5), torch 2.15, medians of 4 alternating rounds of 60: ten replicas of the 1998 network with batches of 1, 4.4 and
2.5; eight of LeNet-5 with batches of 1, 1.9 and 0.8, of 2, 3.3 and 3.5, of 4, 3.8 and 4.8; sixteen with batches of 8,
13.4 and 17.3. One 1998 network by itself, 0.71 and 0.63; LeNet-5 with batches of 32, 2.8 and 2.5, of 64 with batch
norm, 5.4 and 6.3. Compiling takes a process 25 to 53 seconds; the next one finds the result on the disk.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

LEAST_UPDATES = 200_000  # fewer do not earn what compiling takes
BACKEND = "inductor"


def pays(batch_size: int, updates: int, device: torch.device, dropout: bool, stops_early: bool) -> bool:
    """Whether to compile where nothing is said: long runs on single images, whose shapes stay what they are.

    Args:
        updates: of the whole run.
        stops_early: whether replicas leave a pack on their way, for which the rest would be compiled anew.
    """
    return (
        device.type == "cpu"
        and batch_size == 1
        and updates >= LEAST_UPDATES
        and not dropout
        and not stops_early
        and works()
    )


def compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """The same function, translated when it is first called; on a GPU as CUDA graphs, where its inputs allow that."""
    _alone()
    mode = "reduce-overhead" if device.type == "cuda" and BACKEND == "inductor" else None
    return torch.compile(function, dynamic=False, mode=mode, backend=BACKEND)


@cache
def works() -> bool:
    """Whether torch can compile here: it wants a C++ compiler and Python's headers. The first answer takes seconds."""
    try:
        compiled(lambda x: (x * 2).sin(), torch.device("cpu"))(torch.ones(4))
    except Exception:
        return False
    return True


def _alone() -> None:
    """In this process, without a pool of others, and without a word about CUDA where there is none."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
