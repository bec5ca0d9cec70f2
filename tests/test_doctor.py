"""`doctor`: each thing that can be wrong is found and comes with what to do; nothing is made or changed."""

import json
import os
import re
import socket
import sqlite3
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import pytest
from leftovers import Left, checkpoint, empty_store, rows, tree

from lenet_lab.commands import doctor
from lenet_lab.commands.checks import Finding, machine, sets, stores, versions
from lenet_lab.commands.checks import probe as probing
from lenet_lab.commands.checks.probe import Probes
from lenet_lab.tracking import glance
from lenet_lab.tracking.locks import RunLock

GOOD = {module: {"module": module, "error": None} for group in probing.GROUPS for module in group}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of the test's own is the current one, and no setting of the machine's owner is in the way."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "LENET_LAB_DATA", "TMPDIR", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def store(here, tmp_path_factory):
    """An empty store in the current folder."""
    return empty_store(tmp_path_factory, here)


class Told:
    """Probes that say what a test wants."""

    def __init__(self, **answers):
        self.answers = {**GOOD, **{name: {"module": name, "error": None, **said} for name, said in answers.items()}}

    def stop(self):
        pass


def seen(findings, check=None):
    """(level, text) of the findings, or of one check's."""
    return [(finding.level, finding.found) for finding in findings if check in (None, finding.check)]


def only(findings, check):
    """The one finding of a check."""
    (finding,) = [finding for finding in findings if finding.check == check]
    return finding


def bad(findings):
    """What is not ok; each says what to do, on one line."""
    found = [finding for finding in findings if finding.level != "ok"]
    for finding in found:
        assert finding.do
        assert "\n" not in finding.found + finding.do
    return found


# versions


@pytest.fixture
def installed(monkeypatch):
    """`installed(torch="2.15.0")` pretends; `needs` maps a distribution to what it requires."""

    def pretend(needs=None, **found):
        version, requires = metadata.version, metadata.requires

        def say(name):
            given = found.get(name.replace("-", "_"), "")
            if given is None:
                raise metadata.PackageNotFoundError(name)
            return given or version(name)

        monkeypatch.setattr(versions.metadata, "version", say)
        monkeypatch.setattr(versions.metadata, "requires", lambda name: (needs or {}).get(name) or requires(name))

    return pretend


def test_this_environment_fits():
    """What the suite runs on is the set of versions known to work."""
    for check in (versions.python, versions.requirements, versions.pair, versions.libraries):
        assert not bad(check()), check.__name__


@pytest.mark.parametrize(
    ("torch", "needs", "command"),
    [
        ("2.15.0", "torch (==2.14.1)", "pip install --upgrade torch==2.15.0 torchvision"),
        ("2.15.0", "torch>=2.16,<2.17", "pip install --upgrade torch==2.15.0 torchvision"),
        ("2.15.0+cpu", "torch==2.14.1", "pip install --upgrade torch==2.15.0 torchvision"),
        ("2.5.1", "torch==2.9.0", "pip install --upgrade 'torch!=2.13.0,>=2.9' torchvision"),
    ],
)
def test_a_torchvision_for_another_torch_is_named_with_its_mend(torch, needs, command, installed):
    installed({"torchvision": ["numpy", needs, "gdown>=4.7.3; extra == 'gdown'"]}, torch=torch, torchvision="0.29.2")
    found = only(versions.pair(), "torch pair")
    assert found.level == "problem"
    assert found.found.startswith("torchvision 0.29.2 needs torch")
    assert found.found.endswith(f"and torch is {torch}")
    assert found.do == command


@pytest.mark.parametrize(
    ("torch", "needs"), [("2.9.0+cu126", "torch==2.9.0"), ("2.15.0", "torch"), ("2.16.0.dev1", "torch>=2.14")]
)
def test_a_torchvision_that_fits_is_left_alone(torch, needs, installed):
    installed({"torchvision": [needs]}, torch=torch)
    assert not bad(versions.pair())


def test_requirements_of_our_own(installed, monkeypatch):
    monkeypatch.setattr(
        versions, "_own", lambda: (">=3.11,<3.14", ["torch>=2.9,!=2.13.0", "rich>=13", "odd>=1; python_version < '3'"])
    )
    installed(torch="2.13.0", rich=None)
    assert [(f.found, f.do) for f in bad(versions.requirements())] == [
        ("torch is 2.13.0; needed: !=2.13.0,>=2.9", "pip install 'torch!=2.13.0,>=2.9'"),
        ("rich is missing; needed: >=13", "pip install 'rich>=13'"),
    ]
    installed(torchvision=None)
    assert not list(versions.pair()), "what is missing has been said"


