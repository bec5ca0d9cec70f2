"""`archive` and `gc`: what goes, what stays whatever is asked, and that a dry run is dry."""

import random
import shutil
import sqlite3
import threading
import zipfile
from contextlib import closing

import pytest
from leftovers import EVERYTHING, Left, age, checkpoint, empty_store, rows, tree

from lenet_lab.cli import main
from lenet_lab.commands import citations
from lenet_lab.records import LabError
from lenet_lab.tracking import TrackedRun, claim, deliver_pending, read_runs
from lenet_lab.tracking.archive import cell_runs
from lenet_lab.tracking.locks import RunLock, alive, lock_path
from lenet_lab.tracking.parents import open_parent
from lenet_lab.tracking.upkeep import plan, remove


@pytest.fixture
def store(tmp_path, tmp_path_factory, monkeypatch):
    """An empty store in a folder of the test's own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return empty_store(tmp_path_factory, tmp_path)


def call(*words):
    """The command line in this process; its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


def collect(store, cited=(), dead=False):
    """Do what `gc --yes` does; what was not removed, with the reason."""
    return [(piece, why) for piece, why in remove(store, plan(store, cited, dead)) if why]


def cite(folder, *run_ids):
    """A report that cites runs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".lenet_lab_report").touch()
    (folder / "runs.csv").write_text("run_id,name\n" + "".join(f"{run_id},x\n" for run_id in run_ids))


# gc


def test_what_finished_runs_left_goes(store):
    done, diverged = Left(store, 1, "complete"), Left(store, 2, "diverged")
    assert not collect(store)
    assert done.pieces == diverged.pieces == {"artifacts"}, "what a run tracked stays"
    assert not list((store.state / "locks").rglob("*.lock"))
    assert not list((store.state / "spool").iterdir())
    assert not plan(store, ()), "there is nothing left to do"


@pytest.mark.parametrize("state", ["dead", "failed", "stopped"])
def test_what_a_run_can_be_resumed_from_stays_unless_asked_for(state, store):
    left = Left(store, 1, state)
    assert not collect(store)
    assert left.pieces == EVERYTHING
    assert not collect(store, dead=True)
    assert left.pieces == {"artifacts", "spool"}, "the spool says which points the store has"
    tracked = claim(store, left.key, "again")
    assert isinstance(tracked, TrackedRun)
    assert tracked.run_id == left.run_id
    tracked.abandon()


def test_running_runs_are_left_alone(store):
    left = Left(store, 1, "running")
    before = tree(store.state)
    assert not collect(store, dead=True)
    assert tree(store.state) == before
    left.lock.release()


def test_what_is_held_when_it_comes_to_it_stays(store):
    """Between plan and deed a run may have begun."""
    left = Left(store, 1, "complete")
    pieces = plan(store, ())
    lock = RunLock(store, left.key)
    assert lock.acquire()
    assert {why for _, why in remove(store, pieces)} == {"its run is running"}
    assert left.pieces == EVERYTHING
    lock.release()


def test_what_is_not_delivered_stays(store):
    left = Left(store, 1, "complete", delivered=False)
    assert not collect(store, dead=True)
    assert left.pieces == {"artifacts", "outbox", "spool"}


def test_a_finished_run_beside_a_dead_one_of_its_key(store):
    """Only the dead one could want the checkpoints, and it would not be resumed; asked for, they go."""
    done, gone = Left(store, 1, "complete"), Left(store, 1, "dead")
    assert not collect(store)
    assert gone.pieces == EVERYTHING
    assert done.pieces == {"artifacts", "checkpoints"}
    assert not collect(store, dead=True)
    assert gone.pieces == {"artifacts", "spool"}


def test_archived_runs_lose_their_files_and_never_count_again(store):
    left = Left(store, 1, "complete", deleted=True)
    assert not collect(store)
    assert left.pieces == set()
    assert store.client.get_run(left.run_id).info.lifecycle_stage == "deleted"
    store.client.restore_run(left.run_id)
    (record,) = read_runs(store)
    assert (record.state, record.tags["lenet.error"]) == ("failed", "its files were removed by gc")
    tracked = claim(store, left.key, "again")
    assert tracked.run_id != left.run_id, "it is trained again, as a run of its own"
    tracked.abandon()


def test_a_run_restored_meanwhile_keeps_its_files(store):
    left = Left(store, 1, "complete", deleted=True)
    pieces = [piece for piece in plan(store, ()) if piece.kind == "artifacts"]
    store.client.restore_run(left.run_id)
    assert [why for _, why in remove(store, pieces)] == ["restored meanwhile"]
    assert "artifacts" in left.pieces


def test_what_no_run_owns_goes_after_an_hour(store):
    key, run_id = "ab" * 32, "cd" * 16
    for name in (f"checkpoints/{key}/epoch-00001.ckpt", f"outbox/{run_id}/x", f"spool/{run_id}.jsonl"):
        (store.state / name).parent.mkdir(parents=True)
        (store.state / name).write_text("{}\n")
    assert not [piece for piece in plan(store, (), True) if not piece.keep]
    age(store.state)
    assert not collect(store)
    assert not [path for path in store.state.rglob("*") if path.is_file() and path.name not in ("made", "store.lock")]


def test_partial_files_go_after_an_hour(store):
    left = Left(store, 1, "dead")
    old, young = (left.checkpoints / f".epoch-00002.ckpt.{pid}.part" for pid in (1, 2))
    for path in (old, young):
        path.write_bytes(b"half")
    age(old)
    assert not collect(store)
    assert young.exists()
    assert not old.exists()
    assert left.pieces == EVERYTHING


def test_links_and_foreign_files_are_no_business_of_ours(store, tmp_path):
    precious = tmp_path / "precious"
    checkpoint(precious / "epoch-00001.ckpt")
    for name in ("ab" * 32, "notes"):
        (store.folder("checkpoints") / name).symlink_to(precious)
    (store.folder("outbox") / "mine").mkdir()
    age(store.state)
    before = tree(store.state)
    assert not collect(store, dead=True)
    assert tree(store.state) == before
    assert (precious / "epoch-00001.ckpt").exists()


def test_a_database_cannot_point_gc_elsewhere(store, tmp_path):
    """Artifacts are removed where this store puts them, and nowhere else; a run key is no path."""
    left = Left(store, 1, "complete", deleted=True, **{"lenet.key": "../../../precious"})
    precious = tmp_path / "precious" / "artifacts"
    precious.mkdir(parents=True)
    lock = tmp_path / "precious.lock"
    lock.write_text("mine")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (precious.as_uri(),))
        connection.commit()
    collect(store, dead=True)
    assert precious.is_dir()
    assert lock.read_text() == "mine"
    assert "artifacts" in left.pieces


def test_a_removed_lock_guards_nothing(store):
    """Who waits for a lock that gc removes gets the new file, the one that others find."""
    key = "ab" * 32
    first, second = RunLock(store, key), RunLock(store, key)
    assert first.acquire()
    got = []
    waiting = threading.Thread(target=lambda: got.append(second.acquire(patience=5)))
    waiting.start()
    first.release(remove=True)
    waiting.join()
    assert got == [True]
    assert lock_path(store, key).exists()
    assert alive(store, key)
    assert not RunLock(store, key).acquire(patience=0)
    second.release()


STATES = ("complete", "diverged", "failed", "stopped", "dead", "running")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dead", [False, True])
def test_any_mixture(seed, dead, store):
    """What is cited or running stays to the last byte, whatever else there is; what goes was planned."""
    draw = random.Random(seed)
    chosen = [(draw.choice(STATES), draw.random() < 0.3, draw.random() < 0.7, draw.random() < 0.4) for _ in range(10)]
    runs = [
        (Left(store, n // 2, state, deleted=deleted and state != "running", delivered=delivered), cited)
        for n, (state, deleted, delivered, cited) in enumerate(chosen)
        if not (n % 2 and "running" in (state, chosen[n - 1][0]))  # two runs a key, but where one holds the lock
    ]
    cited = {left.run_id for left, is_cited in runs if is_cited}
    finished = {left.key for left, _ in runs if left.state in ("complete", "diverged") and not left.deleted}
    safe_keys = {left.key for left, is_cited in runs if is_cited or left.state == "running"}
    safe = [left for left, is_cited in runs if is_cited or left.state == "running"]
    before = tree(store.state.parent)
    pieces = plan(store, cited, dead)
    assert tree(store.state.parent) == before
    assert not [why for _, why in remove(store, pieces) if why]
    after = tree(store.state.parent)
    planned = [piece.path.relative_to(store.state.parent).as_posix() for piece in pieces if not piece.keep]
    for path in before.keys() - after.keys():
        assert any(path.removesuffix(".ack").startswith(start.removesuffix(".jsonl")) for start in planned)
    for left in safe:
        assert left.pieces >= EVERYTHING
    for left, is_cited in runs:
        resumable = left.state in ("dead", "failed", "stopped") and not left.deleted
        assert ("artifacts" in left.pieces) == (not left.deleted or is_cited)
        if resumable and not dead:
            assert left.pieces >= (EVERYTHING - {"checkpoints"} if left.key in finished else EVERYTHING)
        if left.state in ("complete", "diverged") and left.key not in safe_keys and not left.deleted:
            assert "spool" not in left.pieces or not left.spool.with_suffix(".ack").exists()
        if left.state == "running":
            left.lock.release()
    assert not [run_id for run_id in cited if "lenet.purged" in store.client.get_run(run_id).data.tags]


def test_gc_shows_first_and_does_it_when_told(store, tmp_path, capsys):
    done, dead, cited = Left(store, 1, "complete"), Left(store, 2, "dead"), Left(store, 3, "complete", deleted=True)
    cite(tmp_path / "reports" / "all", cited.run_id)
    before = tree(tmp_path), rows(tmp_path)
    assert call("gc") == 0
    text = capsys.readouterr().out
    assert (tree(tmp_path), rows(tmp_path)) == before, "a dry run changes nothing"
    assert f"checkpoints complete {done.checkpoints}" in " ".join(text.split())
    assert "kept: 1 artifacts: cited" in text
    assert "can be resumed" in text
    assert "would free" in text
    assert call("gc", "--yes") == 0
    assert "freed" in capsys.readouterr().out
    assert done.pieces == {"artifacts"}
    assert dead.pieces == cited.pieces == EVERYTHING
    assert call("gc", "--yes") == 0
    assert "nothing to free" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "reports")
    assert call("gc", "--yes", "--dead") == 0
    assert cited.pieces == set()
    assert dead.pieces == {"artifacts", "spool"}


def test_gc_says_what_it_cannot_remove(store, capsys, monkeypatch):
    Left(store, 1, "complete")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("lenet_lab.tracking.upkeep.shutil.rmtree", refuse)
    assert call("gc", "--yes") == 1
    assert "Permission denied" in capsys.readouterr().out


# archive


def states(store, deleted=False):
    return {run.info.run_name: run.data.tags["lenet.state"] for run in cell_runs(store, deleted)}


def test_archive_and_back(store, tmp_path, capsys):
    left = Left(store, 1, "failed")
    before = tree(tmp_path), rows(tmp_path)
    assert call("archive", left.run_id[:8]) == 0
    assert "would archive 1 run" in capsys.readouterr().out
    assert (tree(tmp_path), rows(tmp_path)) == before
    assert call("archive", left.run_id[:8], "--yes") == 0
    assert "archived 1 run;" in capsys.readouterr().out
    assert states(store) == {}
    assert states(store, deleted=True) == {"cell 1": "failed"}
    assert left.pieces == EVERYTHING
    assert call("archive", "--restore", left.run_id[:8]) == 0
    assert states(store) == {}
    assert call("archive", "--restore", left.run_id[:8], "--yes") == 0
    assert states(store) == {"cell 1": "failed"}


def test_what_gc_has_emptied_is_not_restored(store, capsys):
    left = Left(store, 1, "failed", deleted=True)
    assert not collect(store)
    assert call("archive", "--restore", left.run_id, "--yes") == 2
    assert "its files were removed by gc; it cannot be restored" in capsys.readouterr().err
    assert states(store) == {}


@pytest.mark.parametrize("word", ["", "zz", "0", "zzzz"])
def test_a_run_must_be_named_clearly(word, store, capsys):
    Left(store, 1, "failed")
    Left(store, 2, "failed")
    assert call("archive", word, "--yes") == 2
    said = capsys.readouterr().err
    assert "at least 4 characters" in said if len(word) < 4 else "begin so; there are:" in said
    assert len(states(store)) == 2


def test_running_cited_and_listed_runs_are_refused(store, tmp_path, capsys):
    running, cited, listed = Left(store, 1, "running"), Left(store, 2, "failed"), Left(store, 3, "complete")
    free = Left(store, 4, "failed")
    open_parent(store, "5" * 64, "a sweep", [{"key": listed.key, "arm": "a", "name": "x", "overrides": []}])
    cite(tmp_path / "paper", cited.run_id)
    words = ["--cited", "paper", "--yes"]
    for left, why in ((running, "it is running"), (cited, "cited by paper/runs.csv"), (listed, "sweep 55555555 lists")):
        assert call("archive", free.run_id, left.run_id, *words) == 2
        assert why in capsys.readouterr().err
    assert len(states(store)) == 4, "one refusal, and none goes"
    assert call("archive", listed.run_id, "--complete", *words) == 0
    assert states(store, deleted=True) == {"cell 3": "complete"}
    running.lock.release()


def test_runs_of_a_sweep_whose_list_is_lost_count_as_listed(store):
    left = Left(store, 1, "complete", sweep="6" * 64)
    parent = open_parent(store, "6" * 64, "a sweep", [{"key": "ab" * 32}])
    shutil.rmtree(store.state.parent / "mlartifacts" / parent)
    assert call("archive", left.run_id, "--yes") == 2


def test_choosing_by_state_and_age(store, capsys):
    for number, state in enumerate(("failed", "stopped", "dead", "complete", "running")):
        left = Left(store, number, state)
    assert call("archive", "--older-than", "1", "--yes") == 0
    assert "nothing to archive" in capsys.readouterr().out
    assert call("archive", "--state", "failed,dead", "--yes") == 0
    assert set(states(store).values()) == {"stopped", "complete", "running"}
    assert call("archive", "--older-than", "0", "--yes") == 0
    assert states(store) == {"cell 4": "running"}
    left.lock.release()


def test_a_run_that_begins_meanwhile_is_not_archived(store, capsys, monkeypatch):
    left = Left(store, 1, "failed")
    monkeypatch.setattr("lenet_lab.tracking.archive.RunLock.acquire", lambda self, patience: False)
    assert call("archive", left.run_id, "--yes") == 1
    assert "it is running" in capsys.readouterr().out
    assert states(store) == {"cell 1": "failed"}


def test_what_a_run_has_yet_to_say_is_waited_for(store, capsys):
    """A run that looks dead may have finished while the store was away."""
    left = Left(store, 1, "dead", delivered=False)
    assert call("archive", left.run_id, "--yes") == 2
    assert "not delivered yet" in capsys.readouterr().err
    deliver_pending(store)
    assert call("archive", left.run_id, "--yes") == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["abc", "--state", "failed"],
        ["--restore"],
        ["--restore", "--state", "failed"],
        ["--state", "running"],
        ["--state", "odd"],
        ["--older-than", "-1"],
        ["--older-than", "nan"],
    ],
)
def test_archive_refuses_what_makes_no_sense(words, store, capsys):
    Left(store, 1, "failed")
    assert call("archive", *words, "--yes") == 2
    assert states(store) == {"cell 1": "failed"}


def test_without_a_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for words in (["gc"], ["gc", "--yes"], ["archive", "--state", "failed"]):
        assert call(*words) == 2
        assert "no store there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# citations


def test_where_citations_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = [f"{number:032x}" for number in range(5)]
    cite(tmp_path / "reports" / "all", ids[0])
    (tmp_path / "reports" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "reports" / "deep" / "er" / "notes.md").write_text(f"see [this](http://x/#/runs/{ids[1].upper()})")
    with zipfile.ZipFile(tmp_path / "reports" / "export.zip", "w") as archive:
        archive.writestr("runs.jsonl", "{}\n" * 700_000 + f'{{"run_id": "{ids[2]}"}}\n', zipfile.ZIP_DEFLATED)
        archive.writestr("weights.bin", ids[4])
    (tmp_path / "paper.tex").write_text(ids[3])
    (tmp_path / "reports" / "digest.txt").write_text("f" * 64)
    assert citations.cited([]) == {
        ids[0]: "reports/all/runs.csv",
        ids[1]: "reports/deep/er/notes.md",
        ids[2]: "reports/export.zip",
    }
    assert citations.cited([tmp_path / "paper.tex"]).keys() == set(ids[:4])


@pytest.mark.parametrize("offset", [*range(0, 70, 7), 31, 32, 33, 63, 64])
def test_no_id_is_lost_between_chunks(offset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # reports of the folder that the tests run in cite runs too
    monkeypatch.setattr(citations, "_CHUNK", 64)
    run_id = "0123456789abcdef" * 2
    for end in ("", "\n", "-" * 40):
        (tmp_path / "x.txt").write_text("-" * offset + run_id + end)
        assert list(citations.cited([tmp_path])) == [run_id]


def test_what_cannot_be_read_is_not_taken_for_citing_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "export.zip").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(LabError, match=r"export.zip: cannot be read .* so which runs it cites is not known"):
        citations.cited([])
    with pytest.raises(LabError, match="--cited=nowhere: not there"):
        citations.cited([tmp_path.__class__("nowhere")])


def test_an_imported_run_is_cited_by_the_id_it_came_with(store):
    original = "ef" * 16
    left = Left(store, 1, "complete", deleted=True, **{"lenet.run_id": original})
    assert not collect(store, {original})
    assert left.pieces == EVERYTHING


# with real runs


@pytest.mark.slow
def test_with_a_real_run_and_a_real_report(lab, tmp_path, monkeypatch, capsys):
    """A report over everything cites everything; without it, a sweep still lists its run; then it can go."""
    done = lab("-m", "data=digits", "epochs=1", "sweep.threads=1")
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert call("report") == 0
    choice = ("archive", "--older-than", "0")
    for words, why in ((("--complete",), "cited by reports/all/"), ((), "lists it")):
        capsys.readouterr()
        assert call(*choice, *words) == 0
        text = capsys.readouterr().out
        assert "kept: " in text
        assert why in text
        assert "nothing to archive" in text
        shutil.rmtree(tmp_path / "reports", ignore_errors=True)
    (held,) = (path.parent.parent for path in (tmp_path / "mlartifacts").glob("*/artifacts/config.yaml"))
    assert call(*choice, "--complete", "--yes") == 0
    assert call("gc", "--yes") == 0
    assert not held.exists()
    assert call("status") == 0
    assert "1 not started" in capsys.readouterr().out
