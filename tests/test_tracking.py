"""Tracking: the spool, who may train a cell, what counts, and the store as a plain MLflow client sees it."""

import contextlib
import json
import multiprocessing
import resource
import signal
import socket
import sqlite3
import threading
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import yaml
from conftest import make_lab
from processes import start_and_finish
from sharing import shared

from lenet_lab import run as run_module
from lenet_lab.cell import load, make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.keys import run_key
from lenet_lab.config.schema import parse
from lenet_lab.records import LabError, frame
from lenet_lab.tracking import (
    Busy,
    TakenOver,
    TrackedRun,
    bury,
    claim,
    counts,
    deliver_pending,
    find,
    open_store,
    read_curves,
    read_runs,
)
from lenet_lab.tracking import claims as claims_module
from lenet_lab.tracking.parents import cells_of, close_parent, find_parent, open_parent
from lenet_lab.tracking.read import link
from lenet_lab.tracking.spool import Courier, DamagedSpool, Spool, StopDelivery, acknowledged, deliver, encoded, events
from lenet_lab.tracking.store import Store, locate, state_folder

# the spool


def lines(path):
    return [event for event, _ in events(path, 0)]


@pytest.fixture
def spools():
    """`spools(path)` opens a spool that the test's end closes."""
    opened = []

    def open_spool(path):
        opened.append(Spool(path))
        return opened[-1]

    yield open_spool
    for spool in opened:
        spool.close()


def test_a_spool_delivers_in_order_and_once(tmp_path, spools):
    path, sent = tmp_path / "run.jsonl", []
    spool = spools(path)
    for number in range(3):
        spool.append({"tags": {"n": str(number)}})
    assert deliver(path, sent.extend)
    assert not deliver(path, sent.extend), "nothing is left"
    spool.append({"tags": {"n": "3"}})
    assert deliver(path, sent.extend)
    assert [event["tags"]["n"] for event in sent] == ["0", "1", "2", "3"]
    assert acknowledged(path) == path.stat().st_size
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.ack", "run.jsonl"]


def test_what_the_store_refuses_stays(tmp_path, spools):
    path, sent = tmp_path / "run.jsonl", []
    spools(path).append({"tags": {"a": "1"}})

    def refuse(_):
        raise ConnectionError

    with pytest.raises(ConnectionError):
        deliver(path, refuse)
    assert acknowledged(path) == 0
    assert deliver(path, sent.extend)
    assert sent == [{"tags": {"a": "1"}}]


@pytest.mark.parametrize("ending", ['01234567 {"metrics":[["val/acc",0.5', "0123", "0"])
def test_a_half_written_line_is_skipped_and_glued_to_nothing(ending, tmp_path, spools):
    path, sent = tmp_path / "run.jsonl", []
    spools(path).append({"tags": {"a": "1"}})
    with path.open("a") as file:
        file.write(ending)
    assert lines(path) == [{"tags": {"a": "1"}}]
    again = spools(path)
    again.append({"tags": {"b": "2"}})
    assert deliver(path, sent.extend)
    assert sent == [{"tags": {"a": "1"}}, {"tags": {"b": "2"}}]
    assert acknowledged(path) == path.stat().st_size


def test_every_flip_and_cut_of_a_spool_is_found_or_repeats_nothing_wrong(tmp_path, spools):
    """Nothing that was not written is ever sent, and no point is taken for held that is not."""
    path = tmp_path / "run.jsonl"
    spool, written = spools(path), []
    for step in (1, 2, 3):
        written.append({"metrics": [["val/acc", step / 4, 1000, step]]})
        spool.append(written[-1])
        if step == 2:
            deliver(path, lambda _: None)
    whole, upto = path.read_bytes(), acknowledged(path)
    hurts = [whole[:place] for place in range(len(whole))]
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        hurts.append(bytes(flipped))
    for hurt in hurts:
        path.write_bytes(hurt)
        path.with_suffix(".ack").write_bytes(encoded(str(upto)))
        sent = []
        with contextlib.suppress(DamagedSpool):
            deliver(path, sent.extend)
        assert sent in ([], written[2:]), hurt
        again = Spool(path, held=lambda: [("val/acc", 1), ("val/acc", 2)])
        for event in written:  # a resumed run says everything again: what the store has is left out
            again.append(event)
        again.close()
        missing = [event["metrics"][0][3] for event in lines(path) if event not in sent]
        assert set(missing) <= {1, 2, 3}
        assert acknowledged(path) in (0, upto)
        assert (acknowledged(path) == upto and lines(path) == written) or lines(path) == written[2:], hurt


