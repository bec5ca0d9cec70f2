"""Attacks on what is loaded, shown and served. Models, exports and reports have theirs in their own files."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from leftovers import Left, empty_store

from lenet_lab.cli import main
from lenet_lab.config.compose import composer
from lenet_lab.config.secrets import refuse_secrets
from lenet_lab.engines.checkpoints import VerifiedCheckpointIO, digest_path
from lenet_lab.provenance import redact, redact_text
from lenet_lab.records import LabError
from lenet_lab.sweeps.printing import texts
from lenet_lab.tracking.parents import open_parent
from lenet_lab.tracking.store import open_store, public
from tests.conftest import REPOSITORY, make_lab
from tests.faults.jobs import SITE


class Bomb:
    """Touches a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_that_carries_code_is_refused_and_runs_nothing(tmp_path):
    """Its digest holds, as an attacker's would; loading takes weights only."""
    trap, path = tmp_path / "sprung", tmp_path / "epoch-00001.ckpt"
    torch.save({"state_dict": {}, "lenet_lab": Bomb(trap)}, path)
    digest_path(path).write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(pickle.UnpicklingError):
        VerifiedCheckpointIO().load_checkpoint(path)
    assert not trap.exists()


def test_the_bomb_is_a_bomb(tmp_path):
    """The attack above would work on a loader that unpickles."""
    trap = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Bomb(trap)))
    assert trap.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    ["os.system", "subprocess.Popen", "lenet_lab.provenance._git", "lenet_lab.blocks.pool.Pool", "builtins.eval"],
)
def test_a_configuration_cannot_name_what_is_called(target, lab, tmp_path):
    """`_target_` takes this group's own classes alone, on the command line and in a stored configuration alike."""
    done = lab("data=digits", f"+activation._target_={target}", "activation.name=tanh")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    "name", ["\x1b[31mred\x1b[0m", "a\nb", "[bold]x[/bold]", "\x07bell", "\u202egnp.exe", "\x9b31m"]
)
def test_names_are_inert_on_the_terminal(name):
    """No control character, escape sequence or bidirectional override reaches it, and markup is not obeyed."""
    shown = texts([name])[0]
    assert all(character.isprintable() for character in shown.plain)
    assert not shown.spans


HOSTILE = "\x1b]0;title\x07\x1b[31m\u202egnp.exe\u2028[bold]x[/bold]\r\n\x9b31m\x7f"


