"""Exports: the same runs the same bytes, whole or refused, and a store or a report rebuilt from them."""

import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from conftest import make_lab
from sharing import shared

from lenet_lab.cli import main
from lenet_lab.records import LabError
from lenet_lab.report import build, write
from lenet_lab.report.facts import CURVES
from lenet_lab.tracking import claim, open_store, read_curves, read_runs
from lenet_lab.tracking import imports as imports_module
from lenet_lab.tracking.artifacts import read_artifact
from lenet_lab.tracking.exports import read_export, write_export
from lenet_lab.tracking.imports import import_runs
from lenet_lab.tracking.models import load_network
from lenet_lab.tracking.parents import cells_of, find_parent, open_parent, parents
from lenet_lab.tracking.sealed import Sealed, opened
from lenet_lab.tracking.sealed import write as seal

pytestmark = pytest.mark.slow


# the store that everything here is exported from


def make(folder):
    """Two cells trained by a sweep, and one that diverged."""
    lab = make_lab(folder)
    words = ("-m", "data=digits", "epochs=1", "pool=avg,max", "data.root=/somewhere/private", "name=noted")
    result = lab(*words, "sweep.workers=2")
    assert result.returncode == 0, result.stderr
    store = open_store(f"sqlite:///{folder}/mlflow.db")
    tracked = claim(store, "d" * 64, "one that diverged")
    tracked.begin({"lenet.arm": "e" * 64, "lenet.overrides": '["lr=9", "tracking.uri=sqlite:////private/x.db"]'})
    tracked.params({"seed": "3", "lr": "9"})
    tracked.metrics({"train/loss": float("nan"), "lr": 9.0, "train/acc": float("inf")}, step=1)
    tracked.dataset("digits training", "f" * 64, "digits", "training", {"examples": 3})
    assert tracked.finish("diverged")
    for mode in ("none", "all"):
        write_export(store, folder / f"{mode}.zip", artifacts=mode)
    open_store(f"sqlite:///{folder}/new.db")
    with contextlib.closing(sqlite3.connect(folder / "new.db")) as empty:
        empty.execute("VACUUM INTO ?", (str(folder / "empty.db"),))
    return store.uri


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """The folder of the store and of its exports."""
    folder, uri = shared(tmp_path_factory, "exports", make)
    return folder, open_store(uri)


@pytest.fixture
def fresh(tmp_path, origin):
    """The address of a new store: a copy of an empty one, which takes seconds to make."""
    shutil.copy(origin[0] / "empty.db", tmp_path / "new.db")
    (tmp_path / "new.lab").mkdir()
    (tmp_path / "new.lab" / "made").touch()
    return f"sqlite:///{tmp_path}/new.db"


def said(capsys, *words):
    """Exit status, output and errors of a command line."""
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code, *capsys.readouterr()


def facts_of(store):
    records = read_runs(store)
    return build(records, read_curves(store, [record.run_id for record in records], CURVES))


def lines(path):
    with zipfile.ZipFile(path) as archive:
        return [json.loads(line) for line in archive.read("runs.jsonl").splitlines()]


# what is written


def test_the_same_runs_give_the_same_bytes(origin, tmp_path):
    folder, store = origin
    assert write_export(store, tmp_path / "again.zip", artifacts="all") == (3, 1)
    assert (tmp_path / "again.zip").read_bytes() == (folder / "all.zip").read_bytes()


def test_an_export_says_all_that_the_store_does(origin):
    folder, store = origin
    export = read_export(folder / "none.zip")
    theirs, ours = ({r.run_id: r for r in several} for several in (export.records, read_runs(store)))
    assert theirs.keys() == ours.keys()
    for run_id, record in ours.items():
        other = theirs[run_id]
        assert repr(other.metrics.items()) == repr({n: record.metrics[n] for n in other.metrics}.items())
        assert other.metrics.keys() == record.metrics.keys()
        same = ("name", "key", "arm", "seed", "state", "sweep", "params", "start_ms", "end_ms", "link")
        assert {n: getattr(other, n) for n in same} == {n: getattr(record, n) for n in same}
        left_out = {"owner", "ended_by", "host", "pid", "locks", "heartbeat"}
        assert record.tags.keys() - other.tags.keys() <= {f"lenet.{n}" for n in left_out} | {"mlflow.parentRunId"}
    sweep = next(iter(export.sweeps))
    assert {r.run_id for r in export.of_sweep(sweep[:8])} == {i for i, r in ours.items() if r.sweep == sweep}
    with pytest.raises(LabError, match="no sweeps begin so; there are"):
        export.of_sweep("0000000")


