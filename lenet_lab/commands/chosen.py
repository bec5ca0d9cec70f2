"""Which runs a report is about: a study, a sweep, a filter, or everything, of a store or an export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_lab.records import Curves, LabError, RunRecord
from lenet_lab.study import Study

if TYPE_CHECKING:
    from lenet_lab.report.question import Predictions


@dataclass(frozen=True)
class Chosen:
    """The runs, and how to read more of them.

    Attributes:
        folder: the name of the report's folder.
        asked: the keys of the cells that were asked for; none where it was not cells that were asked for.
        curves: run ids -> their learning curves.
        contents: run ids and a file -> that file of those that have it.
        parent: the run id of the sweep's parent in the store.
    """

    title: str
    folder: str
    records: list[RunRecord]
    curves: Callable[[Sequence[str]], Curves]
    contents: Callable[[Sequence[str], str], Mapping[str, bytes]]
    asked: frozenset[str] = frozenset()
    study: Study | None = None
    parent: str | None = None
    store: Any = None

    def predictions(self, run_ids: Sequence[str]) -> Mapping[str, Predictions]:
        """The answers of the runs that have any that can be read."""
        from lenet_lab.report.predictions import FILE, read

        found = {}
        for run_id, content in self.contents(run_ids, FILE).items():
            with suppress(LabError):
                found[run_id] = read(content)
        return found


def tracked(uri: str | None, word: str | None) -> Chosen:
    """The runs of a store.

    Raises:
        LabError: there is no store, or the word names nothing in it.
    """
    from lenet_lab.report.facts import CURVES
    from lenet_lab.report.filters import is_filter
    from lenet_lab.tracking import open_store, read_curves, read_runs
    from lenet_lab.tracking.artifacts import read_artifact
    from lenet_lab.tracking.parents import cells_of, find_parent, parents, study_of

    store = open_store(uri, create=False)

    def contents(run_ids: Sequence[str], name: str) -> dict[str, bytes]:
        found = {}
        for run_id in run_ids:
            with suppress(LabError):
                found[run_id] = read_artifact(store, run_id, name)
        return found

    def made(title: str, folder: str, keep: Callable[[RunRecord], bool], **more: Any) -> Chosen:
        return Chosen(
            title,
            folder,
            [record for record in read_runs(store) if keep(record)],
            lambda ids: read_curves(store, ids, CURVES),
            contents,
            store=store,
            **more,
        )

    if word is None:
        return made("All tracked runs", "all", lambda record: True)
    if is_filter(word):
        return _filtered(made, word)
    several = [one for one in parents(store) if (study := _quiet(study_of, one)) and study.name == word]
    if word in presets():
        keys, study = asked_by(word)
        there = {record.key for record in read_runs(store)}
        for more in extending(word):
            own, _ = asked_by(more)
            keys |= own if own & there else frozenset()
        if keys & there or not several:
            return made(f"Study {word}", word, lambda record: record.key in keys, asked=keys, study=study)
    if several:
        keys = frozenset(cell["key"] for one in several for cell in cells_of(store, one))
        study = study_of(several[0])
        return made(f"Study {word}", word, lambda record: record.key in keys, asked=keys, study=study)
    try:
        parent = find_parent(store, word)
    except LabError as error:
        raise _unknown(word, error) from None
    keys = frozenset(cell["key"] for cell in cells_of(store, parent))
    name = parent.data.tags["lenet.sweep"][:8]
    return made(
        f"Sweep {name}", name, lambda record: record.key in keys,
        asked=keys, study=study_of(parent), parent=parent.info.run_id,
    )  # fmt: skip


def exported(file: Path, word: str | None) -> Chosen:
    """The runs of an export, all of which count.

    Raises:
        LabError: the file is none, or the word names nothing in it.
    """
    from lenet_lab.report.filters import is_filter
    from lenet_lab.tracking.exports import member, read_export
    from lenet_lab.tracking.sealed import opened

    export = read_export(file)

    def contents(run_ids: Sequence[str], name: str) -> dict[str, bytes]:
        members = {run_id: member(run_id, name) for run_id in run_ids}
        with opened(file) as whole:
            return {run_id: whole.read(path) for run_id, path in members.items() if path in whole.sums}

    def made(title: str, folder: str, keep: Callable[[RunRecord], bool], **more: Any) -> Chosen:
        records = [record for record in export.records if keep(record)]
        return Chosen(title, folder, records, lambda ids: export.curves, contents, **more)

    def of(title: str, folder: str, sweeps: Iterable[str], study: Study | None) -> Chosen:
        keys = frozenset().union(*(export.sweeps[sweep] for sweep in sweeps))
        return made(title, folder, lambda record: record.key in keys, asked=keys, study=study)

    if word is None:
        return made("All tracked runs", "all", lambda record: True)
    if is_filter(word):
        return _filtered(made, word)
    named = sorted(sweep for sweep, study in export.studies.items() if study.name == word)
    if named:
        return of(f"Study {word}", word, named, export.studies[named[0]])
    if word in presets():
        keys, study = asked_by(word)
        return made(f"Study {word}", word, lambda record: record.key in keys, asked=keys, study=study)
    found = [sweep for sweep in export.sweeps if sweep.startswith(word)]
    if len(found) != 1:
        known = ", ".join(sorted(sweep[:8] for sweep in export.sweeps)) or "none"
        raise _unknown(word, f"{'several' if found else 'no'} sweeps begin so; there are: {known}")
    return of(f"Sweep {found[0][:8]}", found[0][:8], found, export.studies.get(found[0]))


def presets() -> list[str]:
    """The studies that come as experiment files."""
    from lenet_lab.config.paths import conf_dir

    return sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))


def extending(name: str) -> list[str]:
    """The experiment files that are this one with something changed."""
    from lenet_lab.config.paths import extended

    return [one for one in presets() if extended(one) == name]


def asked_by(name: str) -> tuple[frozenset[str], Study | None]:
    """The keys of the cells that an experiment file asks for, and its study."""
    from lenet_lab.commands.errors import hydra_errors
    from lenet_lab.sweeps.plan import compose_multirun, study

    with hydra_errors():
        cells = compose_multirun([f"experiment={name}"])
    return frozenset(cell.key for cell in cells), study(cells)


def defaults() -> dict[str, str]:
    """The params of the default configuration, as its files spell them."""
    import yaml

    from lenet_lab.config.paths import conf_dir

    root = yaml.safe_load((conf_dir() / "config.yaml").read_text())
    found = {key: str(value) for key, value in root.items() if isinstance(value, str | int | float)}
    for entry in root["defaults"]:
        for group, option in entry.items() if isinstance(entry, Mapping) else ():
            if option is None or str(group).startswith("override"):
                continue
            found[str(group)] = str(option)
            file = conf_dir() / str(group) / f"{option}.yaml"
            values = yaml.safe_load(file.read_text()) if file.is_file() else {}
            found.update({f"{group}.{key}": str(value) for key, value in (values or {}).items()})
    return found


def _filtered(made: Callable[..., Chosen], word: str) -> Chosen:
    from lenet_lab.report.filters import parse

    chosen = made(word, "filter", parse(word))
    if not chosen.records:
        raise LabError(f"report: filter {word!r}: no run matches")
    return chosen


def _unknown(word: str, why: object) -> LabError:
    studies = ", ".join(presets()) or "none"
    text = str(why).removeprefix(f"sweep {word!r}: ")
    return LabError(f"report: {word!r}: no study (there are: {studies}) and no sweep: {text}")


def _quiet(read: Callable[[Any], Study | None], parent: Any) -> Study | None:
    try:
        return read(parent)
    except LabError:
        return None
