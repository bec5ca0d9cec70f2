"""Where `torch.compile` pays, and how it is asked.

CPU milliseconds of a forward pass, the loss and the backward pass as they are and compiled, one thread of an EPYC
(Zen 5), torch 2.15, medians of 4 alternating rounds of 60, beside other work: ten replicas of the 1998 network with
batches of 1, 4.4 and 2.5, five 2.7 and 1.3; eight of LeNet-5 with batches of 1, 1.9 and 0.8, of 2, 3.3 and 3.5, of 4,
3.8 and 4.8; sixteen with batches of 8, 13.4 and 17.3. One 1998 network by itself, 0.71 and 0.63; LeNet-5 with batches
of 32, 2.8 and 2.5, of 64 with batch norm, 5.4 and 6.3. A whole epoch of five 1998 networks, batch 1: 1,720 and 2,880
images a second (n=2). Compiling takes a process 25 to 53 seconds; the next one finds the result on the disk.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

LEAST_UPDATES = 200_000  # fewer do not earn what compiling takes
BACKEND = "inductor"
FOLDER = "TORCHINDUCTOR_CACHE_DIR"
RECOMPILATIONS = 1024  # a pack is compiled anew for every size that it shrinks to


def pays(batch_size: int, updates: int, device: torch.device, precision: str, dropout: bool, stops_early: bool) -> bool:
    """Whether to compile a pack where nothing is said: a long one on single images, whose shapes stay what they are.

    Args:
        updates: of the whole run.
        stops_early: whether replicas leave a pack on their way, for which the rest would be compiled anew.
    """
    return (
        device.type == "cpu"
        and batch_size == 1
        and updates >= LEAST_UPDATES
        and precision == "32-true"
        and not dropout
        and not stops_early
        and why_not("cpu") is None
    )


def compiled(function: Callable[..., Any], graphs: bool = False) -> Callable[..., Any]:
    """The same function, translated when it is first called.

    With `graphs` into CUDA graphs, where its inputs allow that: what they return is overwritten by the next call.
    """
    _alone()
    mode = "reduce-overhead" if graphs and BACKEND == "inductor" else None
    return torch.compile(function, dynamic=False, mode=mode, backend=BACKEND)


@cache
def why_not(device: str) -> str | None:
    """Why torch cannot compile for such a device here, None where it can. The first answer takes seconds.

    For a CPU it wants a C++ compiler and Python's headers.
    """
    try:
        compiled(lambda x: (x * 2).sin())(torch.ones(4, device=device))
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        return text.splitlines()[0]
    return None


def _alone() -> None:
    """In this process, without others for parts of the work; into a folder of the user's own, if no other is named."""
    import torch._dynamo.config
    import torch._inductor.config
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(FOLDER) in (None, default_cache_dir()):  # torch names its own when it is first asked
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lenet_lab" / "compiled"
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[FOLDER] = str(cache)
    torch._inductor.config.compile_threads = 1
    torch._dynamo.config.recompile_limit = RECOMPILATIONS
    torch._dynamo.config.accumulated_recompile_limit = RECOMPILATIONS
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it misses CUDA where there is none
