"""Look a name up in a table of variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from lenet_lab.records import LabError

T = TypeVar("T")


def row(table: Mapping[str, T], key: str, name: str) -> T:
    """The table's entry `name`; where there is none, a `LabError` that names the key and the choices."""
    if name not in table:
        raise LabError(f"{key}={name}: no such option; allowed: {', '.join(table)}")
    return table[name]