def test_requirements_are_read_from_the_repository_where_nothing_is_installed(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(versions.metadata, "metadata", missing)
    python, needs = versions._own()
    assert python.startswith(">=3.11")
    assert any(need.startswith("torchvision") for need in needs)


def test_a_python_out_of_range(monkeypatch):
    monkeypatch.setattr(versions.platform, "python_version", lambda: "3.9.1")
    assert only(versions.python(), "python").level == "problem"


def test_libraries_that_do_not_fit_each_other(installed):
    installed({"pytorch-lightning": ["torch>=99"], "mlflow": ["no-such-thing>=1"]})
    assert [f.found.split(", which")[0] for f in bad(versions.libraries())] == [
        "pytorch-lightning needs torch>=99",
        "mlflow needs no-such-thing>=1",
    ]


# imports, in processes of their own


def write_modules(folder, **modules):
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)


@pytest.mark.slow
def test_imports_that_fail_crash_or_hang(here, monkeypatch):
    write_modules(
        here,
        fine="print('noise')",
        broken="raise RuntimeError('operator torchvision::nms\\ndoes not exist')",
        leaves="import sys; sys.exit(3)",
        crash="import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        hangs="import time; time.sleep(60)",
    )

    def tried(*modules, timeout):
        monkeypatch.setattr(versions, "GROUPS", (modules,))
        probes = Probes((modules,), timeout)
        found = bad(versions.imports(probes))
        probes.stop()
        return {finding.found.split(":")[0]: finding for finding in found}

    errors = tried("fine", "broken", "leaves", "crash", "behind", timeout=60)
    assert list(errors) == ["broken", "leaves", "crash", "behind"]
    assert errors["broken"].found == "broken: RuntimeError: operator torchvision::nms does not exist"
    assert errors["crash"].found == "crash: ended Python with status -9"
    assert errors["behind"].found == "behind: was not tried, for the import before it did not end"
    assert errors["broken"].do == "pip install --force-reinstall broken"
    errors = tried("hangs", timeout=3)
    assert errors["hangs"].found.startswith(("hangs: not imported within 3 s", "hangs: was not tried"))
    assert sorted(path.name for path in here.iterdir()) == [
        f"{n}.py" for n in ("broken", "crash", "fine", "hangs", "leaves")
    ]


def test_a_torchvision_that_cannot_be_imported(installed):
    installed(torch="2.15.0")
    probes = Told(torchvision={"error": "RuntimeError: operator torchvision::nms does not exist"})
    (found,) = bad(versions.imports(probes))
    assert found.do == "pip install --force-reinstall torch==2.15.0 torchvision"
    assert not bad(versions.imports(Told()))


# the store


def look(uri=None):
    return list(stores.store(uri))


def test_no_store_yet(here):
    (found,) = look()
    assert found == Finding("store", "ok", f"sqlite:///{here}/mlflow.db: none yet; the first run makes it")
    assert not list(here.iterdir())


@pytest.mark.parametrize("uri", ["sqlite:////nowhere/at/all/x.db", "ftp://host/x", "./mlruns"])
def test_a_store_that_cannot_be(uri):
    assert [finding.level for finding in bad(look(uri))] == ["problem"]


def test_a_store_in_order(store, here):
    Left(store, 1, "complete")
    before = tree(here), rows(here), sorted(path.name for path in here.iterdir())
    assert not bad(look())
    assert (tree(here), rows(here), sorted(path.name for path in here.iterdir())) == before
    assert {"store", "journal", "schema", "experiment", "private", "runs", "spool", "checkpoints"} == {
        finding.check for finding in look()
    }


def test_looking_leaves_no_trace_in_a_store_that_nobody_has_open(store, here, tmp_path):
    """Not even the files that SQLite puts beside a database to read it."""
    other = tmp_path / "other"
    other.mkdir()
    with closing(sqlite3.connect(here / "mlflow.db")) as source, closing(sqlite3.connect(other / "mlflow.db")) as copy:
        source.backup(copy)
    (other / "mlflow.db").chmod(0o600)
    before = (other / "mlflow.db").read_bytes(), (other / "mlflow.db").stat().st_mtime_ns
    assert look(f"sqlite:///{other}/mlflow.db")
    assert ((other / "mlflow.db").read_bytes(), (other / "mlflow.db").stat().st_mtime_ns) == before
    assert [path.name for path in other.iterdir()] == ["mlflow.db"]


