"""What a study asks: its baseline, its factors and the family of comparisons, as an experiment file names them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lenet_lab.records import LabError

Params = Mapping[str, str]


METRIC = "test/acc"


@dataclass(frozen=True)
class Study:
    """The `study` node of an experiment file.

    Attributes:
        baseline: text that selects the arm the others are compared with (see `matches`).
        factors: the params that the study varies, rows first.
        family: what Holm's adjustment runs over: `ARM` (against the baseline) or `ARM vs ARM`; None: every other arm
            against the baseline.
        difference: the smallest difference in test accuracy (0 to 1) that one hopes to see.
        metric: what its report compares; `val/acc` where recipes are chosen.
    """

    name: str
    baseline: str
    factors: tuple[str, ...]
    family: tuple[str, ...] | None = None
    difference: float | None = None
    metric: str = METRIC

    def comparisons(self, arms: Mapping[str, Params]) -> list[tuple[str, str]]:
        """The family as pairs of arms (the one looked at, the one it is compared with).

        Args:
            arms: arm -> the params of one of its runs.

        Raises:
            LabError: a text selects no arm, or several.
        """
        baseline = select(arms, self.baseline)
        if self.family is None:
            return [(arm, baseline) for arm in arms if arm != baseline]
        sides = [text.partition(" vs ") for text in self.family]
        return [(select(arms, left), select(arms, right) if vs else baseline) for left, vs, right in sides]

    def dumps(self) -> str:
        """The node as JSON, for a tag."""
        return json.dumps(asdict(self), sort_keys=True)


def read_study(node: Any) -> Study:
    """The checked node.

    Raises:
        LabError: a key is unknown, missing or of the wrong type.
    """
    known = [field.name for field in fields(Study)]
    if not isinstance(node, Mapping):
        raise LabError(f"study={node}: must be keys and values; allowed: {', '.join(known)}")
    for key in node:
        if key not in known:
            raise LabError(f"study.{key}={node[key]}: no such key; allowed: {', '.join(known)}")
    for key in ("name", "baseline"):
        if not isinstance(node.get(key), str) or not node[key]:
            raise LabError(f"study.{key}={node.get(key)}: must be a text")
    lists = {"factors": node.get("factors"), "family": node.get("family", [])}
    for key, value in lists.items():
        if not (key == "family" and value is None) and not _texts(value):
            raise LabError(f"study.{key}={value}: must be a list of texts")
    hoped = node.get("difference")
    if hoped is not None and (isinstance(hoped, bool) or not isinstance(hoped, int | float) or not 0 < hoped < 1):
        raise LabError(f"study.difference={hoped}: must be a share of the test images, between 0 and 1")
    metric = node.get("metric", METRIC)
    if not isinstance(metric, str) or not metric:
        raise LabError(
            f"study.metric={metric}: must be a text; allowed: the name of a metric, such as {METRIC} or val/acc"
        )
    for text in (node["baseline"], *(node.get("family") or ())):
        for side in text.split(" vs "):
            pairs(side)
    family = node.get("family")
    return Study(node["name"], node["baseline"], tuple(node["factors"]), family and tuple(family), hoped, metric)


def loads(text: str) -> Study:
    """The study that a tag holds.

    Raises:
        LabError: it holds none.
    """
    try:
        node = json.loads(text)
    except (ValueError, RecursionError):
        raise LabError("study: the tag is not readable JSON") from None
    return read_study(node)


def pairs(text: str) -> list[tuple[str, str]]:
    """`pool=max norm=bn` as pairs.

    Raises:
        LabError: a word without `=`, or no word at all.
    """
    found = [word.partition("=") for word in text.split()]
    if not found or any(not key or not eq or not value for key, eq, value in found):
        raise LabError(f"{text!r}: does not select arms; write pairs like `pool=max norm=bn`")
    return [(key, value) for key, _, value in found]


def matches(params: Params, text: str) -> bool:
    """Whether every pair holds: `pool=max` of an option, `lr=0.001` of a group's number, `norm.groups=2` of a key."""
    return all(_holds(params, key, value) for key, value in pairs(text))


def select(arms: Mapping[str, Params], text: str) -> str:
    """The one arm that the text selects.

    Raises:
        LabError: none or several; the line names what the several differ in.
    """
    found = [arm for arm, params in arms.items() if matches(params, text)]
    if len(found) == 1:
        return found[0]
    if not found:
        keys = [key for key, _ in pairs(text)]
        known = sorted({f"{key}={params[key]}" for params in arms.values() for key in keys if key in params})
        raise LabError(f"{text!r}: selects no arm; there are: {', '.join(known[:12]) or 'none'}")
    names = sorted({key for arm in found for key in arms[arm]} - {"seed"})
    differ = [key for key in names if len({arms[arm].get(key) for arm in found}) > 1]
    telling = [key for key in differ if key.partition(".")[0] not in differ or "." not in key]
    raise LabError(f"{text!r}: selects {len(found)} arms; say also {', '.join(telling[:6]) or 'which'}")


def _holds(params: Params, key: str, value: str) -> bool:
    return any(_same(params[name], value) for name in (key, f"{key}.value") if name in params)


def _same(left: str, right: str) -> bool:
    try:
        return left == right or float(left) == float(right)
    except ValueError:
        return False


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value)
