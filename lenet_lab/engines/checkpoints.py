"""Checkpoints that a crash, a full disk or a flipped bit cannot turn into wrong numbers.

A checkpoint is written beside its target, synced, and moved into place; its SHA-256 lies beside it. Loading checks
the digest and takes weights only, so a file can neither execute code nor be half right.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO


class DamagedCheckpoint(ValueError):
    """The file is not what was written."""


class VerifiedCheckpointIO(CheckpointIO):
    """Lightning's door to the file system."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write whole or not at all."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getvalue()
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(digest_path(target), hashlib.sha256(content).hexdigest().encode())
        write_whole(target, content)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint whose digest holds; code in it is never run.

        Raises:
            DamagedCheckpoint: no digest, or another one.
        """
        return torch.load(io.BytesIO(verified(Path(path))), map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a checkpoint and its digest."""
        for file in (Path(path), digest_path(Path(path))):
            file.unlink(missing_ok=True)


def newest_valid(folder: Path, prefix: str = "epoch") -> Path | None:
    """The newest checkpoint of a folder whose digest holds; damaged ones are passed over, not deleted."""
    for path in sorted(folder.glob(f"{prefix}-*.ckpt"), reverse=True):
        with contextlib.suppress(DamagedCheckpoint, OSError):
            verified(path)
            return path
    return None


def prune(folder: Path, keep: int, prefix: str = "epoch") -> None:
    """Remove all but the newest `keep` checkpoints."""
    for path in sorted(folder.glob(f"{prefix}-*.ckpt"))[:-keep]:
        VerifiedCheckpointIO().remove_checkpoint(path)


def verified(path: Path) -> bytes:
    """The content of a checkpoint whose digest holds."""
    content = path.read_bytes()
    try:
        stated = digest_path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise DamagedCheckpoint(f"{path}: its digest is missing") from None
    if hashlib.sha256(content).hexdigest() != stated:
        raise DamagedCheckpoint(f"{path}: damaged, its digest does not hold")
    return content


def digest_path(path: Path) -> Path:
    """Where a checkpoint's digest lies."""
    return path.with_name(path.name + ".sha256")


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the target, sync, move into place: a reader sees the old file or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