def test_a_damaged_acknowledgement_sends_all_again(tmp_path, spools):
    path, sent = tmp_path / "run.jsonl", []
    spools(path).append({"tags": {"a": "1"}})
    deliver(path, sent.extend)
    whole = path.with_suffix(".ack").read_bytes()
    for place in range(len(whole)):
        hurt = bytearray(whole)
        hurt[place] ^= 1
        path.with_suffix(".ack").write_bytes(bytes(hurt))
        assert acknowledged(path) == 0
    deliver(path, sent.extend)
    assert sent == [{"tags": {"a": "1"}}] * 2


def test_a_full_disk_leaves_no_half_line(tmp_path, spools, monkeypatch):
    path = tmp_path / "run.jsonl"
    spool = spools(path)
    spool.append({"tags": {"a": "1"}})
    before, soft = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, soft[1]))
        with pytest.raises(OSError, match="too large"):
            spool.append({"tags": {"b": "2" * 100}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    spool.append({"tags": {"c": "3"}})
    assert lines(path) == [{"tags": {"a": "1"}}, {"tags": {"c": "3"}}]


def test_a_point_is_its_key_and_step(tmp_path, spools):
    """A resumed run says an epoch again that the dead one had said: the first word counts."""
    path = tmp_path / "run.jsonl"
    spools(path).append({"metrics": [["val/acc", 0.5, 1000, 1], ["lr", 0.1, 1000, 1]]})
    again = spools(path)
    again.append({"metrics": [["val/acc", 0.5, 2000, 1], ["lr", 0.1, 2000, 1]]})
    again.append({"metrics": [["val/acc", 0.5, 2000, 1], ["val/acc", 0.6, 2000, 2]]})
    assert [event["metrics"] for event in lines(path)] == [
        [["val/acc", 0.5, 1000, 1], ["lr", 0.1, 1000, 1]],
        [["val/acc", 0.6, 2000, 2]],
    ]


def test_the_courier_tries_again_until_the_store_answers(tmp_path, spools):
    path, sent, refusals = tmp_path / "run.jsonl", [], [ConnectionError(), TimeoutError()]

    def send(batch):
        if refusals:
            raise refusals.pop()
        sent.extend(batch)

    courier = Courier(path, send, lambda: None, every=100.0)
    spool = spools(path)
    courier.start()
    spool.append({"tags": {"a": "1"}})
    courier.nudge()
    assert courier.flush(10.0, threading.Event())
    courier.stop()
    assert not courier.is_alive()
    assert sent == [{"tags": {"a": "1"}}]
    assert courier.error is None


def test_the_courier_stops_where_trying_again_makes_no_sense(tmp_path, spools):
    def send(batch):
        raise StopDelivery("taken")

    courier = Courier(tmp_path / "run.jsonl", send, lambda: None, every=100.0)
    spools(tmp_path / "run.jsonl").append({"tags": {"a": "1"}})
    courier.start()
    courier.join(10)
    assert isinstance(courier.fatal, StopDelivery)
    assert not courier.flush(0.1, threading.Event())


# the store


def log_for_a_while(tracked):
    """A run that goes on: what it says is refused as soon as its courier has asked the store."""
    for step in range(500):
        tracked.metrics({"val/acc": 0.5}, step=step)
        time.sleep(0.02)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")


@pytest.fixture
def key(request):
    """A run key of the test's own, so that one store serves all tests."""
    return f"{abs(hash(request.node.nodeid)):064x}"


def started(store, key, **tags):
    tracked = claim(store, key, "a run")
    assert isinstance(tracked, TrackedRun)
    tracked.begin(tags)
    return tracked


def state(store, key):
    return {record.run_id: record.state for record in read_runs(store) if record.key == key}


def tags_of(store, run_id):
    return store.client.get_run(run_id).data.tags


def arrive(tracked):
    """Wait until the store has what was said so far."""
    assert tracked._courier.flush(20.0, threading.Event())


def test_the_default_store_is_where_a_bare_mlflow_ui_looks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    opened = open_store()
    assert opened.uri == f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow.MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("lenet_lab")
    assert experiment.experiment_id == opened.experiment_id
    assert Path(experiment.artifact_location.removeprefix("file://")) == tmp_path / "mlartifacts"
    assert (tmp_path / "mlflow.db").stat().st_mode & 0o077 == 0, "private to the user"
    assert open_store().experiment_id == opened.experiment_id


def test_where_the_store_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert locate(None) == "http://host:5000"
    assert locate("sqlite:///x.db") == f"sqlite:///{tmp_path}/x.db", "the configuration wins, and is made absolute"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert state_folder("http://me:secret@host:5000") == state_folder("http://host:5000")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: f"sqlite:///{folder}/none/x.db", "its folder is missing or cannot be written"),
        (lambda folder: "ftp://host/x", "allowed are sqlite:///FILE.db and http"),
        (lambda folder: "x.db", "allowed are sqlite:///FILE.db and http"),
        (lambda folder: f"sqlite:///{folder}/text.db", "not an SQLite database"),
        (lambda folder: "http://me:geheim@127.0.0.1:9", "tracking.uri=http://127.0.0.1:9: the store does not answer"),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_line(make, says, tmp_path, monkeypatch):
    (tmp_path / "text.db").write_text("these are not the bytes of a database")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(LabError) as caught:
        open_store(make(tmp_path))
    text = str(caught.value)
    assert says in text
    assert text.startswith("tracking.uri=")
    assert text.isprintable()
    assert "geheim" not in text


def test_reading_makes_no_store(tmp_path):
    with pytest.raises(LabError, match="no store there"):
        open_store(f"sqlite:///{tmp_path}/x.db", create=False)
    assert not list(tmp_path.iterdir())


def test_a_link_shows_no_password():
    assert "geheim" not in link(Store("http://me:geheim@host:5000/", Path("x"), "1"), "abc")


@pytest.mark.slow
def test_eight_processes_start_on_a_fresh_store_and_all_finish(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store", "lenet_lab.tracking"])
    uri, barrier = f"sqlite:///{tmp_path}/mlflow.db", context.Barrier(8)
    processes = [context.Process(target=start_and_finish, args=(uri, n, barrier)) for n in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(150)
    assert [process.exitcode for process in processes] == [0] * 8
    records = read_runs(open_store(uri, create=False))
    assert {r.key: (r.state, r.metrics["val/acc"]) for r in records} == {
        f"{n:064x}": ("complete", n / 8) for n in range(8)
    }
    assert len(mlflow.MlflowClient(uri).search_experiments(filter_string="name = 'lenet_lab'")) == 1


# a cell is trained by one process


def test_a_claimed_cell_is_busy_until_it_is_let_go(store, key):
    first = started(store, key)
    with pytest.raises(Busy, match="another process on this machine is training it"):
        claim(store, key, "a run")
    first.abandon()
    second = started(store, key)
    assert second.run_id == first.run_id, "the same MLflow run goes on"
    second.finish("complete")
    assert len(state(store, key)) == 1


def test_a_finished_cell_is_not_trained_again(store, key):
    first = started(store, key)
    assert first.finish("complete")
    found = claim(store, key, "a run")
    assert not isinstance(found, TrackedRun)
    assert found.info.run_id == first.run_id
    assert found.info.status == "FINISHED"
    again = claim(store, key, "a run", fresh=True)
    assert isinstance(again, TrackedRun), "unless one asks for it"
    again.abandon()


@pytest.mark.parametrize("end", ["failed", "stopped"])
def test_a_cell_that_did_not_finish_is_gone_on_with(end, store, key):
    first = started(store, key)
    first.tags({"lenet.error": "no space"})
    first.finish(end)
    assert list(state(store, key).values()) == [end]
    second = started(store, key)
    arrive(second)
    assert second.run_id == first.run_id
    assert second.before["lenet.state"] == end
    assert store.client.get_run(second.run_id).info.status == "RUNNING"
    assert state(store, key) == {first.run_id: "running"}
    assert tags_of(store, first.run_id)["lenet.error"] == "", "an error that is over is not shown"
    second.finish("complete")
    assert state(store, key) == {first.run_id: "complete"}


def test_diverged_is_an_outcome(store, key):
    started(store, key).finish("diverged")
    assert list(state(store, key).values()) == ["diverged"]
    assert not isinstance(claim(store, key, "a run"), TrackedRun)


def test_running_is_told_from_dead_by_the_lock(store, key):
    tracked = started(store, key)
    arrive(tracked)
    assert list(state(store, key).values()) == ["running"]
    tracked.abandon()  # as a death does: the kernel frees the lock, and nothing is said
    assert list(state(store, key).values()) == ["dead"]
    bury(store, key, "killed by SIGKILL")
    assert list(state(store, key).values()) == ["failed"]
    assert tags_of(store, tracked.run_id)["lenet.error"] == "killed by SIGKILL"


def test_only_the_dead_are_buried(store, key):
    tracked = started(store, key)
    arrive(tracked)
    bury(store, key, "killed")
    assert list(state(store, key).values()) == ["running"]
    tracked.finish("complete")
    bury(store, key, "killed")
    assert list(state(store, key).values()) == ["complete"]


def test_what_counts():
    mine = {"lenet.state": "complete", "lenet.owner": "me", "lenet.ended_by": "me"}
    assert counts(mine)
    assert counts({**mine, "lenet.state": "diverged"})
    assert not counts({**mine, "lenet.state": "running"})
    assert not counts({**mine, "lenet.state": "failed"})
    assert not counts({**mine, "lenet.owner": "another"}), "somebody took it over meanwhile"
    assert not counts({"lenet.state": "complete"})
    assert not counts({})


def test_the_completion_tag_comes_last(store, key, monkeypatch):
    """At every call before the last one the run does not count."""
    tracked = started(store, key)
    arrive(tracked)
    seen, log_batch = [], type(store.client).log_batch

    def watched(self, run_id, metrics, params, tags):
        seen.append(counts(self.get_run(run_id).data.tags))
        return log_batch(self, run_id, metrics, params, tags)

    monkeypatch.setattr(type(store.client), "log_batch", watched)
    (tracked.outbox / "predictions.npz").write_text("scores")
    tracked.metrics({f"m{n}": float(n) for n in range(250)}, step=1)
    tracked.artifact("predictions.npz")
    assert tracked.finish("complete")
    assert len(seen) >= 4
    assert not any(seen)
    assert counts(tags_of(store, tracked.run_id))
    assert len(store.client.get_run(tracked.run_id).data.metrics) == 250
    assert [a.path for a in store.client.list_artifacts(tracked.run_id)] == ["predictions.npz"]


def test_a_finished_run_leaves_nothing_behind(store, key):
    tracked = started(store, key)
    (tracked.outbox / "x").write_text("x")
    (tracked.checkpoints / "epoch-00001.ckpt").write_text("x")
    tracked.artifact("x")
    assert tracked.finish("complete")
    assert not tracked.outbox.exists()
    assert not tracked.checkpoints.exists()
    assert not (store.state / "spool" / f"{tracked.run_id}.jsonl").exists()


# crashes between sending and acknowledging, and stores that do not answer


def test_delivering_twice_doubles_nothing(store, key):
    """A crash after the store had a batch and before the acknowledgement: the batch is sent once more."""
    tracked = started(store, key)
    tracked.metrics({"val/acc": 0.5}, step=1)
    tracked.params({"lr": "0.1"})
    tracked.dataset("digits training", "d" * 64, "digits", "training", {"examples": 3})
    arrive(tracked)
    tracked.abandon()
    acknowledgement = store.state / "spool" / f"{tracked.run_id}.ack"
    acknowledgement.unlink()
    again = started(store, key)
    again.metrics({"val/acc": 0.5}, step=1)
    again.metrics({"val/acc": 0.75}, step=2)
    again.dataset("digits training", "d" * 64, "digits", "training", {"examples": 3})
    assert again.finish("complete")
    history = store.client.get_metric_history(tracked.run_id, "val/acc")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.75)]
    run = store.client.get_run(tracked.run_id)
    assert run.data.params == {"lr": "0.1"}
    assert len(run.inputs.dataset_inputs) == 1


@pytest.fixture
def silent(monkeypatch):
    """A store that does not answer while `silent.set()`."""
    from lenet_lab.tracking.sender import Sender

    switch, send = threading.Event(), Sender.send

    def sometimes(self, batch):
        if switch.is_set():
            raise ConnectionError("no route to host")
        return send(self, batch)

    monkeypatch.setattr(Sender, "send", sometimes)
    return switch


def test_what_did_not_arrive_is_delivered_at_the_next_launch(store, key, silent):
    tracked = started(store, key)
    arrive(tracked)
    silent.set()
    tracked.metrics({"test/acc": 0.9}, step=3)
    assert not tracked.finish("complete", timeout=0.3)
    assert list(state(store, key).values()) == ["dead"], "nothing counts before it has all arrived"
    silent.clear()
    assert deliver_pending(store) >= 1
    assert list(state(store, key).values()) == ["complete"]
    assert store.client.get_run(tracked.run_id).data.metrics == {"test/acc": 0.9}
    assert deliver_pending(store) == 0


def test_a_run_with_a_damaged_spool_is_gone_on_with_and_doubles_nothing(store, key, silent):
    """Nothing of the spool is believed, its end neither; what the store has of the run is not said twice."""
    tracked = started(store, key)
    tracked.metrics({"val/acc": 0.5}, step=1)
    arrive(tracked)
    silent.set()
    tracked.metrics({"val/acc": 0.75}, step=2)
    assert not tracked.finish("complete", timeout=0.3)
    silent.clear()
    spool = store.state / "spool" / f"{tracked.run_id}.jsonl"
    spool.write_bytes(spool.read_bytes().replace(b"0.75", b"0.76"))
    deliver_pending(store)
    assert not counts(tags_of(store, tracked.run_id))
    again = started(store, key)
    assert again.run_id == tracked.run_id
    for step in (1, 2):
        again.metrics({"val/acc": (step + 1) / 4}, step=step)
    assert again.finish("complete")
    history = store.client.get_metric_history(tracked.run_id, "val/acc")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.75)]


