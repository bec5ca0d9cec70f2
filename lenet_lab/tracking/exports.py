"""Tracked runs as one file: written from a store, read back without any."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lenet_lab.records import Curves, LabError, RunRecord
from lenet_lab.study import Study, loads
from lenet_lab.tracking.artifacts import digests, read_checked
from lenet_lab.tracking.claims import counts, search
from lenet_lab.tracking.collect import run_line, sweep_line
from lenet_lab.tracking.parents import STUDY, cells_of, find_parents, parents
from lenet_lab.tracking.portable import PORTABLE, Portable
from lenet_lab.tracking.read import link, trained_as
from lenet_lab.tracking.sealed import Sealed, opened, write
from lenet_lab.tracking.store import Store

FORMAT = 1
MANIFEST, RUNS = "manifest.json", "runs.jsonl"
ARTIFACTS = ("none", "predictions", "all")


@dataclass(frozen=True)
class Export:
    """What an export says.

    Attributes:
        records: its runs, all complete or diverged.
        curves: every metric of them.
        sweeps: sweep id -> the keys of its cells, run or not.
        studies: sweep id -> the study that it was launched for, where there was one.
    """

    records: list[RunRecord]
    curves: Curves
    sweeps: Mapping[str, frozenset[str]]
    studies: Mapping[str, Study] = field(default_factory=dict)

    def of_sweep(self, prefix: str) -> list[RunRecord]:
        """The runs of the sweep whose id begins so.

        Raises:
            LabError: none or several do.
        """
        found = [sweep for sweep in self.sweeps if sweep.startswith(prefix)]
        if len(found) != 1:
            known = ", ".join(sorted(sweep[:8] for sweep in self.sweeps)) or "none"
            raise LabError(f"sweep {prefix!r}: {'several' if found else 'no'} sweeps begin so; there are: {known}")
        return [record for record in self.records if record.key in self.sweeps[found[0]]]


def write_export(
    store: Store, path: Path, sweep: str | None = None, artifacts: str = "none", cells: Collection[str] | None = None
) -> tuple[int, int]:
    """Write the runs that count, and the sweeps, as one file; returns how many of each.

    Args:
        sweep: only this sweep, or the sweeps of this study, and the runs of their cells, whichever trained them.
        artifacts: with which of their files: `none`, `predictions` or `all`.
        cells: only runs with these keys, and the sweeps that asked for any of them.

    Raises:
        LabError: there are no such runs, a file of them is missing or damaged, or `path` cannot be written.
    """
    chosen = parents(store) if sweep is None else find_parents(store, sweep)
    listed = {trained_as(parent): cells_of(store, parent) for parent in chosen}
    keys = cells
    if cells is not None:
        chosen = [one for one in chosen if any(cell["key"] in cells for cell in listed[trained_as(one)])]
    elif sweep is not None:
        keys = {cell["key"] for several in listed.values() for cell in several}
    runs = [
        run for run in search(store) if counts(run.data.tags) and (keys is None or run.data.tags["lenet.key"] in keys)
    ]
    if not runs:
        raise LabError("export: no complete or diverged runs to export")
    named = {parent.info.run_id: trained_as(parent) for parent in chosen}
    try:
        lines = [sweep_line(parent, listed[trained_as(parent)]) for parent in chosen]
        lines += [run_line(store, run, named, artifacts) for run in runs]
    except ValidationError as error:
        raise LabError(f"export: a run holds what no export can: {_why(error)}") from None
    lines.sort(key=lambda line: (line.kind == "run", line.tags.get("lenet.sweep", ""), line.key, line.run_id))
    by_id = {trained_as(run): run for run in runs}
    header = {"format": FORMAT, "runs": len(runs), "sweeps": len(chosen), "link": link(store, "")}
    write(path, _members(store, header, lines, by_id))
    return len(runs), len(chosen)


def _members(
    store: Store, header: Mapping[str, Any], lines: Sequence[Portable], runs: Mapping[str, Any]
) -> Iterator[tuple[str, bytes]]:
    yield MANIFEST, json.dumps(header, sort_keys=True, indent=1).encode() + b"\n"
    yield RUNS, b"".join(line.line() for line in lines)
    for line in lines:
        for relative in line.artifacts:
            yield member(line.run_id, relative), read_checked(store, runs[line.run_id], relative)


def member(run: str, relative: str) -> str:
    """The name of a run's file inside an export."""
    return f"artifacts/{run}/{relative}"


def read_export(path: Path) -> Export:
    """What an export says, checked to its last bit.

    Raises:
        LabError: the file is missing, damaged or no export; the line names it and what in it is wrong.
    """
    with opened(path) as file:
        manifest, lines = read_lines(file)
    runs = [line for line in lines if line.kind == "run"]
    curves = {
        line.run_id: {name: tuple({s: v for s, _, v in line.values(name)}.items()) for name in line.points}
        for line in runs
    }
    sweeps = {
        line.tags["lenet.sweep"]: frozenset(cell.key for cell in line.cells) for line in lines if line.kind == "sweep"
    }
    studies = {
        line.tags["lenet.sweep"]: loads(line.tags[STUDY])
        for line in lines
        if line.kind == "sweep" and STUDY in line.tags
    }
    return Export([line.record(manifest["link"]) for line in runs], curves, sweeps, studies)


def read_lines(file: Sealed) -> tuple[dict[str, Any], list[Portable]]:
    """The header of an opened export and its lines, after checking that they fit each other and the file's members.

    Raises:
        LabError: they do not.
    """
    manifest = _manifest(file)
    lines, known = [], {MANIFEST, RUNS}
    for number, text in enumerate(file.read(RUNS).splitlines(), 1):
        try:
            line = PORTABLE.validate_json(text)
        except (ValidationError, LabError) as error:
            raise LabError(f"{file.path}: {RUNS}: line {number}: {_why(error)}") from None
        recorded = digests(line.run_id, line.tags) if line.artifacts else {}
        for relative in line.artifacts:
            name = member(line.run_id, relative)
            if file.sums.get(name) != recorded[relative]:
                raise LabError(f"{file.path}: {name}: is missing, or not the file that its run recorded")
            known.add(name)
        lines.append(line)
    if len({line.run_id for line in lines}) != len(lines):
        raise LabError(f"{file.path}: {RUNS}: a run is there twice")
    counted = {kind: sum(line.kind == kind for line in lines) for kind in ("run", "sweep")}
    if (counted["run"], counted["sweep"]) != (manifest["runs"], manifest["sweeps"]):
        raise LabError(f"{file.path}: {MANIFEST}: counts other runs than {RUNS} holds")
    for name in file.sums:
        if name not in known:
            raise LabError(f"{file.path}: {name}: belongs to no run of the file")
    return manifest, lines


def _manifest(file: Sealed) -> dict[str, Any]:
    header = file.read(MANIFEST)
    try:
        found = json.loads(header)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "format" not in found:
        raise LabError(f"{file.path}: {MANIFEST}: is no header of an export")
    if found["format"] != FORMAT:
        raise LabError(f"{file.path}: {MANIFEST}: format {str(found['format'])[:20]}; this version reads {FORMAT}")
    types = {"format": int, "runs": int, "sweeps": int, "link": str}
    if {name: type(value) for name, value in found.items()} != types:
        raise LabError(f"{file.path}: {MANIFEST}: is no header of an export")
    return found


def _why(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:80] for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
