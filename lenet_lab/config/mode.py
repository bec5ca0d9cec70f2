"""Whether the configuration itself asks for a sweep (`hydra.mode`), without composing it for the answer.

Hydra composes every command twice, the first time to read `hydra.mode` alone: a tenth of a second and more. Where
nothing that it would read names a mode, the command line has said it all: `-m` or not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ELSEWHERE = (
    "hydra.mode",
    "hydra.searchpath",
    "--config-",
    "-cd",
    "-cp",
    "-cn",
)  # words that bring other files, or a mode
MODE = re.compile(r"""^[^#\n]*\bmode["']?\s*:""", re.MULTILINE)


def may_be_configured(words: Sequence[str], conf: Path) -> bool:
    """Whether the words or any file under the folder may name a mode."""
    if any(word.startswith(ELSEWHERE) or "hydra.mode" in word for word in words):
        return True
    return any(MODE.search(file.read_text(encoding="utf-8")) for file in conf.rglob("*.yaml"))


def ask_once(words: Sequence[str], conf: Path) -> None:
    """Spare Hydra the first composing where it cannot tell anything."""
    if may_be_configured(words, conf):
        return
    from hydra._internal.hydra import Hydra

    def unasked(self: Any, config_name: str | None, overrides: list[str]) -> None:
        """As Hydra's own answers where it could not compose: what the command line says."""

    Hydra.get_mode = unasked  # type: ignore[method-assign]
