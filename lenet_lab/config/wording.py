"""Hydra's mistakes in one line each."""

from __future__ import annotations

import re

from lenet_lab.config.numbers import NUMBER_GROUPS


def one_line(error: BaseException) -> str:
    """Hydra's message on one line; for an unknown option, the options there are."""
    options, missing = getattr(error, "options", None), getattr(error, "missing_cfg_file", None)
    if missing:
        group, _, option = str(missing).partition("/")
        allowed = [*sorted(options or []), *(["any number"] if group in NUMBER_GROUPS else [])]
        return f"{group}={option}: no such option; allowed: {', '.join(allowed) or 'none'}"
    text = " ".join(str(error).split())
    unknown = re.match(r"Could not override '([^']+)'\. To append to your config use \+(\S+)", text)
    if unknown:
        return f"{unknown[2]}: no such key; `python -m lenet_lab --cfg job` shows those there are"
    return text
