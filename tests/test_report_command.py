"""`report` as people call it: what it is about, what it refuses in one line, `--check`, `--attach`."""

import dataclasses
import shutil

import pytest
from report_study import study

from lenet_lab.commands import chosen as choose
from lenet_lab.commands import report
from lenet_lab.records import LabError
from lenet_lab.report import Question, build
from lenet_lab.report.markdown import attached
from lenet_lab.report.write import stale, write
from lenet_lab.study import Study


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """A store of a small study, without a store."""
    records, curves = study()
    made = choose.Chosen("Sweep 01234567", "01234567", records, lambda ids: curves, lambda ids, name: {})
    monkeypatch.setattr(choose, "tracked", lambda uri, word: made)
    monkeypatch.chdir(tmp_path)
    return made


def test_the_report_lies_where_its_sweep_says(runs, tmp_path, capsys):
    assert report.main([]) == 0
    assert "report on 18 runs" in capsys.readouterr().out
    text = (tmp_path / "reports" / "01234567" / "report.md").read_text()
    assert text.startswith("# Sweep 01234567\n")
    # the default configuration is the baseline, without a word
    assert "Compared with pool=avg norm=none (A6)" in text
    assert "No predictions can be read of the runs of A1, A6." in text


def test_check_finds_what_is_stale(runs, tmp_path, capsys, monkeypatch):
    assert report.main(["--check"]) == 1
    assert "is stale: report.md, " in capsys.readouterr().out
    assert not (tmp_path / "reports").exists()
    report.main([])
    shutil.rmtree(tmp_path / "reports" / "01234567" / "figures")  # they differ between machines
    capsys.readouterr()
    assert report.main(["--check"]) == 0
    assert capsys.readouterr().out == ""
    changed = dataclasses.replace(runs.records[0], metrics={**runs.records[0].metrics, "test/acc": 0.9})
    other = dataclasses.replace(runs, records=[changed, *runs.records[1:]])
    monkeypatch.setattr(choose, "tracked", lambda uri, word: other)
    assert report.main(["--check"]) == 1
    [line] = capsys.readouterr().out.splitlines()
    assert "report.html" in line


def test_a_page_of_other_facts_is_stale(tmp_path):
    facts = build(*study())
    out = write(facts, tmp_path / "report")
    assert stale(facts, out) == []
    again = dataclasses.replace(facts, remarks=("something else",))
    assert {"report.md", "facts.json", "report.html"} <= set(stale(again, out))
    (out / "report.html").write_text("<html>")
    assert stale(facts, out) == ["report.html"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--metric", "test/nothing"], "metric 'test/nothing': no run has it"),
        (["--baseline", "pool=avg"], "selects 3 arms"),
        (["--baseline", "norm=xx"], "selects no arm"),
        (["--pair", "pool=avg", "pool=max"], "selects 3 arms"),
        (["--rows", "pool"], "several arms share this cell"),
        (["--attach"], "name a sweep"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(runs, tmp_path, words, why):
    with pytest.raises(LabError, match=r"^report: ") as refusal:
        report.main(words)
    assert why in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--level", "2"], ["--attach", "--check"], ["--pair", "a"], ["--nonsense"]])
def test_a_mistake_of_the_command_line_is_said(runs, words, capsys):
    with pytest.raises(SystemExit) as end:
        report.main(words)
    assert end.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_nothing_to_report_on_is_said(runs, monkeypatch):
    nothing = dataclasses.replace(runs, records=[], asked=frozenset("abc"), title="Study s")
    monkeypatch.setattr(choose, "tracked", lambda uri, word: nothing)
    with pytest.raises(LabError, match="Study s: none of its 3 cells has a run"):
        report.main([])


def test_an_export_knows_its_studies_sweeps_and_filters(monkeypatch, tmp_path):
    from lenet_lab.tracking import exports

    records, curves = study(norms=("none", "bn"))
    asked = frozenset({"key-avg-none-0", "key-max-none-0", "key-nobody-ran"})
    named = Study("mine", "pool=avg", ("pool",))
    export = exports.Export(records, curves, {"abc" * 21: asked, "abd" * 21: asked}, {"abc" * 21: named})
    monkeypatch.setattr(exports, "read_export", lambda file: export)
    found = choose.exported(tmp_path / "x.zip", "mine")
    assert (len(found.records), found.study, found.asked) == (2, named, asked)
    assert (found.title, found.folder) == ("Study mine", "mine")
    assert choose.exported(tmp_path / "x.zip", "abd").study is None
    assert len(choose.exported(tmp_path / "x.zip", "params.pool = 'max'").records) == 6
    assert len(choose.exported(tmp_path / "x.zip", None).records) == 12
    for word, why in (
        ("ab", "several sweeps begin so"),
        ("nosuch", "no study"),
        ("params.pool = 'x'", "no run matches"),
    ):
        with pytest.raises(LabError, match=why) as refusal:
            choose.exported(tmp_path / "x.zip", word)
        assert "\n" not in str(refusal.value)


def test_the_defaults_are_those_of_the_files():
    found = choose.defaults()
    assert (found["pool"], found["norm"], found["lr"], found["epochs"]) == ("avg", "none", "0.001", "5")
    assert found["data.size"] in ("28",)


def test_notes_for_mlflow_have_the_arms():
    note, own = attached(build(*study(), Question(defaults={"pool": "avg", "norm": "none"})))
    assert note.startswith("- Highest mean test accuracy")
    assert note.count("pool=max norm=bn") >= 2
    assert "](#a" not in note
    assert len(own) == 18
    assert "98." in own["max-bn-0"]
    assert own["max-bn-0"].count("\n| ") == 3


def test_a_study_is_its_file_and_those_that_extend_it():
    assert choose.extending("pool_norm") == []
    assert {"record_no_norm", "record_no_clean"} <= set(choose.extending("record"))
    assert "recipe_pool" not in choose.extending("record"), "it has a study of its own"


@pytest.mark.slow
def test_a_study_swept_from_several_files_is_reported_by_its_name(lab, tmp_path):
    """Also where its cells were run on other data than the file asks for."""
    few = ("data=digits", "data.train_size=200", "epochs=2", "tracking.artifacts=minimal")
    swept = lab("-m", "experiment=record,record_no_augment,record_no_norm", "seed=0", *few)
    assert swept.returncode == 0, swept.stderr
    assert "experiment=record_no_norm seed=0" in swept.stdout
    made = lab("report", "record")
    assert "report on 3 runs" in made.stdout, made.stderr
    text = (tmp_path / "reports" / "record" / "report.md").read_text()
    for label in ("record", "norm=none", "augment=none"):
        assert f"</a> {label} |" in text or f") {label} |" in text
