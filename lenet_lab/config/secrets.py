"""Secrets stay out of every file: Hydra writes what it was told as it was told, so it is told none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lenet_lab.provenance import SECRET, redact_text
from lenet_lab.records import LabError

HOW = (
    "a secret here would end up in files; allowed: MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME, "
    "MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN in the environment, or '${oc.env:NAME}' as the value"
)


def refuse_secrets(config: DictConfig) -> None:
    """Refuse a composed configuration that holds a secret, before Hydra has written anything of it.

    A value that is an interpolation is stored as such, and tells nothing.

    Raises:
        LabError: a password in a URI, or a value under a key that names a secret; it names the key alone.
    """
    plain = OmegaConf.to_container(config, resolve=False)
    words = [word.partition("=") for word in config.hydra.overrides.task]
    given = ((key.lstrip("+~"), value) for key, _, value in words)
    for key, value in (*given, *_leaves("", plain)):
        named = SECRET.search(key) and value not in ("", "null", "???") and not str(value).startswith("${")
        if isinstance(value, str) and (named or redact_text(value) != value):
            raise LabError(f"{key}=[redacted]: {HOW}")


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}" if key else str(name), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(key, inner)
    else:
        yield key, value