def test_a_claim_finds_a_completion_that_was_still_in_the_spool(store, key, silent):
    """It must not train a second time what only did not arrive."""
    tracked = started(store, key)
    arrive(tracked)
    silent.set()
    assert not tracked.finish("complete", timeout=0.3)
    silent.clear()
    found = claim(store, key, "a run")
    assert not isinstance(found, TrackedRun)
    assert found.info.run_id == tracked.run_id


def test_a_run_that_is_taken_over_stops_and_never_counts(store, key):
    tracked = started(store, key)
    arrive(tracked)
    store.client.set_tag(tracked.run_id, "lenet.owner", "another")
    with pytest.raises(TakenOver):
        log_for_a_while(tracked)
    with pytest.raises(TakenOver):
        tracked.finish("complete")
    assert not counts(tags_of(store, tracked.run_id))
    assert "val/acc" not in store.client.get_run(tracked.run_id).data.metrics


def test_a_run_that_is_taken_over_at_its_very_end_does_not_count(store, key, silent):
    tracked = started(store, key)
    arrive(tracked)
    store.client.set_tag(tracked.run_id, "lenet.owner", "another")
    with pytest.raises(TakenOver):
        tracked.finish("complete", timeout=5.0)
    deliver_pending(store)  # its spool is still there
    assert not counts(tags_of(store, tracked.run_id))
    assert "complete" not in state(store, key).values()


