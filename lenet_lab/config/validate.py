"""Checking one value against its type, with an error of one line: the key, the value, what is allowed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from lenet_lab.provenance import SECRET, redact_text
from lenet_lab.records import LabError


def refuse(key: str, value: Any, why: str) -> NoReturn:
    """Raise the one-line error. A number group's only value is named by the group: `lr=-1`, not `lr.value=-1`."""
    text = "[redacted]" if SECRET.search(key) else redact_text(shown(value))
    raise LabError(f"{key.removesuffix('.value')}={text}: {why}")


def validated(key: str, value: Any, kind: Any) -> Any:
    """`value` as an instance of `kind` (a dataclass or an annotated type), strictly typed; integers pass as floats.

    Raises:
        LabError: the value does not fit, or is not finite.
    """
    for path, leaf in _leaves(key, value):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            refuse(path, leaf, "must be a finite number")
    try:
        text = json.dumps(value)
    except TypeError:
        refuse(key, value, "must be plain numbers, words and lists")
    try:
        return _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join([key, *(str(part) for part in first["loc"] if not _is_type_name(part))])
        if first["type"] == "value_error":  # raised by the dataclass itself: it already names its key
            message = str(first["ctx"]["error"])
            raise LabError(message if message.startswith(key) else f"{key}: {message}") from None
        refuse(where, first["input"], _allowed(first["type"], first["msg"]))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Building one takes longer than all else about a cell."""
    return TypeAdapter(kind)


def shown(value: Any) -> str:
    """A value as a user wrote it, on one line and not endless."""
    text = str(value) if isinstance(value, str | float) else json.dumps(value, default=str)
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return text if len(text) <= 80 else text[:77] + "..."


def _allowed(kind: str, message: str) -> str:
    if kind == "missing":
        return "missing"
    return (
        message.replace("Input should be", "must be").replace("a valid integer", "an integer").replace("a valid ", "a ")
    )


def _is_type_name(part: Any) -> bool:
    return isinstance(part, str) and (
        not part.isidentifier() or part in ("int", "float", "str", "bool", "constrained-int")
    )


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(key, inner)
    else:
        yield key, value