@pytest.fixture
def copied(store, here, tmp_path):
    """A database that no connection of this process holds, to be damaged."""
    for number in range(20):
        Left(store, number, "complete")
    file = tmp_path / "copy" / "mlflow.db"
    file.parent.mkdir()
    file.touch(mode=0o600)
    with closing(sqlite3.connect(here / "mlflow.db")) as source, closing(sqlite3.connect(file)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=WAL")
    return file


def change(file, statement):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(statement)
        connection.commit()


def test_a_damaged_database(copied):
    """Pages turned to noise are found, whichever they are."""
    content = copied.read_bytes()
    size = 4096
    for page in (0, 1, 5, len(content) // size // 2, len(content) // size - 3):
        start, end = max(100, page * size), (page + 1) * size
        copied.write_bytes(content[:start] + b"\xa5" * (end - start) + content[end:])
        findings = [finding for finding in bad(look(f"sqlite:///{copied}")) if finding.check == "store"]
        assert [finding.level for finding in findings] == ["problem"], f"page {page}"
        assert "recover" in findings[0].do
    copied.write_bytes(content[: len(content) // 2])
    assert only(bad(look(f"sqlite:///{copied}")), "store").level == "problem"
    copied.write_bytes(b"hello" * 1000)
    assert "not a database" in only(bad(look(f"sqlite:///{copied}")), "store").found


def test_a_database_that_takes_long_to_check(copied):
    with glance.reading(copied) as connection:
        assert glance.integrity(connection) == "ok"
        assert glance.integrity(connection, patience=-1.0) in ("", "ok")
    assert stores._whole(copied, "").level == "warning"


def test_a_database_of_another_mlflow(copied):
    known, head = glance.schemas_known()
    assert head in known
    assert len(known) > 20
    uri = f"sqlite:///{copied}"
    change(copied, f"UPDATE alembic_version SET version_num = '{min(known - {head})}'")
    found = only(bad(look(uri)), "schema")
    assert "made by an older MLflow" in found.found
    assert f"mlflow db upgrade {uri}" in found.do
    change(copied, "UPDATE alembic_version SET version_num = 'f00f00f00f00'")
    assert only(bad(look(uri)), "schema").do == "pip install --upgrade mlflow"
    change(copied, "DROP TABLE alembic_version")
    assert "no tables of MLflow's" in only(bad(look(uri)), "schema").found


def test_a_database_without_the_experiment(copied):
    change(copied, "UPDATE experiments SET name = 'other' WHERE name = 'lenet_lab'")
    found = only(look(f"sqlite:///{copied}"), "experiment")
    assert (found.level, found.found) == ("ok", "lenet_lab: none yet; the first run makes it")


def test_another_journal(copied):
    change(copied, "PRAGMA journal_mode=DELETE")
    found = only(bad(look(f"sqlite:///{copied}")), "journal")
    assert found.level == "warning"
    assert os.system(found.do.removeprefix("when nothing runs: ")) == 0
    assert only(look(f"sqlite:///{copied}"), "journal").level == "ok"


def test_a_locked_database(copied):
    change(copied, "PRAGMA journal_mode=DELETE")
    with closing(sqlite3.connect(copied)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        Path(f"{copied}-wal").touch()  # it is open, so that locks are asked for
        found = only(bad(look(f"sqlite:///{copied}")), "store")
    assert "locked" in found.found


def test_a_store_that_others_can_read_or_write(store, here):
    (here / "mlflow.db").chmod(0o644)
    (here / "mlartifacts").chmod(0o755)
    store.state.chmod(0o770)
    found = [finding for finding in bad(look()) if finding.check == "private"]
    assert {(f.level, f.do.removeprefix("chmod go-rwx ").partition("-wal")[0]) for f in found} == {
        ("warning", str(here / "mlflow.db")),
        ("warning", str(here / "mlartifacts")),
        ("problem", str(store.state)),
    }
    for finding in found:
        assert os.system(finding.do) == 0
    assert not [finding for finding in bad(look()) if finding.check == "private"]


def test_a_store_that_cannot_be_written(store, here, monkeypatch):
    access = os.access
    monkeypatch.setattr(stores.os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    found = [finding for finding in bad(look()) if finding.check == "store"]
    assert [finding.found for finding in found] == [f"cannot be written: {here}/mlflow.db, {here}"]


def test_what_runs_have_left(store):
    dead, running = Left(store, 1, "dead", delivered=False), Left(store, 2, "running", delivered=False)
    Left(store, 3, "dead", deleted=True)
    checkpoint(dead.checkpoints / "epoch-00002.ckpt", digest="0" * 64)
    checkpoint(running.checkpoints / "epoch-00002.ckpt", digest="0" * 64)
    (dead.checkpoints / "epoch-00003.ckpt").write_bytes(b"no digest")
    findings = bad(look())
    assert {finding.level for finding in findings} == {"warning"}
    assert only(findings, "runs").found == f"1 dead: {dead.run_id[:8]}"
    assert only(findings, "spool").found.endswith(f"of 1: {dead.run_id[:8]}")
    damaged = [finding.found.split(":")[0] for finding in findings if finding.check == "checkpoints"]
    assert damaged == [str(dead.checkpoints / f"epoch-0000{n}.ckpt") for n in (2, 3)]
    running.lock.release()


def test_a_damaged_spool(store):
    left = Left(store, 1, "failed", delivered=False)
    left.spool.write_bytes(left.spool.read_bytes().replace(b'"1"', b'"2"'))
    found = only(bad(look()), "spool")
    assert found.found == f"{left.spool}: damaged, the sum of a line does not hold"
    assert "goes on from its checkpoint" in found.do


def test_locks_of_the_living_are_not_disturbed(store):
    left = Left(store, 1, "running")
    assert not bad(look())
    assert not RunLock(store, left.key).acquire(patience=0)
    left.lock.release()


def test_an_absent_server():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (found,) = look(f"http://me:geheim@127.0.0.1:{port}")
    assert found.level == "problem"
    assert "geheim" not in found.found + found.do
    assert f"127.0.0.1:{port}" in found.found


def test_a_server_that_is_none_of_mlflows(tmp_path):
    class Odd(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404)
            self.end_headers()

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            (found,) = bad(stores.store(f"http://me:geheim@127.0.0.1:{server.server_port}"))
        finally:
            server.shutdown()
    assert "answers, but not as MLflow does" in found.found
    assert "geheim" not in found.found
    assert not (tmp_path / "cache").exists()


# the machine


@pytest.mark.parametrize(("free", "level"), [(5 << 30, "ok"), (1 << 29, "warning"), (1 << 20, "problem")])
def test_disk(free, level, monkeypatch, here):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free}))
    assert {finding.level for finding in machine.disk(here / "not" / "there")} == {level}
    bad(machine.disk(here))


def test_a_tmpdir_that_is_not_there(monkeypatch, here):
    monkeypatch.setenv("TMPDIR", str(here / "none"))
    assert [finding.level for finding in bad(machine.disk(here))] == ["problem"]


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        (
            "4:memory:/x\n1:cpu,cpuacct:/x",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "200000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            2.0,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/gone", {}, None),
    ],
)
def test_quota(groups, files, expected, tmp_path):
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(f"{text}\n")
    (tmp_path / "own").write_text(groups + "\n")
    assert machine.cpu_quota(tmp_path / "fs", tmp_path / "own") == expected


def test_threads(monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    assert seen(machine.threads()) == [("ok", "8 cores")]
    monkeypatch.setattr(machine, "cpu_quota", lambda: 2.5)
    (found,) = bad(machine.threads())
    assert found.do == "add sweep.workers=2 sweep.threads=1 to sweeps"
    for value, level in (("4", "ok"), ("64", "warning"), ("many", "problem"), ("0", "problem")):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert [f.level for f in machine.threads() if "OMP_NUM_THREADS" in f.found] == [level]


CARD = [("NVIDIA H200", "580.1", 100 << 30)]


@pytest.mark.parametrize(
    ("cards", "answer", "environment", "level", "says"),
    [
        ([], {"gpus": [], "built_for": "13.0"}, {}, "ok", "none: the CPU is used"),
        (
            CARD,
            {"gpus": [["NVIDIA H200", 140 << 30]], "built_for": "13.0"},
            {},
            "ok",
            "0: NVIDIA H200, 140.0 GiB, driver 580.1",
        ),
        ([("NVIDIA H200", "580.1", 1 << 20)], {"gpus": [["NVIDIA H200", 140 << 30]]}, {}, "warning", "1.0 MiB free"),
        (CARD, {"gpus": [], "built_for": None}, {}, "warning", "built for the CPU"),
        (CARD, {"gpus": [], "built_for": "13.0"}, {}, "warning", "does not serve CUDA 13.0"),
        (CARD, {"gpus": [], "built_for": "13.0"}, {"CUDA_VISIBLE_DEVICES": ""}, "warning", "hidden by"),
    ],
)
def test_gpu(cards, answer, environment, level, says, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, "_driver", lambda: cards)
    findings = list(machine.gpu(Told(torch=answer)))
    assert (level, True) in [(finding.level, says in finding.found) for finding in findings]
    bad(findings)


def test_the_driver_is_asked(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 580.1, 102400'\necho 'Odd, 1, [N/A]'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._driver() == [("NVIDIA H200", "580.1", 100 << 30), ("Odd", "1", machine.SCARCE)]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert machine._driver() == []


def test_port(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(machine, "PORT", taken.getsockname()[1])
        assert [finding.level for finding in bad(machine.port())] == ["warning"]
    assert not bad(machine.port())


# the data


def test_data_that_is_not_here(here):
    findings = list(sets.data(None))
    assert [finding.found for finding in bad(findings)] == ["mnist: not here; the first run downloads it"]
    assert not list(here.iterdir())
    assert [finding.level for finding in bad(sets.data("nowhere"))] == ["problem"] * 3


@pytest.mark.mnist
def test_data_that_is_here(mnist_root, tmp_path, monkeypatch):
    monkeypatch.setenv("LENET_LAB_DATA", str(mnist_root))
    assert not bad(sets.data(None))
    raw = tmp_path / "copy" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (mnist_root / "MNIST" / "raw").glob("*-ubyte"):
        (raw / path.name).write_bytes(path.read_bytes())
    labels = raw / "t10k-labels-idx1-ubyte"
    content = labels.read_bytes()
    labels.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (found,) = bad(sets.data(str(tmp_path / "copy")))
    assert found.level == "problem"
    assert str(labels) in found.found
    labels.unlink()
    (found,) = bad(sets.data(str(tmp_path / "copy")))
    assert "incomplete" in found.found


# the whole


def test_a_check_that_fails_is_a_finding(monkeypatch, capsys):
    def fail():
        raise ZeroDivisionError("in the\nmidst")

    monkeypatch.setattr(machine, "threads", fail)
    monkeypatch.setattr(probing, "Probes", Told)
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert "problem  threads      could not be looked at: ZeroDivisionError: in the midst  ->  " in text
    assert "Traceback" not in text
    assert "network" in text, "the others go on"


def test_hostile_names_are_inert(monkeypatch, capsys):
    monkeypatch.setattr(probing, "Probes", Told)
    monkeypatch.setenv("OMP_NUM_THREADS", "\x1b[31m\n4")
    doctor.main([])
    assert "\x1b" not in capsys.readouterr().out


def test_json(store, monkeypatch, capsys):
    monkeypatch.setattr(probing, "Probes", Told)
    Left(store, 1, "dead")
    status = doctor.main(["--json"])
    said = json.loads(capsys.readouterr().out)
    assert set(said) == {"problems", "warnings", "findings", "seconds"}
    assert {frozenset(row) for row in said["findings"]} == {frozenset(("check", "level", "found", "do"))}
    assert said["problems"] == sum(row["level"] == "problem" for row in said["findings"])
    assert said["warnings"] >= 1
    assert status == (1 if said["problems"] else 0)


@pytest.mark.slow
def test_the_command(store, here, monkeypatch, capfd):
    """With the real imports, and nothing left behind."""
    before = tree(here), rows(here)
    doctor.main([])
    text = capfd.readouterr().out
    assert "ok       imports      every library can be imported, torchvision's operators work" in text
    assert re.fullmatch(r"\d+ problems, \d+ warnings, after [\d.]+ s", text.splitlines()[-1])
    assert (tree(here), rows(here)) == before