@pytest.fixture
def elsewhere(store, tmp_path):
    """The same store seen from another machine: other locks, another folder of state."""
    return Store(store.uri, tmp_path / "elsewhere", store.experiment_id)


def test_another_machine_waits_for_the_lease(store, elsewhere, key, monkeypatch):
    """A heart that beats is alive; one that does not beat for a whole lease is dead, and its run is closed."""
    monkeypatch.setattr(claims_module, "LEASE_S", 1.5)
    elsewhere.folder()
    tracked = started(store, key)
    arrive(tracked)
    beating = threading.Event()

    def beat():
        while not beating.wait(0.1):
            store.client.set_tag(tracked.run_id, "lenet.heartbeat", f"{time.time():.3f}")

    heart = threading.Thread(target=beat)
    heart.start()
    with pytest.raises(Busy, match=f"{socket.gethostname()} is training it"):
        claim(elsewhere, key, "a run")
    beating.set()
    heart.join()
    other = claim(elsewhere, key, "a run")
    assert isinstance(other, TrackedRun)
    assert other.run_id != tracked.run_id, "its checkpoints and spool are out of reach: a new run"
    other.begin({})
    assert other.finish("complete")
    # the first was only asleep: it wakes up, finds its run taken, and never counts
    with pytest.raises(TakenOver):
        log_for_a_while(tracked)
    tracked.abandon()
    deliver_pending(store)
    assert [run_id for run_id, now in state(elsewhere, key).items() if now == "complete"] == [other.run_id]
    assert find(store, [key])[key].info.run_id == other.run_id


