"""Sweeps as a user runs them: once each, whatever happens in between."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing import forkserver
from types import SimpleNamespace

import mlflow
import pytest
from conftest import REPOSITORY, make_lab
from processes import Forked
from sharing import shared

from lenet_lab.cli import main
from lenet_lab.sweeps import forks, launch
from lenet_lab.tracking import open_store, read_runs

pytestmark = pytest.mark.slow

# one thread a process: tests run side by side, and threads that wait for each other would fight for the cores
TINY = ("data=digits", "data.train_size=64", "epochs=1", "tracking.artifacts=minimal", "sweep.threads=1")
FOUR = ("-m", *TINY, "pool=avg,max", "seed=0,1")
LONG = (
    "-m",
    "data=digits",
    "tracking.artifacts=minimal",
    "epochs=2000",
    "seed=0,1,2",
    "sweep.workers=2",
    "sweep.threads=1",
)


def records(folder):
    return read_runs(open_store(f"sqlite:///{folder}/mlflow.db", create=False))


def outcomes(folder):
    """State of each run by its name: one run a cell, or this fails."""
    found = records(folder)
    assert len({r.key for r in found}) == len(found), "a cell has two runs"
    return {r.name: r.state for r in found}


def parents(folder):
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("lenet_lab").experiment_id
    return client.search_runs([experiment], "tags.`lenet.kind` = 'sweep'")


def frozen(record):
    """What must not change about a run that is finished."""
    return record.run_id, record.start_ms, record.metrics, record.tags["lenet.owner"]


def start(folder, *words, terminal=False):
    """The command line in a process group of its own; `terminal`: Python is started, as a terminal does it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "LENET_LAB_"))}
    own = {"PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(folder / ".cache"), "COLUMNS": "200"}
    if not terminal:
        return Forked(words, folder, clean | own)
    return subprocess.Popen(
        [sys.executable, "-m", "lenet_lab", *words],
        cwd=folder,
        env=clean | own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(process, condition, seconds=120):
    """Poll a condition while a process runs (None: it has ended); a store that is not there yet does not hold."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(Exception):
            if condition():
                return
        assert process is None or process.poll() is None, f"it ended before its time: {process.communicate()}"
        time.sleep(0.1)
    raise AssertionError("it never came to that")


def end_group(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)


def in_process(capsys, *words):
    """A reading command without the cost of a process: status, standard output and error."""
    try:
        main(words)
        status = 0
    except SystemExit as end:
        status = end.code
    return status, *capsys.readouterr()


# a finished sweep, read by several tests


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Four cells, swept once: the folder, and what was said."""

    def make(folder):
        result = make_lab(folder)(*FOUR)
        assert result.returncode == 0, result.stderr[-3000:]
        return [result.stdout, result.stderr]

    return shared(tmp_path_factory, "finished-sweep", make)


@pytest.fixture
def there(finished, monkeypatch):
    """In the folder of the finished sweep."""
    monkeypatch.chdir(finished[0])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return finished[0]


def test_a_sweep_trains_every_cell(finished):
    folder, (out, err) = finished
    assert sorted(outcomes(folder).values()) == ["complete"] * 4
    assert "4 cells, 0 done already, 4 to train" in err
    assert len(re.findall(r"^\[\d/4\] complete ", err, re.MULTILINE)) == 4, "one line an event, no bars in a file"
    assert "\x1b" not in out + err
    assert out.count("complete") == 4
    assert out.rstrip().endswith("4 trained")
    assert "Traceback" not in err


def test_the_parent_and_its_children(finished):
    folder = finished[0]
    (parent,) = parents(folder)
    tags = parent.data.tags
    assert "lenet.key" not in tags
    assert parent.info.status == "FINISHED"
    asked = [word for word in FOUR if not word.startswith(("-m", "tracking", "sweep"))]
    assert parent.info.run_name == " ".join(asked), "what was asked for, less where it is tracked and how it runs"
    assert tags["mlflow.note.content"].count("complete") == 4, "its page shows the table"
    for record in records(folder):
        assert record.tags["mlflow.parentRunId"] == parent.info.run_id
        assert record.sweep == tags["lenet.sweep"]
        assert f"`{record.name}`" in tags["mlflow.note.content"]
        assert record.tags["lenet.timing"] == ("shared" if len(os.sched_getaffinity(0)) > 1 else "alone")


def test_pairs_of_one_seed_differ_by_the_variant_alone(finished):
    found = records(finished[0])
    assert len({r.arm for r in found}) == 2
    assert all(len({r.seed for r in found if r.arm == arm}) == 2 for arm in {r.arm for r in found})
    assert len({r.metrics["test/loss"] for r in found}) == 4


def test_the_same_sweep_again_trains_nothing_and_says_so(finished):
    folder = finished[0]
    before = {r.run_id: frozen(r) for r in records(folder)}
    again = make_lab(folder)(*FOUR)
    assert again.returncode == 0, again.stderr
    assert "4 cells, 4 done already, 0 to train" in again.stderr
    assert again.stdout.rstrip().endswith("4 done already, nothing trained")
    assert {r.run_id: frozen(r) for r in records(folder)} == before
    assert len(parents(folder)) == 1, "the parent is used again"


def test_a_single_run_of_a_swept_cell_trains_nothing(finished):
    """The cell belongs to whoever asks for it; how it is started is not in its key."""
    folder = finished[0]
    again = make_lab(folder)(*TINY, "pool=max", "seed=1", "trainer=cpu", "trainer.threads=1")
    assert again.returncode == 0, again.stderr
    assert "was complete already, nothing trained" in again.stdout


def test_plan_says_what_is_done_and_changes_nothing(there, capsys):
    before = {path: path.stat().st_mtime_ns for path in there.rglob("*") if path.suffix in (".npz", ".yaml")}
    status, out, err = in_process(capsys, "plan", *FOUR[:-1], "seed=0,1,2")
    assert status == 0, err
    rows = [line.split() for line in out.splitlines()]
    assert sum(row[1] == "done" for row in rows if len(row) > 3) == 4
    assert sum(row[1:3] == ["to", "train"] for row in rows if len(row) > 3) == 2
    assert "6 cells, 4 done already, 2 to train" in out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(records(there)) == 4


def test_plan_without_a_store_makes_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    status, out, _ = in_process(capsys, "plan", "-m", *TINY, "pool=avg,max", "lr=1e-3,0.001")
    assert status == 0
    assert "2 cells, 0 done already, 2 to train" in out
    assert "2 cells are spelled twice; each is trained once" in out
    assert not list(tmp_path.iterdir())
    status, _, err = in_process(capsys, "plan", "-m", *TINY, "lr=0.001,-1")
    assert (status, err) == (2, "lenet_lab: lr=-1: must be greater than 0\n")


def test_status_shows_the_sweep_and_its_cells(there, capsys):
    status, out, err = in_process(capsys, "status")
    assert status == 0, err
    sweep = parents(there)[0].data.tags["lenet.sweep"][:8]
    (line,) = (line for line in out.splitlines() if line.startswith(sweep))
    assert "4 complete" in line
    assert "pool=avg,max" in line
    status, out, err = in_process(capsys, "status", sweep)
    assert status == 0, err
    for record in records(there):
        (line,) = (line for line in out.splitlines() if record.run_id[:8] in line)
        assert f"{100 * record.metrics['test/acc']:.2f}%" in line
        assert record.name in line
    status, _, err = in_process(capsys, "status", "ffffffffff")
    assert status == 2
    assert err.startswith("lenet_lab: sweep 'ffffffffff': no sweeps begin so")


def test_status_lists_the_newest_of_many_runs_and_first_what_is_not_complete(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///mlflow.db")
    ended = {"lenet.ended_by": "x", "lenet.owner": "x"}
    for number, state in enumerate(("failed", "complete", "complete", "complete")):
        tags = {"lenet.key": f"k{number}", "lenet.state": state, **ended}
        store.client.create_run(store.experiment_id, start_time=number, run_name=f"run {number}", tags=tags)
    monkeypatch.setattr("lenet_lab.commands.status.SHOWN", 2)
    uri = ("--store", store.uri)
    status, out, err = in_process(capsys, "status", *uri)
    assert status == 0, err
    assert re.findall(r"^(\w+) .*(run \d)$", out, re.MULTILINE) == [("failed", "run 0"), ("complete", "run 3")]
    assert out.endswith("and 2 more (2 complete): --all lists them\n")
    status, out, err = in_process(capsys, "status", "--all", *uri)
    assert len(re.findall(r"run \d$", out, re.MULTILINE)) == 4
    assert "more" not in out


def test_status_without_a_store_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    status, out, err = in_process(capsys, "status")
    assert (status, out) == (2, "")
    assert "no store there" in err
    assert not list(tmp_path.iterdir())


def test_the_report_reads_the_store_alone(there, capsys, tmp_path):
    status, out, err = in_process(capsys, "report", "--out", str(tmp_path / "report"))
    assert status == 0, err
    assert "report on 4 runs" in out
    text = (tmp_path / "report" / "report.md").read_text()
    for record in records(there):
        assert record.run_id[:8] in text
    assert "<html" in (tmp_path / "report" / "report.html").read_text()
    assert len((tmp_path / "report" / "arms.csv").read_text().splitlines()) == 1 + 2


# stopped in the middle


def test_a_sweep_killed_in_the_middle_trains_what_is_missing(tmp_path, lab):
    """SIGKILL to the whole group: nothing gets to clean up. Then the same command again."""
    words = [*FOUR[:-1], "seed=0,1,2", "epochs=40", "sweep.workers=2"]
    process = start(tmp_path, *words)
    try:
        wait_until(process, lambda: "complete" in outcomes(tmp_path).values())
    finally:
        end_group(process)
    # a process of this size takes the kernel a moment to end
    wait_until(None, lambda: "running" not in outcomes(tmp_path).values(), seconds=60)
    killed = {r.key: r for r in records(tmp_path)}
    done = {key: frozen(r) for key, r in killed.items() if r.state == "complete"}
    assert 1 <= len(done) < 6, "this machine must be killed in the middle, else this tests nothing"
    assert {r.state for r in killed.values()} <= {"complete", "dead"}
    again = lab(*words)
    assert again.returncode == 0, again.stderr
    # a run may have written its end, with only the delivery missing: that one is done too
    found = re.search(r"6 cells, (\d) done already, (\d) to train", again.stderr)
    assert found, again.stderr
    assert len(done) <= int(found[1]) <= len(killed)
    assert len(re.findall(r"^complete", again.stdout, re.MULTILINE)) == int(found[2]) == 6 - int(found[1]) > 0
    after = {r.key: r for r in records(tmp_path)}
    assert len(after) == len(records(tmp_path)) == 6
    assert {r.state for r in after.values()} == {"complete"}
    assert {key: frozen(after[key]) for key in done} == done, "what was finished is not touched"
    assert all(after[key].run_id == r.run_id for key, r in killed.items()), "the dead go on in their own runs"
    assert all(r.metrics["epochs"] == 40 for r in after.values())
    assert len(parents(tmp_path)) == 1


@pytest.mark.parametrize(
    ("number", "whole_group", "status"),
    [(signal.SIGTERM, False, 143), (signal.SIGINT, True, 130)],
    ids=["SIGTERM", "ctrl-c"],
)
def test_a_stopped_sweep_says_so(number, whole_group, status, tmp_path):
    process = start(tmp_path, *LONG)
    try:
        wait_until(process, lambda: sum("val/acc" in r.metrics for r in records(tmp_path)) == 2)
        (os.killpg if whole_group else os.kill)(process.pid, number)
        out, err = process.communicate(timeout=60)
    finally:
        end_group(process)
    assert process.returncode == status, err
    assert "the same command goes on where it stopped" in err
    assert "Traceback" not in err
    assert sorted(outcomes(tmp_path).values()) == ["stopped", "stopped"]
    assert out.count("stopped") >= 2
    assert "not started" in out
    assert parents(tmp_path)[0].info.status == "FAILED"
    checkpoints = list((tmp_path / "mlflow.lab" / "checkpoints").rglob("epoch-*.ckpt"))
    assert len({path.parent for path in checkpoints}) == 2, "both can go on"


def test_a_stopped_packed_sweep_goes_on_where_its_pack_was(tmp_path, lab):
    """Of three seeds on two workers the one alone is through; the pack of two is two jobs of one then."""
    words = ("-m", "hydra/launcher=packed", *TINY, "epochs=150", "seed=0,1,2", "sweep.workers=2")
    process = start(tmp_path, *words)
    try:
        wait_until(process, lambda: "complete" in outcomes(tmp_path).values())
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        end_group(process)
    assert process.returncode == 143, err
    stopped = {r.seed: r for r in records(tmp_path)}
    assert [stopped[seed].state for seed in range(3)] == ["stopped", "stopped", "complete"]
    again = lab(*words)
    assert again.returncode == 0, again.stderr
    ended = {r.seed: r for r in records(tmp_path)}
    assert [ended[seed].run_id for seed in range(3)] == [stopped[seed].run_id for seed in range(3)]
    executions = [json.loads(ended[seed].tags["lenet.execution"]) for seed in range(3)]
    assert [how["engine"] for how in executions] == ["replicas", "replicas", "single"]
    assert [how["one_rate"] for how in executions] == [True, True, False]
    store = open_store(f"sqlite:///{tmp_path}/mlflow.db", create=False)
    for seed in range(2):
        steps = [point.step for point in store.client.get_metric_history(ended[seed].run_id, "val/acc")]
        assert steps == list(range(1, 151)), "no epoch twice"


def test_ctrl_c_while_a_sweep_still_starts(tmp_path):
    """Its server is still importing: no job has begun, nothing is said at length, and the sweep can go on."""
    process = start(tmp_path, *LONG, terminal=True)
    try:
        assert "3 to train" in process.stderr.readline()
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        end_group(process)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert re.match(r"stopped.*; the same command (goes on|starts)", err.splitlines()[-1]), err
    assert set(outcomes(tmp_path).values()) <= {"stopped"}


def test_a_sweep_that_is_stopped_before_its_first_job_starts_no_other_server(monkeypatch):
    """Ctrl-C between the last look at it and the fork: a new server would import everything first, for nobody."""
    killed = []
    monkeypatch.setattr(forks, "kill_server", lambda: killed.append(1))  # other tests have their server in this process
    made = forks.context()
    forks.kill_for_good()
    assert killed
    with pytest.raises(OSError, match="the sweep has been stopped"):
        made.Process(target=print).start()
    assert "ensure_running" in vars(forkserver._forkserver)
    forks.context()
    assert "ensure_running" not in vars(forkserver._forkserver), "the next sweep has its own"


@pytest.mark.parametrize(("pid", "kills"), [(None, 1), (12345, 0)])
def test_ctrl_c_spares_the_server_of_a_job_that_is_forked_already(monkeypatch, pid, kills):
    """The job is ended when it is known to run; without its server nobody would hear of its end."""
    killed = []
    monkeypatch.setattr(launch, "kill_for_good", lambda: killed.append(1))
    pool = launch.Pool(SimpleNamespace(), 1, {}, lambda *given, **named: None, 1)
    pool.starting = SimpleNamespace(process=SimpleNamespace(pid=pid))
    pool._on_signal(signal.SIGINT, None)
    assert pool.stopped_by == signal.SIGINT
    assert len(killed) == kills


def test_a_stopped_single_run_goes_on_from_its_last_epoch(tmp_path, lab):
    """Its first command says 100 epochs and is stopped; the second one finishes them in the same run."""
    words = ("data=digits", "data.train_size=400", "tracking.artifacts=minimal", "epochs=100", "trainer.threads=1")
    process = start(tmp_path, *words)
    try:
        wait_until(process, lambda: "val/acc" in records(tmp_path)[0].metrics)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        end_group(process)
    assert process.returncode == 130, err
    assert "stopped by SIGINT; the same command goes on" in err
    (stopped,) = records(tmp_path)
    assert stopped.state == "stopped"
    again = lab(*words)
    assert again.returncode == 0, again.stderr
    (complete,) = records(tmp_path)
    assert (complete.run_id, complete.state, complete.metrics["epochs"]) == (stopped.run_id, "complete", 100)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    history = client.get_metric_history(complete.run_id, "val/acc")
    assert [point.step for point in history] == list(range(1, 101)), "each epoch once"


# what does not go well


def test_a_bad_value_starts_nothing(tmp_path, lab):
    result = lab("-m", *TINY, "lr=0.001,-1")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "lenet_lab: lr=-1: must be greater than 0\n"
    assert not (tmp_path / "mlflow.db").exists()


def test_one_failure_does_not_stop_the_others(tmp_path, lab):
    """A cell that diverges is an outcome, and the others train."""
    result = lab("-m", *TINY, "activation=relu", "optimizer=sgd", "lr=1e30,0.01,0.02")
    assert result.returncode == 1, result.stderr
    states = outcomes(tmp_path)
    assert sorted(states.values()) == ["complete", "complete", "diverged"]
    (row,) = (line for line in result.stdout.splitlines() if line.startswith("diverged"))
    assert "the loss is not finite in epoch 1" in row
    assert "2 trained, 1 diverged" in result.stdout
    (record,) = (r for r in records(tmp_path) if r.state == "diverged")
    assert record.tags["lenet.error"] == "the loss is not finite in epoch 1"
    assert "test/acc" not in record.metrics
    assert parents(tmp_path)[0].info.status == "FAILED"


def test_a_job_that_fails_says_why_in_the_table_on_its_run_and_in_its_log(tmp_path, lab):
    """The second worker finds the disk full when it writes its predictions; the next launch makes up for it."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import os\n"
        "import numpy as np\n"
        "real = np.savez_compressed\n"
        "def savez(file, **arrays):\n"
        "    if len(arrays['label']) == 360 and os.environ.get('LENET_LAB_SLOT') == '1':\n"
        "        raise OSError(28, 'No space left on device', str(file))\n"
        "    return real(file, **arrays)\n"
        "np.savez_compressed = savez\n"
    )
    result = lab("-m", *TINY, "seed=0,1", "sweep.workers=2", PYTHONPATH=f"{REPOSITORY}:{broken}")
    assert result.returncode == 1, result.stderr
    assert sorted(outcomes(tmp_path).values()) == ["complete", "failed"]
    (row,) = (line for line in result.stdout.splitlines() if line.startswith("failed"))
    assert "No space left on device" in row
    (record,) = (r for r in records(tmp_path) if r.state == "failed")
    assert "No space left on device" in record.tags["lenet.error"]
    logs = [path.read_text() for path in (tmp_path / "multirun").rglob("job.log")]
    assert sum("Traceback" in text and "No space left" in text for text in logs) == 1
    again = lab("-m", *TINY, "seed=0,1", "sweep.workers=2")
    assert again.returncode == 0, again.stderr
    assert "2 cells, 1 done already, 1 to train" in again.stderr
    assert sorted(outcomes(tmp_path).values()) == ["complete", "complete"]


def test_two_sweeps_at_once_train_each_cell_once(tmp_path):
    """Both on a store that is not there yet; a cell that the other is training is left to it."""
    processes = [start(tmp_path, *FOUR, "sweep.workers=2") for _ in range(2)]
    try:
        said = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            end_group(process)
    assert sorted(outcomes(tmp_path).values()) == ["complete"] * 4, said
    assert len(parents(tmp_path)) == 1
    for process, (out, err) in zip(processes, said, strict=True):
        assert "Traceback" not in err, err
        rows = [line.split()[0] for line in out.splitlines()[1:5]]
        assert set(rows) <= {"complete", "done", "busy"}
        assert process.returncode == (1 if "busy" in rows else 0), (out, err)
    trained = sum(line.startswith("complete") for out, _ in said for line in out.splitlines())
    assert trained == 4
