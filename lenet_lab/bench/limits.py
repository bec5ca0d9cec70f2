"""What a device can do at most, measured: arithmetic by large products of matrices, memory by copying."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

TRIES = 8


def arithmetic(device: torch.device, side: int | None = None) -> float:
    """Floating-point operations a second of float32 products, 2 for each multiply-accumulate."""
    n = side or (8192 if device.type == "cuda" else 2048)
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    return 2 * n**3 / _fastest(lambda: a @ b, device)


def memory(device: torch.device, mebibytes: int | None = None) -> float:
    """Bytes a second read and written by a copy that no cache holds, and that takes longer than to ask for it."""
    mebibytes = mebibytes or 512
    if device.type == "cuda":
        mebibytes = max(mebibytes, min(4096, torch.cuda.mem_get_info(device)[0] // 2**20 // 8))
    rate = _copying(mebibytes * 2**18, device)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # others measure on this device while this process lives
    return rate


def _copying(numbers: int, device: torch.device) -> float:
    source = torch.zeros(numbers, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * numbers / _fastest(lambda: target.copy_(source), device)


def _fastest(work: Callable[[], Tensor], device: torch.device) -> float:
    seconds = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:])
