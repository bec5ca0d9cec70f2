"""What sets two groups of runs apart, in the order in which it is likely to explain their results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lenet_lab.records import RunRecord
from lenet_lab.report.labels import hidden, printable, reading_key

# the most telling first; what stands last cannot change a number
KINDS = ("data", "configuration", "seed", "code", "libraries", "execution", "surroundings")
NOTHING = "not recorded"
_CLIP, _MOST = 60, 4
_COMMIT = "mlflow.source.git.commit"


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same on both sides, as text."""

    kind: str
    key: str
    left: str
    right: str


Side = Sequence[RunRecord]
Fact = Callable[[RunRecord], str | None]


def differences(left: Side, right: Side) -> list[Difference]:
    """What differs between two runs, or between the runs of two arms; empty where nothing does."""
    rows = [Difference("data", "digest", *pair) for pair in _pair(left, right, _tag("lenet.data_digest", 12))]
    params = _params(left, right)
    rows += [row for row in params if row.key.partition(".")[0] == "data"]
    rows += [row for row in params if row.key.partition(".")[0] != "data"]
    rows = [Difference("data" if row.key.startswith("data") else row.kind, *_rest(row)) for row in rows]
    rows += [Difference("seed", "seed", *pair) for pair in _pair(left, right, _seed)]
    code = _pair(left, right, _tag("lenet.code", 12))
    rows += [Difference("code", "training modules", *pair) for pair in code]
    kind = "code" if code else "surroundings"  # the same modules in another commit give the same numbers
    rows += [Difference(kind, "commit", *pair) for pair in _pair(left, right, _tag(_COMMIT, 12))]
    rows += [Difference(kind, "dirty", *pair) for pair in _pair(left, right, _dirty)]
    for kind, keys in (("libraries", _keys(left, right, _versions)), ("execution", _keys(left, right, _execution))):
        read = _versions if kind == "libraries" else _execution
        for key in keys:
            rows += [Difference(kind, key, *pair) for pair in _pair(left, right, _entry(read, key))]
    for name in ("lenet.host", "lenet.timing", "lenet.test_curve"):
        key = name.partition(".")[2]
        rows += [Difference("surroundings", key, *pair) for pair in _pair(left, right, _tag(name))]
    return sorted(rows, key=lambda row: KINDS.index(row.kind))


def matters(rows: Sequence[Difference]) -> list[Difference]:
    """Those that can change a number."""
    return [row for row in rows if row.kind != "surroundings"]


def _params(left: Side, right: Side) -> list[Difference]:
    """Options first, and of a group with the same option on both sides the keys that differ."""
    names = sorted({name for record in (*left, *right) for name in record.params if not hidden(name)}, key=reading_key)
    rows = {name: pair for name in names for pair in _pair(left, right, _param(name))}
    shown = []
    for name, (before, after) in rows.items():
        group, _, key = name.partition(".")
        if key and group in rows:  # another option has other keys: they stand beside its name
            continue
        if not key and any(other.startswith(f"{group}.") for other in names):
            before, after = (
                f"{said} {_keys_of(side, group)}".strip() for said, side in ((before, left), (after, right))
            )
        shown.append(Difference("configuration", name, before, after))
    return shown


def _keys_of(side: Side, group: str) -> str:
    """The keys of a group that all runs of a side share, in brackets: `(groups=3 place=conv)`."""
    first, *others = (record.params for record in side)
    option = first.get(group)
    pairs = [
        f"{name.partition('.')[2]}={printable(value, 20)}"
        for name, value in sorted(first.items())
        if name.startswith(f"{group}.") and value not in (option, "null") and "._" not in name and not hidden(name)
        if all(params.get(name) == value for params in others)
    ]
    return f"({' '.join(pairs)})" if pairs else ""


def _pair(left: Side, right: Side, fact: Fact) -> list[tuple[str, str]]:
    """The two sides of a fact where they differ: no or one pair."""
    one, other = (Counter(NOTHING if (v := fact(record)) is None else v for record in side) for side in (left, right))
    return [] if set(one) == set(other) else [(_said(one), _said(other))]


def _said(values: Counter[str]) -> str:
    if len(values) == 1:
        return printable(next(iter(values)), _CLIP)
    kept = sorted(values, key=_by_number)
    text = ", ".join(printable(value, 20) for value in kept[:_MOST])
    return text if len(kept) <= _MOST else f"{text}, ... {printable(kept[-1], 20)} ({len(kept)} values)"


def _by_number(text: str) -> tuple[float, str]:
    return (float(text) if text.isdigit() else -1.0, text)


def _tag(name: str, clip: int | None = None) -> Fact:
    return lambda record: None if (value := record.tags.get(name)) is None else value[:clip]


def _param(name: str) -> Fact:
    return lambda record: record.params.get(name)


def _seed(record: RunRecord) -> str | None:
    return None if record.seed is None else str(record.seed)


def _dirty(record: RunRecord) -> str:
    return "changed since the commit" if record.tags.get("lenet.dirty") == "true" else "as committed"


def _execution(record: RunRecord) -> Mapping[str, Any]:
    """How a run was executed, without its libraries and the code, which have lines of their own."""
    return {key: value for key, value in _record(record).items() if key not in ("code", "versions")}


def _versions(record: RunRecord) -> Mapping[str, Any]:
    found = _record(record).get("versions")
    return found if isinstance(found, dict) else {}


def _record(record: RunRecord) -> Mapping[str, Any]:
    try:
        found = json.loads(record.tags.get("lenet.execution", ""))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _keys(left: Side, right: Side, read: Callable[[RunRecord], Mapping[str, Any]]) -> list[str]:
    return sorted({key for record in (*left, *right) for key in read(record)})


def _entry(read: Callable[[RunRecord], Mapping[str, Any]], key: str) -> Fact:
    return lambda record: str(read(record)[key]) if key in read(record) else None


def _rest(row: Difference) -> tuple[str, str, str]:
    return row.key, row.left, row.right