# a sweep's parent


@pytest.mark.slow
def test_a_store_that_others_keep_busy_is_waited_for(store, monkeypatch):
    """Longer than one that is locked and in which nothing happens."""
    from lenet_lab.tracking import store as module

    monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    file = Path(store.uri.removeprefix("sqlite:///"))
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as base:
        base.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        with pytest.raises(LabError, match="locked"):
            open_store(store.uri)
        assert time.monotonic() - begun < 10
        signs = iter(range(10**6))
        monkeypatch.setattr(module, "_signs", lambda file: next(signs))  # somebody writes and writes
        monkeypatch.setattr(module, "BUSY_S", 4.5)
        begun = time.monotonic()
        with pytest.raises(LabError, match="locked"):
            open_store(store.uri)
        assert time.monotonic() - begun > 4.5
        base.execute("ROLLBACK")
    open_store(store.uri)


def test_a_relaunched_sweep_gets_its_parent_back(store):
    cells = [{"key": "k1", "arm": "a", "name": "pool=avg seed=0", "overrides": ["pool=avg"]}]
    first = open_parent(store, "feedface" * 8, "pool=avg", cells)
    assert open_parent(store, "feedface" * 8, "pool=avg", cells) == first
    parent = find_parent(store, "feedface")
    assert parent.info.run_id == first
    assert cells_of(store, parent) == cells
    assert "lenet.key" not in parent.data.tags
    with pytest.raises(LabError, match=r"'cafe': no sweeps begin so; there are: .*feedface"):
        find_parent(store, "cafe")