def test_nothing_in_the_records_says_where_things_lie(origin):
    folder, _ = origin
    with zipfile.ZipFile(folder / "none.zip") as archive:
        text = archive.read("runs.jsonl").decode() + archive.read("manifest.json").decode()
    for word in (str(folder), "/somewhere", "/private", "data.root", "mlflow.user", "artifact_uri", "lenet.host"):
        assert word not in text


def test_artifacts_on_request(origin, tmp_path):
    _, store = origin
    write_export(store, tmp_path / "p.zip", artifacts="predictions")
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        names = [name for name in archive.namelist() if name.startswith("artifacts/")]
        assert sorted(name.rpartition("/")[2] for name in names) == ["predictions.npz"] * 2
        np.load(io.BytesIO(archive.read(names[0])), allow_pickle=False)["predicted"]
    result = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=unpacked(tmp_path / "p.zip"), capture_output=True)
    assert result.returncode == 0, "any tool can check it"


def unpacked(path):
    folder = path.with_suffix("")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def test_one_sweep_and_its_runs(origin, tmp_path):
    _, store = origin
    sweep = parents(store)[0].data.tags["lenet.sweep"]
    assert write_export(store, tmp_path / "s.zip", sweep[:8]) == (2, 1)
    with pytest.raises(LabError, match="sweep '0000': no sweeps begin so"):
        write_export(store, tmp_path / "none.zip", "0000")
    assert not (tmp_path / "none.zip").exists()


def test_what_is_no_export_is_not_replaced(origin, tmp_path):
    _, store = origin
    (tmp_path / "thesis.zip").write_bytes(b"years of work")
    with pytest.raises(LabError, match="is there already and is no export"):
        write_export(store, tmp_path / "thesis.zip")
    assert (tmp_path / "thesis.zip").read_bytes() == b"years of work"
    with pytest.raises(LabError, match=r"missing/x\.zip: cannot be written"):
        write_export(store, tmp_path / "missing" / "x.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.zip"]


# what is rebuilt


def test_a_store_rebuilt_gives_the_same_report_and_the_same_export(origin, tmp_path, fresh):
    """Byte for byte, but for the links: they lead to the runs of the store that the report was made of."""
    folder, store = origin
    done = import_runs(folder / "all.zip", fresh)
    assert (done.runs, done.sweeps, done.present, done.skipped) == (3, 1, 0, [])
    copy = open_store(fresh)
    write_export(copy, tmp_path / "again.zip", artifacts="all")
    assert (tmp_path / "again.zip").read_bytes() == (folder / "all.zip").read_bytes()

    first, second = (write(facts_of(s), tmp_path / n) for s, n in ((store, "first"), (copy, "second")))
    assert (first / "arms.csv").read_bytes() == (second / "arms.csv").read_bytes()
    assert linkless(first / "report.md") == linkless(second / "report.md")
    assert linkless(first / "runs.csv") == linkless(second / "runs.csv")

    parent = parents(copy)[0]
    assert cells_of(copy, parent) == [
        {**cell, "overrides": [word for word in cell["overrides"] if not word.startswith("data.root")]}
        for cell in cells_of(store, parents(store)[0])
    ]
    children = [r for r in read_runs(copy) if r.state == "complete"]
    assert {r.tags["mlflow.parentRunId"] for r in children} == {parent.info.run_id}
    assert all(r.link and r.run_id not in r.link for r in children), "the link is the store's own"
    for record in children:
        assert read_artifact(copy, record.run_id, "config.yaml") == read_artifact(store, record.run_id, "config.yaml")


def linkless(path):
    return re.sub(r"/runs/[0-9a-f]{32}", "/runs/ID", path.read_text())


