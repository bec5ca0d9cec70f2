"""The report's folder: all of it or nothing, and nobody else's files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from report_study import run, study

from lenet_lab.records import LabError
from lenet_lab.report import build
from lenet_lab.report import write as writing
from lenet_lab.report.write import MARKER, write

write_module = sys.modules[write.__module__]


@pytest.fixture(scope="module")
def facts():
    records, curves = study(pools=("avg",), norms=("none",), seeds=(0, 1))
    return build(records, curves)


@pytest.fixture(scope="module")
def other():
    return build([run("a", 0, {"pool": "max"})], {})


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_whole_report_is_written_and_nothing_else(facts, tmp_path):
    assert writing is write
    out = tmp_path / "deep" / "report"
    assert write(facts, out) == out
    assert content(out) == write_module.render(facts)
    assert sorted(p.name for p in out.parent.iterdir()) == ["report"]


def test_a_new_report_replaces_the_old_one_whole(facts, other, tmp_path):
    out = tmp_path / "report"
    write(facts, out)
    out.chmod(0o750)
    write(other, str(out))
    assert content(out) == write_module.render(other)
    assert not (out / "figures" / "learning_curves.svg").exists()
    assert out.stat().st_mode & 0o777 == 0o750
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("exchange", [True, False])
def test_without_an_exchange_in_one_step_it_is_still_replaced(facts, other, tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(write_module, "_exchange", lambda one, two: False)
    out = tmp_path / "report"
    write(facts, out)
    write(other, out)
    assert content(out) == write_module.render(other)
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="folders are exchanged in one step on Linux only")
def test_two_folders_are_exchanged_in_one_step(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    assert write_module._exchange(one, two)
    assert ((one / "name").read_text(), (two / "name").read_text()) == ("two", "one")
    assert not write_module._exchange(one, tmp_path / "missing")


def test_a_link_to_the_folder_stays_a_link(facts, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(facts, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "report.html").is_file()


@pytest.mark.parametrize("name", ["notes.txt", "report.md", "figures/mine.svg", ".hidden"])
def test_a_folder_with_other_files_is_refused_untouched(facts, tmp_path, name):
    out = tmp_path / "report"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    with pytest.raises(LabError, match="no part of a report") as refusal:
        write(facts, out)
    assert "\n" not in str(refusal.value)
    assert content(out) == {name: b"mine"}
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


@pytest.mark.slow
def test_a_file_that_joined_an_old_report_is_refused_too(facts, tmp_path):
    out = tmp_path / "report"
    write(facts, out)
    (out / "figures" / "mine.svg").write_text("mine")
    before = content(out)
    with pytest.raises(LabError, match=r"figures/mine\.svg"):
        write(facts, out)
    assert content(out) == before


def test_a_file_in_the_way_is_refused(facts, tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(LabError, match="is a file"):
        write(facts, tmp_path / "report")
    with pytest.raises(LabError, match="cannot"):
        write(facts, tmp_path / "report" / "below")


def test_a_full_disk_leaves_the_old_report_whole(facts, other, tmp_path, monkeypatch):
    out = tmp_path / "report"
    write(facts, out)
    before = content(out)
    synced = []

    def full(descriptor):
        synced.append(descriptor)
        if len(synced) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabError, match="No space left on device"):
        write(other, out)
    assert content(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from report_study import run, study
from lenet_lab.report import build, write
reports = [build(*study(("avg",), ("none",), (0, 1))), build([run("a", 0, {{"pool": "max"}})], {{}})]
import lenet_lab.report.write
module = sys.modules["lenet_lab.report.write"]
rendered = [module.render(facts) for facts in reports]
module.render = lambda facts: rendered[reports.index(facts)]
print("ready", flush=True)
while True:
    for facts in reports:
        write(facts, {out!r})
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_one_report_whole(facts, other, tmp_path):
    out = tmp_path / "report"
    write(facts, out)
    whole = [write_module.render(facts), write_module.render(other)]
    code = KILLED.format(tests=str(Path(__file__).parent), out=str(out))
    for wait in (0.013, 0.061):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert writer.stdout.readline() == "ready\n"
        end = time.monotonic() + wait
        while time.monotonic() < end:
            # A reader sees whole files meanwhile, too.
            assert (out / "report.md").read_bytes() in [files["report.md"] for files in whole]
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert content(out) in whole
    write(facts, out)
    assert content(out) == whole[0]


def test_what_a_killed_write_left_is_cleared_later(facts, tmp_path):
    old, recent = tmp_path / ".report.0123abcd.partial", tmp_path / ".report.4567abcd.partial"
    for folder in (old, recent):
        folder.mkdir()
        (folder / "report.md").write_text("half")
    os.utime(old, (1, 1))
    write(facts, tmp_path / "report")
    assert not old.exists()
    assert recent.exists()


def test_the_marker_says_what_the_folder_is(facts, tmp_path):
    write(facts, tmp_path / "report")
    assert "lenet_lab report" in (tmp_path / "report" / MARKER).read_text()


@pytest.mark.slow
def test_many_runs_take_little_time_and_memory(tmp_path):
    """1,000 runs in a process of its own."""
    code = (
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from report_study import study\n"
        "from lenet_lab.report import build, write\n"
        "records, curves = study([f'p{i}' for i in range(10)], [f'n{i}' for i in range(10)], range(10))\n"
        "start = time.process_time()\n"
        f"write(build(records, curves), {str(tmp_path / 'report')!r})\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(time.process_time() - start, int(peak.split()[1]) / 1024)\n"  # ru_maxrss would be the parent's
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 15
    assert megabytes < 500
