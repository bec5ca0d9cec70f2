"""Hydra's mistakes in the words of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hydra_errors() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into one line."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from lenet_lab.config.wording import one_line
    from lenet_lab.records import LabError

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise LabError(one_line(error)) from None
