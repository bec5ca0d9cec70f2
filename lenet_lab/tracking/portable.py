"""One tracked run, or the parent of a sweep, as a line of an export: what is in it and what may be in it."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from lenet_lab.records import RunRecord
from lenet_lab.tracking.artifacts import SUMS, digests
from lenet_lab.tracking.runs import OUTCOMES

# tags that speak of the machine or the store that a run was tracked on, or are written anew by an import
LOCAL_TAGS = ("host", "pid", "locks", "heartbeat", "owner", "ended_by", "run_id")
COMMIT = "mlflow.source.git.commit"
MLFLOW_TAGS = ("note.content", "source.name", "source.type", "source.git.commit")
# overrides that say where things lie
_LOCAL_WORD = re.compile(r"[+~]*(data\.root|tracking|hydra)\b")


def _name(key: str) -> str:
    """MLflow's own rule for the names of params, metrics and tags."""
    if not re.fullmatch(r"[/\w.\- :]+", key) or posixpath.normpath(key) != key or key[:1] in "/." or "\\" in key:
        raise ValueError("no name that MLflow takes")
    return key


def portable_tag(name: str) -> bool:
    """Whether a tag goes into an export."""
    space, _, rest = name.partition(".")
    return rest in MLFLOW_TAGS if space == "mlflow" else not (space == "lenet" and rest in LOCAL_TAGS)


def _tag(name: str) -> str:
    if not portable_tag(name):
        raise ValueError("no tag of an export")
    return name


Name = Annotated[str, Field(max_length=250), AfterValidator(_name)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RunId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Whole = Annotated[int, Field(ge=0, lt=1 << 62)]
Number = Annotated[float, Field(allow_inf_nan=False)] | Literal["nan", "inf", "-inf"]
Point = tuple[Whole, Whole, Number]
_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class Input:
    """A data set that a run used, as MLflow shows it."""

    name: Annotated[str, Field(min_length=1, max_length=500)]
    digest: Annotated[str, Field(min_length=1, max_length=36)]
    source_type: Annotated[str, Field(min_length=1, max_length=36)]
    source: Annotated[str, Field(max_length=65_535)]
    profile: Annotated[str, Field(max_length=100_000)]
    tags: dict[Annotated[str, Field(min_length=1, max_length=255)], Annotated[str, Field(max_length=500)]]


@dataclass(frozen=True, config=_STRICT)
class SweepCell:
    """A cell as the parent of a sweep lists it."""

    key: Digest
    arm: str
    name: str
    overrides: list[str]


@dataclass(frozen=True, config=_STRICT)
class Portable:
    """A line of `runs.jsonl`.

    Attributes:
        run_id: where it was trained, and for good: what tells it from any other run.
        parent: the run id of its sweep's parent, if that is in the file too.
        points: metric -> [[step, time in ms, value], ...].
        artifacts: the files of it that are in the export, as `artifacts/<run id>/<file>`.
        cells: of a sweep's parent.
    """

    kind: Literal["run", "sweep"]
    run_id: RunId
    name: Annotated[str, Field(max_length=250)]
    status: Literal["FINISHED", "FAILED", "KILLED"]
    start_ms: Whole
    end_ms: Whole
    parent: RunId | None
    params: dict[Name, Annotated[str, Field(max_length=6000)]]
    tags: dict[Annotated[Name, AfterValidator(_tag)], Annotated[str, Field(max_length=8000)]]
    points: dict[Name, list[Point]]
    inputs: list[Input]
    artifacts: list[str]
    cells: list[SweepCell]

    def __post_init__(self) -> None:
        if self.kind == "sweep":
            if self.tags.get("lenet.kind") != "sweep" or not self.cells:
                raise ValueError("a sweep without its cells")
            _DIGEST.validate_python(self.tags.get("lenet.sweep"))
            return
        _DIGEST.validate_python(self.tags.get("lenet.key"))
        if self.tags.get("lenet.state") not in OUTCOMES or "lenet.kind" in self.tags or self.cells:
            raise ValueError("a run that is neither complete nor diverged")
        if not set(self.artifacts) <= set(digests(self.run_id, self.tags)):
            raise ValueError(f"files that tag {SUMS} does not list")

    @property
    def key(self) -> str:
        """The run key."""
        return self.tags.get("lenet.key", "")

    def values(self, metric: str) -> list[tuple[int, int, float]]:
        """The points of a metric as numbers, by step and time."""
        return sorted((step, at, float(value)) for step, at, value in self.points[metric])

    def line(self) -> bytes:
        """The run as one line of JSON; the same run gives the same bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"

    def record(self, link: str) -> RunRecord:
        """The run as a plain record."""
        tags, seed = self.tags, self.params.get("seed", "")
        return RunRecord(
            run_id=self.run_id,
            name=self.name or self.run_id,
            key=self.key,
            arm=tags.get("lenet.arm", ""),
            seed=int(seed) if seed.isdigit() else None,
            state=tags["lenet.state"],
            sweep=tags.get("lenet.sweep", ""),
            params=dict(self.params),
            metrics={name: self.values(name)[-1][2] for name, points in self.points.items() if points},
            tags={key: value for key, value in tags.items() if not key.startswith("mlflow.") or key == COMMIT},
            start_ms=self.start_ms,
            end_ms=self.end_ms,
            artifact_uri="",
            link=link + self.run_id if link else None,
        )


_DIGEST: TypeAdapter[str] = TypeAdapter(Digest)
PORTABLE: TypeAdapter[Portable] = TypeAdapter(Portable)


def number(value: float) -> float | str:
    """A float as JSON can say it."""
    return value if math.isfinite(value) else str(float(value))


def portable_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that go with a run, without what lies where on this machine."""
    kept = {name: value for name, value in tags.items() if portable_tag(name)}
    if "lenet.overrides" in kept:
        words = json.loads(kept["lenet.overrides"])
        kept["lenet.overrides"] = json.dumps(portable_words(words))
    return kept


def portable_words(words: Sequence[str]) -> list[str]:
    """Overrides without those that say where things lie."""
    return [word for word in words if not _LOCAL_WORD.match(word)]


def portable_cells(cells: Sequence[Mapping[str, Any]]) -> list[SweepCell]:
    """The cells of a sweep, in the order that it runs them."""
    return [SweepCell(c["key"], c["arm"], c["name"], portable_words(c["overrides"])) for c in cells]
