"""Memory that is there to be used: of this machine, within the limits of its control group, and of its GPUs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch

ROOT = Path("/")


def share(device: torch.device, workers: int, root: Path = ROOT) -> int:
    """Bytes for each of so many workers side by side: of its own GPU, or its share of one; of this machine."""
    if device.type == "cuda":
        beside = -(-workers // max(1, torch.cuda.device_count()))
        return int(torch.cuda.mem_get_info()[0]) // beside
    return free(root) // workers


def free(root: Path = ROOT) -> int:
    """Bytes that the system can give without paging: what is unused or cached, as far as a container's limit allows."""
    return min((_available(root), *_limits(root)))


def _available(root: Path) -> int:
    try:
        found = re.search(r"^MemAvailable: +(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return 1024 * int(found[1])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS has no such file


def _limits(root: Path) -> Iterator[int]:
    """What is left of the limit of each control group (version 2) that this process is in, from its own outwards."""
    try:
        own = re.search(r"^0::/(.*)$", (root / "proc/self/cgroup").read_text(), re.MULTILINE)
    except OSError:
        return
    top = root / "sys/fs/cgroup"
    group = top / (own[1] if own else "")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(top):
            return
        try:
            limit, used = (folder / "memory.max").read_text().strip(), int((folder / "memory.current").read_text())
            cached = re.search(r"^inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
        except (OSError, ValueError):
            continue
        if limit.isdigit():
            yield max(0, int(limit) - used + (int(cached[1]) if cached else 0))