def test_a_report_from_the_file_alone_is_the_store_s(origin, tmp_path, capsys, monkeypatch):
    folder, store = origin
    monkeypatch.chdir(tmp_path)
    assert said(capsys, "report", "--store", store.uri, "--out", "expected")[0] == 0
    assert said(capsys, "report", "--from", str(folder / "all.zip"), "--out", "found")[0] == 0
    for name in ("report.md", "report.tex", "arms.csv", "comparisons.csv", "runs.csv", "facts.json"):
        assert (tmp_path / "found" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    assert not (tmp_path / "mlflow.db").exists()


def test_twice_makes_no_doubles(origin, fresh, capsys):
    words = ("import", str(origin[0] / "none.zip"), "--store", fresh)
    first, second = said(capsys, *words), said(capsys, *words)
    assert first == (0, "imported 3 runs and 1 sweeps; 0 runs were there already, 0 left out\n", "")
    assert second == (0, "imported 0 runs and 0 sweeps; 3 runs were there already, 0 left out\n", "")
    assert len(read_runs(open_store(fresh))) == 3


def test_into_its_own_store_nothing_is_imported(origin):
    folder, store = origin
    before = (len(read_runs(store)), len(parents(store)))
    assert import_runs(folder / "none.zip", store.uri).present == 3
    assert (len(read_runs(store)), len(parents(store))) == before


def test_a_cell_counts_once(origin, tmp_path, fresh):
    """A run of a cell that the store has finished itself is left out, and a line says so."""
    folder, _ = origin
    store = open_store(fresh)
    tracked = claim(store, "d" * 64, "the same cell")
    tracked.begin({})
    assert tracked.finish("complete")
    done = import_runs(folder / "none.zip", store.uri)
    assert (done.runs, done.present) == (2, 0)
    assert done.skipped == [
        f"one that diverged: left out: run {tracked.run_id} of the store has finished this cell",
    ]
    assert len(read_runs(store)) == 3


def test_a_cell_in_training_is_left_out(origin, tmp_path, fresh):
    folder, _ = origin
    store = open_store(fresh)
    tracked = claim(store, "d" * 64, "the same cell")
    try:
        done = import_runs(folder / "none.zip", store.uri)
    finally:
        tracked.abandon()
    assert done.runs == 2
    assert done.skipped == ["one that diverged: left out: a process on this machine is training this cell"]


def test_the_next_sweep_finds_imported_cells_done(origin, tmp_path, fresh):
    folder, _ = origin
    store = open_store(fresh)
    import_runs(folder / "none.zip", store.uri)
    key = next(r.key for r in read_runs(store) if r.state == "complete")
    found = claim(store, key, "a cell")
    assert found.data.tags["lenet.key"] == key, "a finished run, not one to train"


@pytest.mark.parametrize("step", ["log_batch", "log_inputs", "log_artifacts", "set_terminated", "last"])
def test_an_interrupted_import_counts_nothing_half_and_is_gone_on_with(origin, tmp_path, fresh, monkeypatch, step):
    folder, _ = origin
    store = open_store(fresh)
    calls = []

    class Interrupted(BaseException):
        pass

    def client_of(store_):
        client = mlflow.MlflowClient(store_.uri)
        for name in ("log_batch", "log_inputs", "log_artifacts", "set_terminated"):
            setattr(client, name, watched(name, getattr(client, name)))
        return client

    def watched(name, method):
        def call(run_id, *args, **kwargs):
            tags = [tag.key for tag in args[2]] if name == "log_batch" else []
            what = "last" if "lenet.ended_by" in tags else name
            calls.append(what)
            if what == step and calls.count(step) == 2:
                raise Interrupted
            return method(run_id, *args, **kwargs)

        return call

    monkeypatch.setattr(imports_module.Store, "client", property(client_of))
    with pytest.raises(Interrupted):
        import_runs(folder / "all.zip", store.uri)
    monkeypatch.undo()
    assert len(read_runs(store)) < 3
    assert {record.state for record in read_runs(store)} <= {"complete", "diverged"}
    import_runs(folder / "all.zip", store.uri)
    write_export(store, tmp_path / "again.zip", artifacts="all")
    assert (tmp_path / "again.zip").read_bytes() == (folder / "all.zip").read_bytes()
    assert len(store.client.search_runs([store.experiment_id])) == 4


# what is refused


def test_every_flip_and_every_cut_is_found(origin, tmp_path):
    """300 single bits and 100 cuts: each refused in one line that names the file, none imported."""
    whole = (origin[0] / "all.zip").read_bytes()
    small = (origin[0] / "none.zip").read_bytes()
    random_ = random.Random(5)
    damaged, target = tmp_path / "damaged.zip", tmp_path / "x.db"
    places = [("small", random_.randrange(8 * len(small))) for _ in range(200)]
    places += [("small", 8 * len(small) - 1 - random_.randrange(8 * 600)) for _ in range(60)]
    places += [("whole", random_.randrange(8 * len(whole))) for _ in range(40)]
    for which, bit in places:
        content = bytearray(small if which == "small" else whole)
        content[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(content)
        refused(damaged, target)
    for _ in range(100):
        damaged.write_bytes(small[: random_.randrange(len(small))])
        refused(damaged, target)
    damaged.write_bytes(small + b"\0")
    refused(damaged, target)


def refused(path, target, match=None):
    with pytest.raises(LabError, match=match) as caught:
        import_runs(path, f"sqlite:///{target}")
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert not target.exists()
    return text


def test_damage_is_named_by_member(origin, tmp_path, capsys, monkeypatch):
    content = bytearray((origin[0] / "none.zip").read_bytes())
    content[content.index(b'"lenet.state"') + 3] ^= 1
    (tmp_path / "flipped.zip").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    line = "lenet_lab: flipped.zip: runs.jsonl: is cut short or damaged\n"
    assert said(capsys, "import", "flipped.zip") == (2, "", line)
    assert not (tmp_path / "mlflow.db").exists()


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "SHA256SUMS"}


def forged(path, content):
    """A file with a valid seal, as somebody who knows the format would make it."""
    seal(path, content.items())
    return path


def by_hand(path, entries, comment=None):
    """A zip of any entries: (name, content, mode, compression)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content, mode, compression in entries:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr, info.create_system = mode << 16, 3
            archive.writestr(info, content, compression)
        archive.comment = b"sha256:" + b"0" * 64
    content = path.read_bytes()[:-64]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())
    return path


FILE = stat.S_IFREG | 0o644


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "mode", "compression", "why"),
    [
        ("../../escaped", FILE, zipfile.ZIP_STORED, "is no name for a member"),
        ("artifacts/../../escaped", FILE, zipfile.ZIP_STORED, "is no name for a member"),
        ("/tmp/escaped", FILE, zipfile.ZIP_STORED, "is no name for a member"),
        ("C:\\escaped", FILE, zipfile.ZIP_STORED, "is no name for a member"),
        ("c:escaped", FILE, zipfile.ZIP_STORED, "is no name for a member"),
        ("a/", FILE, zipfile.ZIP_STORED, "is no name for a member"),
        ("a\nb", FILE, zipfile.ZIP_STORED, "is no name for a member"),
        ("link", stat.S_IFLNK | 0o777, zipfile.ZIP_STORED, "is no plain file"),
        ("runs.jsonl", FILE, zipfile.ZIP_STORED, "is there twice"),
        ("RUNS.jsonl", FILE, zipfile.ZIP_STORED, "is there twice"),
        ("bomb", FILE, zipfile.ZIP_DEFLATED, "is compressed or encrypted"),
        ("extra", FILE, zipfile.ZIP_STORED, "is not listed in SHA256SUMS"),
    ],
)
def test_hostile_members_are_refused(origin, tmp_path, name, mode, compression, why):
    held = members(origin[0] / "none.zip")
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {n}\n" for n, content in held.items())
    entries = [(n, content, FILE, zipfile.ZIP_STORED) for n, content in held.items()]
    entries += [(name, b"\0" * 4000, mode, compression), ("SHA256SUMS", sums, FILE, zipfile.ZIP_STORED)]
    refused(by_hand(tmp_path / "hostile.zip", entries), tmp_path / "x.db", re.escape(why))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.zip"]


def test_too_many_or_too_large_members_are_refused(origin, tmp_path, monkeypatch):
    path = tmp_path / "large.zip"
    shutil.copy(origin[0] / "none.zip", path)
    for name, value, why in (
        ("MAX_MEMBERS", 2, "3 members; at most 2"),
        ("MAX_TOTAL", 100, "holds more than"),
        ("MAX_MEMBER", 100, "is larger than"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"lenet_lab.tracking.sealed.{name}", value)
            refused(path, tmp_path / "x.db", why)


def edit(change):
    def forge(held):
        found = [json.loads(line) for line in held["runs.jsonl"].splitlines()]
        change(found[-1])
        held["runs.jsonl"] = b"".join(json.dumps(line).encode() + b"\n" for line in found)

    return forge


def edit_header(**values):
    def forge(held):
        held["manifest.json"] = json.dumps({**json.loads(held["manifest.json"]), **values}).encode()

    return forge


FORGERIES = {
    "format": (edit_header(format=2), "manifest.json: format 2; this version reads 1"),
    "header": (lambda held: held.update({"manifest.json": b"[" * 100_000}), "manifest.json: is no header"),
    "count": (edit_header(runs=7), "manifest.json: counts other runs"),
    "unknown member": (lambda held: held.update({"artifacts/x.pkl": b"x"}), "artifacts/x.pkl: belongs to no run"),
    "no header": (lambda held: held.pop("manifest.json"), "manifest.json: is missing"),
    "not json": (lambda held: held.update({"runs.jsonl": b"nonsense\n"}), "runs.jsonl: line 1: "),
    "deep json": (lambda held: held.update({"runs.jsonl": b"[" * 100_000 + b"\n"}), "runs.jsonl: line 1: "),
    "field": (edit(lambda run: run.update(extra=1)), "runs.jsonl: line 4: extra"),
    "running": (edit(lambda run: run["tags"].update({"lenet.state": "running"})), "neither complete nor diverged"),
    "owner": (edit(lambda run: run["tags"].update({"lenet.owner": "me"})), "no tag of an export"),
    "user": (edit(lambda run: run["tags"].update({"mlflow.user": "root"})), "no tag of an export"),
    "name": (edit(lambda run: run["params"].update({"../../etc": "x"})), "no name that MLflow takes"),
    "value": (edit(lambda run: run["params"].update(lr="9" * 7000)), "at most 6000"),
    "number": (edit(lambda run: run["points"].update(lr=[[1, 2, "9"]])), "points.lr"),
    "surrogate": (edit(lambda run: run["params"].update(lr="\ud800")), "line 4"),
    "run id": (edit(lambda run: run.update(run_id="../../x")), "run_id"),
    "quote in key": (edit(lambda run: run["tags"].update({"lenet.key": "' OR 1=1"})), "pattern"),
    "artifact": (edit(lambda run: run.update(artifacts=["/etc/passwd"])), "does not list"),
}


@pytest.mark.parametrize(("forge", "why"), FORGERIES.values(), ids=FORGERIES)
def test_forged_records_are_refused(origin, tmp_path, forge, why):
    held = members(origin[0] / "none.zip")
    forge(held)
    text = refused(forged(tmp_path / "forged.zip", held), tmp_path / "x.db", re.escape(why))
    assert len(text) < 400


def test_an_artifact_that_its_run_did_not_record_is_refused(origin, tmp_path):
    held = members(origin[0] / "all.zip")
    name = next(name for name in held if name.endswith("predictions.npz"))
    held[name] = b"other predictions"
    refused(forged(tmp_path / "forged.zip", held), tmp_path / "x.db", f"{name}: is missing, or not the file")


def test_a_run_id_of_another_run_is_not_taken(origin, tmp_path, fresh):
    """A forged line with the run id of a run that the store has changes nothing about it."""
    folder, _ = origin
    import_runs(folder / "none.zip", fresh)
    held = members(folder / "none.zip")
    edit(lambda run: run["tags"].update({"lenet.key": "0" * 64}))(held)
    store = open_store(fresh)
    before = sorted(read_runs(store), key=lambda r: r.run_id)
    done = import_runs(forged(tmp_path / "forged.zip", held), store.uri)
    assert done.runs == 0
    assert len(done.skipped) == 1
    assert "is that of another run of the store" in done.skipped[0]
    assert repr(sorted(read_runs(store), key=lambda r: r.run_id)) == repr(before)


def test_a_file_that_is_missing_or_something_else(tmp_path, origin):
    refused(tmp_path / "no.zip", tmp_path / "x.db", "No such file")
    (tmp_path / "text.zip").write_text("not a zip")
    refused(tmp_path / "text.zip", tmp_path / "x.db", "no export of lenet_lab")
    (tmp_path / "empty.zip").touch()
    refused(tmp_path / "empty.zip", tmp_path / "x.db", "no export of lenet_lab")
    with opened(origin[0] / "none.zip") as file, pytest.raises(LabError, match="is missing from the file"):
        Sealed.read(file, "x")


# files read back


@pytest.fixture
def copied(origin, tmp_path, fresh):
    """A store of one's own to damage."""
    import_runs(origin[0] / "all.zip", fresh)
    store = open_store(fresh)
    return store, next(r for r in read_runs(store) if r.state == "complete")


def path_of(record, relative):
    return Path(record.artifact_uri.removeprefix("file://")) / relative


def test_a_damaged_or_missing_artifact_is_named(copied, tmp_path):
    store, record = copied
    path = path_of(record, "predictions.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    for why in ("is damaged: its digest does not hold", "is missing from the store"):
        with pytest.raises(LabError, match=rf"run \w+: predictions\.npz: {why}"):
            read_artifact(store, record.run_id, "predictions.npz")
        with pytest.raises(LabError, match=why):
            write_export(store, tmp_path / "e.zip", artifacts="predictions")
        assert not (tmp_path / "e.zip").exists()
        path.unlink(missing_ok=True)
    with pytest.raises(LabError, match="is not among the files of the run"):
        read_artifact(store, record.run_id, "../../../new.db")
    with pytest.raises(LabError, match="is not in the store"):
        read_artifact(store, "0' OR '1'='1", "predictions.npz")


def test_a_sweep_s_damaged_cells_are_named_and_mended_by_its_relaunch(copied):
    store, _ = copied
    parent = parents(store)[0]
    cells = cells_of(store, parent)
    path = Path(parent.info.artifact_uri.removeprefix("file://")) / "cells.json"
    path.write_text(path.read_text().replace("pool=avg", "pool=max"))
    with pytest.raises(LabError, match=r"cells\.json: is damaged"):
        cells_of(store, parent)
    sweep = parent.data.tags["lenet.sweep"]
    assert open_parent(store, sweep, "again", cells) == parent.info.run_id
    assert cells_of(store, find_parent(store, sweep)) == cells


# networks


@pytest.fixture
def network(copied):
    """A tracked network: the store, its record, and a way to put another file in its place, digest and all."""
    store, record = copied
    own = record.link.rpartition("/")[2]

    def replace(relative, content):
        path = path_of(record, relative)
        path.write_bytes(content)
        digests = json.loads(store.client.get_run(own).data.tags["lenet.sha256"])
        digests[relative] = hashlib.sha256(content).hexdigest()
        store.client.set_tag(own, "lenet.sha256", json.dumps(digests))

    return store, record, replace


GRAPH = "model/data/model.pt2"


def test_a_network_comes_back_and_says_what_it_said(network):
    from lenet_lab.data import Data

    store, record, _ = network
    test = Data(name="digits", val_size=200).load().test
    net = load_network(store, record.run_id)
    with np.load(io.BytesIO(read_artifact(store, record.run_id, "predictions.npz"))) as held:
        assert (net(test.images).argmax(1).numpy() == held["predicted"]).all()


def test_every_flip_in_a_network_is_found(network):
    store, record, _ = network
    path, random_ = path_of(record, GRAPH), random.Random(1)
    whole = path.read_bytes()
    for _ in range(50):
        content, bit = bytearray(whole), random_.randrange(8 * len(whole))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(LabError, match="is damaged: its digest does not hold"):
            load_network(store, record.run_id)


class Evil:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def altered(content, **records):
    """A pt2 archive with other records in it; the keys are the ends of their names."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            name = info.filename.rpartition("/")[2].partition(".")[0]
            new.writestr(info.filename, records.pop(name, None) or old.read(info))
        for name, extra in records.items():
            new.writestr(name, extra)
    return out.getvalue()


def pickled(thing):
    out = io.BytesIO()
    torch.save(thing, out)
    return out.getvalue()


def graph_with(content, change):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        graph = json.loads(archive.read("model/models/model.json"))
        text = json.dumps(change(graph) or graph)
        names = [n for n in archive.namelist() if n != "model/models/model.json"]
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as new:
            for name in names:
                new.writestr(name, archive.read(name))
            new.writestr("model/models/model.json", text)
    return out.getvalue()


def set_size(code):
    """A size of the graph, which torch has SymPy evaluate, that is Python code."""

    def change(graph):
        (name,) = graph["graph_module"]["graph"]["inputs"][-1]["as_tensor"].values()
        size = graph["graph_module"]["graph"]["tensor_values"][name]["sizes"][0]
        size["as_expr"]["expr_str"] = code

    return change


def set_operator(name):
    def change(graph):
        graph["graph_module"]["graph"]["nodes"][0]["target"] = name

    return change


@pytest.mark.filterwarnings("ignore")
def test_a_hostile_network_does_not_run(network, tmp_path):
    """Each is stored with a digest that holds, as somebody could who can write to the store.

    MLflow alone, told to load no pickles, refuses the pickles here and runs the size that is code.
    """
    store, record, replace = network
    mark = tmp_path / "ran"
    good = path_of(record, GRAPH).read_bytes()
    evil = pickled(Evil(mark))
    code = f"__import__('os').system('touch {mark}')"
    config = json.dumps({"config": {"w": {"path_name": "weight_0", "use_pickle": True, "is_param": True}}})
    attacks = {
        "a pickle for the network": evil,
        "sample inputs": altered(good, model=evil),
        "weights to unpickle": altered(good, weight_0=evil, model_weights_config=config),
        "a library": altered(good, **{"model/data/aotinductor/model/x.so": b"\x7fELF"}),
        "a size that is code": graph_with(good, set_size(code)),
        "an operator that is a command": graph_with(good, set_operator("torch.os.system")),
        "an operator that opens files": graph_with(good, set_operator("torch.ops.aten.from_file.default")),
        "a guard that is code": graph_with(good, lambda graph: {**graph, "guards_code": [code]}),
        "a name that is code": graph_with(good, lambda graph: json.loads(json.dumps(graph).replace(
            '"conv2d"', json.dumps(f"conv2d = {code}\n#")))),
    }  # fmt: skip
    for what, content in attacks.items():
        assert content != good, what
        replace(GRAPH, content)
        with pytest.raises(LabError, match=r"model\.pt2: ") as caught:
            load_network(store, record.run_id)
        assert "\n" not in str(caught.value), what
        assert not mark.exists(), what
    replace(GRAPH, good)
    assert load_network(store, record.run_id)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_other_formats_are_refused(network, tmp_path):
    store, record, replace = network
    replace("model/data/model.pth", pickled(Evil(tmp_path / "ran")))
    with pytest.raises(LabError, match=r"model/data/model\.pth: is in no format that is loaded here; allowed: pt2"):
        load_network(store, record.run_id)
    assert not (tmp_path / "ran").exists()


def test_code_beside_a_network_is_not_put_on_the_path(network):
    store, record, replace = network
    content = path_of(record, "model/MLmodel").read_text()
    replace("model/MLmodel", content.replace("code: null", "code: data").encode())
    before = list(sys.path)
    with pytest.raises(LabError, match="its MLmodel does not describe a network of lenet_lab"):
        load_network(store, record.run_id)
    assert sys.path == before


def test_a_run_without_a_network(copied):
    store, _ = copied
    diverged = next(r for r in read_runs(store) if r.state == "diverged")
    with pytest.raises(LabError, match="has no tracked network"):
        load_network(store, diverged.run_id)
