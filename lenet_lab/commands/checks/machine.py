"""The machine: room on its disks, cores, GPUs, the port of the UI."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lenet_lab.commands.checks import Finding, Level
from lenet_lab.commands.checks.probe import Probes
from lenet_lab.commands.common import human

SCARCE = 1 << 30
EXHAUSTED = 64 << 20
PORT = 5000


def disk(folder: Path) -> Iterator[Finding]:
    """Room where the store lies and where temporary files go."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    temporary = Path(os.environ.get("TMPDIR") or "/tmp")
    yield from _room("the store's folder", folder, "`python -m lenet_lab gc` shows what can go")
    if not temporary.is_dir() or not os.access(temporary, os.W_OK | os.X_OK):
        yield Finding("disk", "problem", f"TMPDIR={temporary} cannot be written", "set TMPDIR to a folder that can be")
    else:
        yield from _room("TMPDIR", temporary, "free some, or set TMPDIR to a folder with more room")


def _room(name: str, folder: Path, do: str) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free
    level: Level = "ok" if free >= SCARCE else "warning" if free >= EXHAUSTED else "problem"
    yield Finding("disk", level, f"{human(free)} free in {name} {folder}", "" if level == "ok" else do)


def threads() -> Iterator[Finding]:
    """The cores this process may use, by affinity and by the control group's quota, and what the environment says."""
    cores, quota = len(os.sched_getaffinity(0)), cpu_quota()
    if quota is not None and quota < cores:
        whole = max(1, int(quota))
        found = f"{cores} cores are visible, but the control group's quota is {quota:g}: more threads only wait"
        yield Finding("threads", "warning", found, f"add sweep.workers={whole} sweep.threads=1 to sweeps")
    else:
        yield Finding("threads", "ok", f"{cores} cores")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        given = os.environ.get(name)
        if given is None:
            continue
        if not given.isdigit() or int(given) < 1:
            yield Finding("threads", "problem", f"{name}={given!r} is no number of threads", f"unset {name}")
        elif int(given) > cores:
            yield Finding("threads", "warning", f"{name}={given}, and there are {cores} cores", f"unset {name}")
        else:
            yield Finding("threads", "ok", f"{name}={given}; trainer.threads and sweep.threads go before it")


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Cores' worth of time that control groups (version 2 or 1) allow; None: no limit, or no control groups."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return None
    found = []
    for _, controllers, path in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = root / controllers if controllers else root
        for group in [folder / path.lstrip("/"), *(folder / path.lstrip("/")).parents]:
            found.append(_quota_of(group))
            if group == folder:
                break
    return min((quota for quota in found if quota is not None), default=None)


def _quota_of(group: Path) -> float | None:
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(quota) / int(period) if quota.isdigit() and int(period) > 0 else None
    except (OSError, ValueError):
        return None


def gpu(probes: Probes) -> Iterator[Finding]:
    """The GPUs that torch can use; those that the driver has and torch cannot."""
    answer = probes.answers.get("torch", {})
    cards = _driver()
    usable = answer.get("gpus") or []
    for index, (name, memory) in enumerate(usable):
        driver = f", driver {cards[0][1]}" if cards else ""
        built = f", torch built for {answer.get('built_for')}"
        yield Finding("gpu", "ok", f"{index}: {name}, {human(memory)}{driver}{built}")
    for name, _, free in cards if usable else ():
        if free < SCARCE:
            yield Finding("gpu", "warning", f"{name}: {human(free)} free", "wait, or use trainer.accelerator=cpu")
    if usable or answer.get("error"):
        return
    if not cards:
        yield Finding("gpu", "ok", "none: the CPU is used")
        return
    if os.environ.get("CUDA_VISIBLE_DEVICES") is not None:
        hidden = os.environ["CUDA_VISIBLE_DEVICES"]
        do = "unset CUDA_VISIBLE_DEVICES"
        yield Finding("gpu", "warning", f"{cards[0][0]} is hidden by CUDA_VISIBLE_DEVICES={hidden!r}", do)
    elif answer.get("built_for") is None:
        do = "install torch and torchvision built for CUDA, as PyTorch's installation page says"
        yield Finding("gpu", "warning", f"{cards[0][0]} is not used: this torch is built for the CPU", do)
    else:
        found = f"{cards[0][0]} is not used: driver {cards[0][1]} does not serve CUDA {answer['built_for']}"
        yield Finding("gpu", "warning", found, "update the NVIDIA driver, or install a torch built for an older CUDA")


def _driver() -> list[tuple[str, str, int]]:
    """Name, driver and free memory of each card, as the NVIDIA driver tells."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.free", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in said.splitlines()]
    return [(row[0], row[1], int(row[2]) << 20 if row[2].isdigit() else SCARCE) for row in rows if len(row) == 3]


def port() -> Iterator[Finding]:
    """Whether the UI's usual port is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError as error:
            do = "`python -m lenet_lab ui --port 5001`"
            yield Finding("port", "warning", f"{PORT} cannot be had ({error.strerror}); the UI would want it", do)
        else:
            yield Finding("port", "ok", f"{PORT} is free for `python -m lenet_lab ui`")


def network() -> Iterator[Finding]:
    """Nothing is asked of it."""
    yield Finding("network", "ok", "not needed, but to download a data set that is not here")