def test_two_launches_at_once_make_one_parent(store):
    found, cells = [], [{"key": "k1", "arm": "a", "name": "n", "overrides": []}]
    threads = [
        threading.Thread(target=lambda: found.append(open_parent(store, "0badcafe" * 8, "n", cells))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_two_launches_that_end_at_once_both_write_the_sweeps_page(store):
    """MLflow inserts a tag that neither has seen twice, and refuses the later."""
    for round_ in range(5):
        run, gate, wrong = open_parent(store, f"{round_:064x}", "n", []), threading.Barrier(4), []

        def close(note, run=run, gate=gate, wrong=wrong):
            gate.wait()
            try:
                close_parent(store, run, note, ok=True)
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=close, args=(f"note {number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert store.client.get_run(run).data.tags["mlflow.note.content"].startswith("note ")


# a failure inside a run


def test_a_run_that_fails_says_why(store, monkeypatch):
    """The error and its traceback are on the run, without the passwords in them; it can be gone on with."""
    words = ["data=digits", "data.train_size=64", "epochs=1", "tracking.artifacts=minimal", "seed=77"]
    ready = make_ready(compose_cell([*words, f"tracking.uri={store.uri}"]))

    def fail(*args, **how):
        raise RuntimeError("no answer from http://me:geheim@host/\nsecond line")

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "learn", fail)
        outcome = run_module.run(ready)
    assert (outcome.state, outcome.delivered) == ("failed", True)
    assert outcome.error == "RuntimeError: no answer from http://[redacted]@host/"
    (record,) = (r for r in read_runs(store) if r.key == ready.key)
    assert record.state == "failed"
    assert record.tags["lenet.error"] == outcome.error
    trace = Path(mlflow.artifacts.download_artifacts(f"{record.artifact_uri}/error.txt")).read_text()
    assert "in fail" in trace
    assert "geheim" not in trace
    outcome = run_module.run(ready)
    assert outcome.state == "complete"
    assert outcome.run_id == record.run_id


# the store read back by a plain client

WORDS = ("data=digits", "data.train_size=300", "epochs=2", "norm=bn", "lr=0.0042", "seed=3", "test_curve=true")
WORDS += ("trainer.threads=1",)
FINAL = {
    *("train_eval/loss", "train_eval/acc", "test/loss", "test/acc", "test/errors", "test/top3", "test/precision"),
    *("test/recall", "test/f1", "test/ece", "time/train_s", "time/total_s", "images_per_s", "params/total", "epochs"),
}
EPOCH = {"train/loss", "train/acc", "val/loss", "val/acc", "lr", "test_curve/acc", "test_curve/loss"}


@pytest.fixture(scope="session")
def single(tmp_path_factory):
    """One run as a user starts it, with everything that it tracks."""

    def make(folder):
        result = make_lab(folder)(*WORDS)
        assert result.returncode == 0, result.stderr[-3000:]
        return [result.stdout, result.stderr]

    return shared(tmp_path_factory, "single-run", make)


@pytest.fixture
def plain(single):
    """A client of MLflow and the run; nothing of this package."""
    client = mlflow.MlflowClient(f"sqlite:///{single[0]}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("lenet_lab").experiment_id])
    return client, run


@pytest.mark.slow
def test_what_a_single_run_says(single, plain):
    out, err = single[1]
    accuracy = plain[1].data.metrics["test/acc"]
    assert f"test accuracy {100 * accuracy:.2f}%" in out
    assert plain[1].info.run_id in out
    assert "python -m lenet_lab ui" in out
    assert err == "", "no warning of a library, and no progress where there is no terminal"


@pytest.mark.slow
def test_params_metrics_and_tags_read_back(plain):
    client, run = plain
    params, metrics, tags = run.data.params, run.data.metrics, run.data.tags
    expected = {"data": "digits", "norm": "bn", "lr": "0.0042", "lr.value": "0.0042", "seed": "3", "epochs": "2"}
    expected |= {"pool": "avg", "norm.momentum": "0.1", "data.train_size": "300", "optimizer": "adam"}
    assert {key: params[key] for key in expected} == expected
    assert not [key for key in params if key.startswith(("tracking", "sweep", "data.root"))]
    assert metrics.keys() >= FINAL | EPOCH
    assert metrics["epochs"] == 2
    assert metrics["params/total"] == 44426 + 2 * (6 + 16)
    assert metrics["test/errors"] == pytest.approx((1 - metrics["test/acc"]) * 360)
    assert metrics["time/total_s"] > metrics["time/train_s"] > 0
    for key in EPOCH:
        assert [point.step for point in client.get_metric_history(run.info.run_id, key)] == [1, 2]
    for key in FINAL - {"epochs"}:
        assert len(client.get_metric_history(run.info.run_id, key)) == 1, f"{key} was logged once, at the end"
    assert (tags["lenet.state"], tags["lenet.timing"], tags["lenet.test_curve"]) == ("complete", "alone", "true")
    assert tags["lenet.owner"] == tags["lenet.ended_by"]
    assert tags["lenet.host"] == socket.gethostname()
    assert {"lenet.key", "lenet.arm", "lenet.code", "lenet.data_digest", "lenet.pid", "lenet.heartbeat"} <= tags.keys()
    assert [word.replace("'", "") for word in json.loads(tags["lenet.overrides"])] == list(WORDS)
    record = json.loads(tags["lenet.execution"])
    assert {"threads", "memory_format", "fused", "device", "engine", "versions", "code"} <= record.keys()
    assert run.info.status == "FINISHED"
    assert run.info.run_name.endswith("seed=3")
    assert "norm=bn" in run.info.run_name


@pytest.mark.slow
def test_artifacts_and_the_dataset_read_back(plain):
    client, run = plain
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    wanted = {"config.yaml", "environment.txt", "predictions.npz", "confusion.png", "curves.png", "misclassified.png"}
    assert names >= wanted | {"model"}
    sets = {d.tags[0].value: d.dataset for d in run.inputs.dataset_inputs}
    assert {c: json.loads(d.profile)["examples"] for c, d in sets.items()} == {
        "training": 300,
        "validation": 200,
        "test": 360,
    }
    assert all(run.data.tags["lenet.data_digest"].startswith(d.digest) for d in sets.values())


@pytest.mark.slow
def test_the_saved_configuration_rebuilds_the_run(plain):
    client, run = plain
    saved = yaml.safe_load(Path(client.download_artifacts(run.info.run_id, "config.yaml")).read_text())
    assert run_key(saved, run.data.tags["lenet.data_digest"]) == run.data.tags["lenet.key"]
    assert parse(saved).epochs == 2


@pytest.mark.slow
def test_predictions_agree_with_the_metrics(plain):
    client, run = plain
    with np.load(client.download_artifacts(run.info.run_id, "predictions.npz"), allow_pickle=False) as saved:
        scores, label, predicted, loss = (saved[name] for name in ("scores", "label", "predicted", "loss"))
        assert len(np.unique(saved["index"])) == 360
    metrics = run.data.metrics
    assert (predicted != label).sum() == metrics["test/errors"]
    assert np.array_equal(scores.argmax(1), predicted)
    assert loss.mean() == pytest.approx(metrics["test/loss"], rel=1e-5)
    assert -np.log(scores[np.arange(360), label]).mean() == pytest.approx(metrics["test/loss"], rel=1e-4)
    top3 = np.mean([label[i] in np.argsort(-scores[i])[:3] for i in range(360)])
    assert top3 == pytest.approx(metrics["test/top3"])


@pytest.mark.slow
def test_the_model_loads_without_unpickling(plain, monkeypatch):
    """At another batch size than it was exported with, and gives the predictions that were tracked."""
    client, run = plain
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    folder = client.download_artifacts(run.info.run_id, "model")
    data = load(parse(compose_cell(WORDS).resolved).data)
    with np.load(client.download_artifacts(run.info.run_id, "predictions.npz")) as saved:
        scores = saved["scores"]
    model = mlflow.pytorch.load_model(folder)
    for count in (1, 7, 360):
        with torch.no_grad():
            seen = model(data.test.images[:count]).softmax(1).numpy()
        np.testing.assert_allclose(seen, scores[:count], atol=1e-5)
    assert not [path for path in Path(folder).rglob("*") if path.suffix in (".pkl", ".pickle", ".pth")]


@pytest.mark.slow
def test_records_and_curves_of_the_run(single, plain):
    opened = open_store(f"sqlite:///{single[0]}/mlflow.db", create=False)
    (record,) = read_runs(opened)
    assert (record.state, record.seed, record.run_id) == ("complete", 3, plain[1].info.run_id)
    assert record.metrics == plain[1].data.metrics
    curves = read_curves(opened, [record.run_id], ["val/acc", "nothing"])
    assert [step for step, _ in curves[record.run_id]["val/acc"]] == [1, 2]
    assert "nothing" not in curves[record.run_id]
    assert frame([record])["metrics.test/acc"][0] == record.metrics["test/acc"]


@pytest.mark.slow
def test_the_folder_beside_the_store_is_private_and_empty_of_leftovers(single):
    state_beside = single[0] / "mlflow.lab"
    assert state_beside.stat().st_mode & 0o077 == 0
    left = [path for path in state_beside.rglob("*") if path.is_file() and path.suffix in (".jsonl", ".ckpt", ".npz")]
    assert not left
    assert not list((state_beside / "outbox").iterdir())