@pytest.mark.slow
def test_names_tags_and_notes_are_inert_in_every_command(tmp_path, tmp_path_factory, monkeypatch, capsys):
    """What somebody else has written into the store is shown as it is, and obeyed by nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = empty_store(tmp_path_factory, tmp_path)
    said = dict.fromkeys(("lenet.error", "lenet.note", "lenet.arm", "lenet.host", "mlflow.note.content"), HOSTILE)
    said["lenet.sha256"] = "{}"
    runs = [Left(store, n, state, **said) for n, state in enumerate(("failed", "complete", "dead"))]
    cells = [{"key": run.key, "arm": HOSTILE, "name": HOSTILE, "overrides": [HOSTILE]} for run in runs]
    sweep = "ab" * 32
    parent = open_parent(store, sweep, HOSTILE, cells)
    for run_id in (parent, *(run.run_id for run in runs)):
        store.client.set_tag(run_id, "mlflow.runName", HOSTILE)
    for run in runs:
        store.client.log_param(run.run_id, "pool", HOSTILE)
        store.client.log_metric(run.run_id, "test/acc", 0.5)
    commands = (
        ("status",),
        ("status", sweep[:8]),
        ("report",),
        ("archive", "--state", "failed"),
        ("archive", runs[0].run_id, "--yes"),
        ("archive", "--restore", runs[0].run_id, "--yes"),
        ("gc", "--dead"),
        ("export", "--out", "x.zip"),
        ("diff", runs[0].run_id, runs[1].run_id),
        ("doctor",),
    )
    for words in commands:
        with pytest.raises(SystemExit):
            main(words)
        shown = capsys.readouterr()
        assert shown.out + shown.err, words
        hidden = {c for c in shown.out + shown.err if not c.isprintable() and c != "\n"}
        assert not hidden, (words, hidden)
        assert "Traceback" not in shown.err
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("mlflow")) == [
        "mlartifacts",
        "reports",
        "x.zip",
    ]


def test_secrets_are_taken_out_of_what_is_stored():
    """By the name of the key, and out of URIs wherever they stand."""
    kept = redact(
        {"tracking.password": "hunter2", "api_key": "hunter2", "lr": "0.001", "uri": "http://me:hunter2@host/x"}
    )
    assert "hunter2" not in str(kept)
    assert kept["lr"] == "0.001"
    assert redact_text("failed: postgresql://me:hunter2@host/db?x=1") == "failed: postgresql://[redacted]@host/db?x=1"
    assert public("http://me:hunter2@host:5000") == "http://host:5000"


@pytest.mark.slow
def test_a_password_in_the_store_address_is_never_shown_or_stored(lab, tmp_path):
    """Neither when the store does not answer, nor in what the launch leaves beside the sweep."""
    uri = f"http://me:hunter2@127.0.0.1:{_free_port()}"
    started = time.monotonic()
    done = lab("data=digits", "epochs=1", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 2
    assert time.monotonic() - started < 60
    assert "hunter2" not in done.stdout + done.stderr
    assert "does not answer" in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.parametrize("many", [True, False], ids=["sweep", "run"])
@pytest.mark.parametrize(
    "word",
    [
        "tracking.uri=http://me:hunter2@127.0.0.1:1",
        "tracking.uri=postgresql://hunter2@127.0.0.1/base",
        "+tracking.password=hunter2",
        "+hydra.job.env_set.MLFLOW_TRACKING_TOKEN=hunter2",
        "+hydra.job.env_set={MLFLOW_TRACKING_PASSWORD: hunter2}",
        "name=see https://me:hunter2@host/page",
    ],
)
def test_a_secret_in_an_override_is_refused_and_nothing_is_written(word, many, lab, tmp_path):
    """Hydra would write it to `.hydra/*.yaml` and `multirun.yaml` as it was typed, whatever the run redacts."""
    done = lab(*["-m"] * many, "data=digits", "epochs=1", word)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix in (".yaml", ".log", ".db")]


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ([], None),
        (["hydra/launcher=ray"], None),
        (["hydra/launcher=joblib"], None),
        (["experiment=demo"], None),
        (["tracking.uri=${oc.env:STORE}"], None),
        (["tracking.uri=http://${oc.env:ME}:${oc.env:WORD}@host"], "tracking.uri"),
        (
            ["experiment=demo", "++hydra.sweeper.params={tracking.uri: 'http://me:hunter2@host'}"],
            "hydra.sweeper.params.tracking.uri",
        ),
    ],
)
def test_what_may_be_told_to_hydra(words, refused, monkeypatch):
    for name in ("STORE", "ME", "WORD"):
        monkeypatch.setenv(name, "x")
    with composer() as compose:
        config = compose(words, multirun=True)
    if refused is None:
        refuse_secrets(config)
    else:
        with pytest.raises(LabError, match=refused.replace(".", r"\.")) as said:
            refuse_secrets(config)
        assert "hunter2" not in str(said.value)


@pytest.mark.slow
def test_secrets_of_the_environment_reach_no_file_of_a_sweep(tmp_path):
    """The store's address with its password in the environment, and a job that fails while it says the address."""
    evil = "    if config.seed == 1: raise RuntimeError('cannot reach ' + os.environ['MLFLOW_TRACKING_URI'])\n"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE + evil)
    with _server(tmp_path) as port:
        secrets = {"MY_API_KEY": "hunter2", "AWS_SECRET_ACCESS_KEY": "hunter2"}
        swept = make_lab(tmp_path, fresh=True)(
            *("-m", "data=digits", "epochs=1", "tracking.artifacts=minimal", "seed=0,1", "sweep.workers=1"),
            **secrets,
            MLFLOW_TRACKING_URI=f"http://me:hunter2@127.0.0.1:{port}",
            PYTHONPATH=f"{tmp_path / 'site'}:{REPOSITORY}",
        )
    said = swept.stdout + swept.stderr
    assert swept.returncode == 1, said
    assert "1 trained, 1 failed" in said
    assert "cannot reach http://[redacted]@" in said
    assert "hunter2" not in said
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "site" not in path.parts]
    assert len(files) > 10
    assert not [path for path in files if b"hunter2" in path.read_bytes()]


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[int]:
    """A bare MLflow server on this machine."""
    port = _free_port()
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # runners that tracking needs none of
    command = [sys.executable, "-m", "mlflow", *words, *store]
    with subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            assert _status(port, f"127.0.0.1:{port}", patience=90) == 200
            yield port
        finally:
            os.killpg(server.pid, signal.SIGTERM)


def test_the_store_is_private_to_the_user(tmp_path, monkeypatch):
    """Whatever the umask."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0)
    try:
        store = open_store(None)
    finally:
        os.umask(before)
    for path in (tmp_path / "mlflow.db", tmp_path / "mlartifacts", store.state):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.slow
def test_the_ui_answers_only_its_own_host_and_origin(tmp_path, monkeypatch):
    """DNS rebinding and cross-site requests get 403; it listens on this machine alone."""
    monkeypatch.chdir(tmp_path)
    open_store(None)
    port = _free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "lenet_lab", "ui", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            own = f"127.0.0.1:{port}"
            assert _status(port, own, patience=90) == 200
            for host in (
                "evil.com",
                f"evil.com:{port}",
                f"10.evil.com:{port}",
                f"192.168.0.1:{port}",
                f"127.0.0.1.evil.com:{port}",
            ):
                assert _status(port, host) == 403, host
            assert _status(port, own, origin="http://evil.com", post=True) == 403
            assert _status(port, own, origin=f"http://{own}", post=True) == 200
        finally:
            server.terminate()


def _status(port: int, host: str, origin: str | None = None, post: bool = False, patience: float = 0.0) -> int:
    """The answer to a request with these headers; waits for a server that is starting."""
    end = time.monotonic() + patience
    headers = {"Host": host, "Content-Type": "application/json"} | ({"Origin": origin} if origin else {})
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            if post:
                connection.request("POST", "/api/2.0/mlflow/experiments/search", '{"max_results": 1}', headers)
            else:
                connection.request("GET", "/", headers=headers)
            return connection.getresponse().status
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
        finally:
            connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
