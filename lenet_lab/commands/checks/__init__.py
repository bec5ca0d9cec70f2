"""What `doctor` looks at. A check is a function that yields findings; it changes nothing and knows no other check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from lenet_lab.provenance import redact_text

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what to do where it is not well."""

    check: str
    level: Level
    found: str
    do: str = ""


Check = Callable[[], Iterable[Finding]]


def examine(name: str, check: Check) -> Iterator[Finding]:
    """What a check finds; one that fails itself is a finding too."""
    try:
        yield from check()
    except Exception as error:
        why = redact_text(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
        yield Finding(name, "problem", f"could not be looked at: {why}", "mend that first; the other checks stand")
