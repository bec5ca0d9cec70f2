"""The ledger holds every published number; the judge follows its rules."""

import json
import math
import os
import random
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import command_line
from scipy import stats as scipy_stats

from lenet_lab import claims
from lenet_lab.cell import build
from lenet_lab.claims import Evidence, Verdict, judge, load, names
from lenet_lab.claims.estimates import Estimate
from lenet_lab.claims.evidence import converged
from lenet_lab.claims.ledger import Source, number
from lenet_lab.claims.page import Chapter, document, table
from lenet_lab.claims.rules import holds_if
from lenet_lab.claims.tables import said
from lenet_lab.commands.claim_runs import Asked, digests
from lenet_lab.commands.claims import TABLE, main
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import parse
from lenet_lab.records import LabError, RunRecord
from lenet_lab.tracking import open_store, read_runs

REPOSITORY = Path(__file__).resolve().parent.parent
# numbers in tables and sentences, that each source must at least have
LEAST = {"A": (15, 7), "B": (28, 3), "C": (11, 3), "D": (20, 4), "E": (1, 5), "F": (4, 2)}

SMALL = Source.model_validate(
    {
        "letter": "X", "source": "somebody", "about": "a table", "seeds": 10, "base": "data=digits",
        "runs": 1, "selection": "the best epoch", "rules": "before its runs",
        "arms": {"one": {}, "two": {"words": "pool=max", "timed": True}, "three": {"words": "pool=conv"}},
        "columns": {
            "acc": {"metric": "test/acc", "unit": "%", "measured": "test images"},
            "time": {"metric": "time/train_s", "unit": "ms", "measured": "training", "ratio": "one"},
            "size": {"metric": "params/total", "unit": "", "measured": "layers", "exact": True},
        },
        "rows": [
            {"arm": "one", "where": "row 1", "acc": "97.0", "time": "1000", "size": "44,426"},
            {"arm": "two", "where": "row 2", "acc": "98.5", "time": "1500", "size": "44,427"},
        ],
        "statements": [
            {"id": "better", "says": "Two is better.", "where": "here",
             "rule": {"more": "two", "than": "one", "metric": "test/acc"}},
            {"id": "double", "says": "Twice the time.", "where": "here", "own": "time",
             "rule": {"ratio": ["two", "one"], "metric": "time/train_s", "low": 1.75, "high": 2.25}},
            {"id": "best", "says": "Best of all.", "where": "here",
             "rule": {"more": "two", "than": ["one", "three"], "metric": "test/acc"}},
            {"id": "never", "says": "It is elegant.", "where": "here", "untestable": "no measure"},
        ],
    }
)  # fmt: skip


def record(arm, seed, state="complete", timing="alone", **metrics):
    """A run with these metrics; `acc` and `time` for short."""
    short = {"acc": "test/acc", "time": "time/train_s", "size": "params/total"}
    named = {short.get(name, name): value for name, value in metrics.items()}
    run = f"{arm}-{seed}-{state}"
    return RunRecord(run, run, run, arm, seed, state, "", {}, named, {"lenet.timing": timing}, 0, 1, "")


def evidence(**arms):
    """Evidence with these values of test accuracy, by seed from 0 on."""
    runs = {arm: [record(arm, seed, acc=value) for seed, value in enumerate(values)] for arm, values in arms.items()}
    return Evidence(runs, {})


def verdicts(found):
    return {one.claim: one for one in judge(SMALL, found)}


@pytest.mark.parametrize("letter", sorted(LEAST))
def test_every_published_number_and_sentence_has_its_entry(letter):
    source = load(letter)
    numbers, sentences = LEAST[letter]
    assert len({cell.claim for cell in source.cells}) >= numbers
    assert len(source.statements) >= sentences


def test_the_sources_are_those():
    assert names() == sorted(LEAST)


@pytest.mark.slow
@pytest.mark.parametrize("letter", sorted(LEAST))
def test_every_arm_is_a_configuration_of_its_own(letter):
    """Each composes and can be built, and no two of a source are the same."""
    found = digests(letter)
    assert len(set(found.values())) == len(found)


def test_claimed_numbers_of_claims_that_any_reader_can_check():
    """Printed values, as they stand in the sources."""
    printed = {cell.claim: cell.says for letter in names() for cell in load(letter).cells}
    assert printed["A.batch_8.time"] == "38424.7"
    assert printed["B.relu_decay.val_acc"] == "0.99950"
    assert printed["C.mlp_readme.later.parameters"] == "469,160"
    assert printed["D.bn_readme.errors"] == "66"
    assert printed["E.two.test"] == "93.51"
    assert printed["B.relu_all.acc"] == "1.0"
    assert printed["F.paper.test"] == "0.95"


@pytest.mark.parametrize(
    ("says", "value", "half"),
    [("97.7", 97.7, 0.05), ("44,426", 44426, 0.5), ("6.029e-05", 6.029e-05, 5e-9), ("1.0", 1, 0.05)],
)
def test_a_printed_number_stands_for_all_that_round_to_it(says, value, half):
    assert number(says) == pytest.approx((value, half))


def test_a_number_is_held_against_the_prediction_interval_of_one_run():
    values = [0.970, 0.971, 0.973, 0.968, 0.972]
    one = verdicts(evidence(one=values))["X.one.acc"]
    n, centre, sd = 5, 100 * sum(values) / 5, 100 * scipy_stats.tstd(values)
    half = scipy_stats.t.ppf(0.975, n - 1) * sd * math.sqrt(1 + 1 / n) + 0.05
    assert one.ours[0].low == pytest.approx(centre - half)
    assert one.ours[0].high == pytest.approx(centre + half)
    assert one.verdict == Verdict.REPRODUCED
    assert verdicts(evidence(one=[v + 0.02 for v in values]))["X.one.acc"].verdict == Verdict.NOT_REPRODUCED


def test_other_test_images_widen_it_by_the_error_of_both_draws():
    values = [0.97] * 5
    source = SMALL.model_copy(
        update={"columns": {**SMALL.columns, "acc": SMALL.columns["acc"].model_copy(update={"images": 2000})}}
    )
    found = {one.claim: one for one in judge(source, evidence(one=values))}["X.one.acc"]
    half = 100 * 1.96 * math.sqrt(2 * 0.97 * 0.03 / 2000) + 0.05
    assert found.ours[0].high - 97 == pytest.approx(half)


def test_images_of_our_own_add_the_error_of_as_many_as_there_were():
    source = SMALL.model_copy(
        update={"columns": {**SMALL.columns, "acc": SMALL.columns["acc"].model_copy(update={"images": 6000})}}
    )
    runs = {"one": [record("one", seed, acc=0.9, **{"test/n": 10_000}) for seed in range(5)]}
    found = {one.claim: one for one in judge(source, Evidence(runs, {}))}["X.one.acc"]
    half = 100 * 1.96 * math.sqrt(0.9 * 0.1 / 6000 + 0.9 * 0.1 / 10_000) + 0.05
    assert found.ours[0].high - 90 == pytest.approx(half)


def test_no_accuracy_above_all_and_no_loss_below_none():
    found = verdicts(evidence(one=[0.999, 0.98, 1.0, 0.99, 1.0]))["X.one.acc"]
    assert found.ours[0].high == 100
    assert found.ours[0].low < 98
    loss = SMALL.columns["acc"].model_copy(update={"metric": "test/loss", "unit": ""})
    source = SMALL.model_copy(update={"columns": {**SMALL.columns, "acc": loss}})
    runs = {
        "one": [record("one", seed, **{"test/loss": value}) for seed, value in enumerate((0.1, 0.01, 0.2, 0.1, 0.3))]
    }
    (ours,) = {one.claim: one for one in judge(source, Evidence(runs, {}))}["X.one.acc"].ours
    assert ours.low == 0.0


def test_a_difference_that_cannot_be_told_says_how_many_seeds_would_tell_it():
    """That many seeds find it in four of five studies; as many less a tenth do not."""
    draws = random.Random(0)
    other = [0.9 + 0.001 + 0.004 * draws.gauss(0, 1) for _ in range(10)]
    one = verdicts(evidence(one=[0.9] * 10, two=other))["X.better"]
    assert one.verdict == Verdict.UNDECIDED
    found = re.fullmatch(r"about (\d+) seeds would tell a difference of this size", one.why)
    assert found, one.why
    effect = one.ours[0].mean / scipy_stats.tstd([value - 0.9 for value in other])

    def power(n):
        edge = scipy_stats.t.ppf(0.975, n - 1)
        return scipy_stats.nct.sf(edge, n - 1, abs(effect) * math.sqrt(n))

    assert power(int(found[1])) >= 0.8 > power(int(0.9 * int(found[1])))


def test_seeds_that_diverged_are_said_of_a_comparison():
    runs = {
        "one": [record("one", seed, acc=0.9) for seed in range(10)],
        "two": [record("two", seed, acc=0.95, state="diverged" if seed == 3 else "complete") for seed in range(10)],
    }
    assert verdicts(Evidence(runs, {}))["X.better"].why == "9 seeds; 10 decide; 1 of two diverged"


def test_too_few_seeds_leave_it_undecided_and_say_how_many_would_do():
    found = verdicts(evidence(one=[0.97] * 4, two=[0.98] * 9))
    assert found["X.one.acc"].verdict == Verdict.UNDECIDED
    assert found["X.one.acc"].why == "4 seeds; 5 decide"
    assert found["X.better"].why == "4 seeds; 10 decide"
    assert verdicts(evidence(one=[0.97]))["X.better"].why == "two not run"


@pytest.mark.parametrize(
    ("shift", "verdict"),
    [(0.01, Verdict.REPRODUCED), (-0.01, Verdict.NOT_REPRODUCED), (0.0, Verdict.UNDECIDED)],
)
def test_an_order_is_judged_by_the_paired_interval(shift, verdict):
    """Seeds move both arms by ten times the difference: only pairing can see it."""
    draws = random.Random(0)
    seeds = [0.9 + 0.1 * draws.random() for _ in range(10)]
    noise = [0.002 * draws.gauss(0, 1) for _ in range(10)]
    noise = [one - sum(noise) / 10 for one in noise]
    other = [value + shift + more for value, more in zip(seeds, noise, strict=True)]
    one = verdicts(evidence(one=seeds, two=other))["X.better"]
    assert one.verdict == verdict
    differences = [b - a for a, b in zip(seeds, other, strict=True)]
    held = scipy_stats.t.interval(0.95, 9, loc=sum(differences) / 10, scale=scipy_stats.sem(differences))
    assert (one.ours[0].low, one.ours[0].high) == pytest.approx(held)


def test_best_of_all_must_beat_each():
    one, two = [0.90 + 0.001 * i for i in range(10)], [0.95 + 0.001 * i for i in range(10)]
    noisy = [v + 0.001 * (i % 3) for i, v in enumerate(two)]
    assert verdicts(evidence(one=one, two=noisy, three=one))["X.best"].verdict == Verdict.REPRODUCED
    assert verdicts(evidence(one=one, two=one, three=noisy))["X.best"].verdict == Verdict.NOT_REPRODUCED


def test_times_are_ratios_of_runs_that_had_the_machine_to_themselves():
    def runs(arm, factor, timing):
        return [record(arm, seed, timing=timing, time=factor * (10 + seed % 3)) for seed in range(10)]

    alone = Evidence({"one": runs("one", 1.0, "alone"), "two": runs("two", 1.5, "alone")}, {})
    found = verdicts(alone)
    assert found["X.two.time"].ours[0].mean == pytest.approx(1.5)
    assert found["X.two.time"].verdict == Verdict.REPRODUCED
    assert found["X.one.time"].verdict == Verdict.NOT_TESTABLE
    shared = Evidence({"one": runs("one", 1.0, "alone"), "two": runs("two", 1.5, "shared")}, {})
    assert verdicts(shared)["X.two.time"].why == "its runs shared the machine"


def test_its_own_numbers_speak_first():
    """1,500 ms are not twice 1,000 ms, whatever our runs say."""
    one = verdicts(evidence())["X.double"]
    assert one.verdict == Verdict.CONTRADICTED
    assert "1.5 times" in one.why


def test_counts_are_equal_or_not():
    runs = {arm: [record(arm, 0, size=44426.0)] for arm in ("one", "two")}
    found = verdicts(Evidence(runs, {}))
    assert found["X.one.size"].verdict == Verdict.REPRODUCED
    assert found["X.two.size"].verdict == Verdict.NOT_REPRODUCED


def test_runs_that_all_diverged_are_said_so():
    runs = {"one": [record("one", seed, state="diverged") for seed in range(5)]}
    one = verdicts(Evidence(runs, {}))["X.one.acc"]
    assert (one.verdict, one.why) == (Verdict.NOT_REPRODUCED, "every run diverged, of 5")


@pytest.mark.parametrize(
    ("diverges", "verdict", "why"),
    [
        ("two", Verdict.NOT_REPRODUCED, "every run diverged, of 10"),
        ("one", Verdict.UNDECIDED, "every run diverged, of 10, of one: nothing to compare with"),
    ],
)
def test_a_comparison_with_an_arm_that_diverges_says_which(diverges, verdict, why):
    """The sentence is about the first arm; where the other diverges nothing follows."""
    states = {arm: "diverged" if arm == diverges else "complete" for arm in ("one", "two")}
    runs = {arm: [record(arm, seed, state, acc=0.9) for seed in range(10)] for arm, state in states.items()}
    one = verdicts(Evidence(runs, {}))["X.better"]
    assert (one.verdict, one.why) == (verdict, why)


def test_seeds_beyond_the_aim_do_not_count():
    """Nobody can add seeds until a verdict suits."""
    records = [record("digest", seed, acc=0.9) for seed in range(20)]
    found = Evidence.gather({"one": "digest"}, {"one": 10}, records, {})
    assert sorted(found.values("one", "test/acc")) == list(range(10))


@pytest.mark.parametrize(
    ("accuracies", "first"),
    [((0.9, 0.98, 0.99, 0.9895), 3), ((0.99, 0.9, 0.99), 3), ((0.99, 0.9893, 0.9899), 1), ((0.9,), 1), ((), math.nan)],
)
def test_epochs_to_converge(accuracies, first):
    """The first epoch from which on it stays within 0.1 points of the best."""
    found = converged([(epoch, value) for epoch, value in enumerate(accuracies, 1)])
    assert found == first or (math.isnan(found) and math.isnan(first))


def test_runs_that_do_not_settle_are_counted():
    """They have no epoch to converge by; that is said, and is not taken for a run that is missing."""
    restless, settled = ((1, 0.99), (2, 0.9)), ((1, 0.9), (2, 0.99))
    for curves, n, why in (
        ([settled] + [restless] * 4, 1, "4 of 5 runs end before they stay within 0.1 points of their best: too short"),
        ([restless] * 5, 0, "5 of 5 runs end before they stay within 0.1 points of their best: too short"),
        ([settled] * 5, 5, ""),
    ):
        runs = {"bn": [record("bn", seed) for seed in range(5)]}
        found = Evidence(runs, {run.run_id: {"val/acc": c} for run, c in zip(runs["bn"], curves, strict=True)})
        one = next(one for one in judge(load("D"), found) if one.claim == "D.bn_epochs")
        assert (one.n, one.why) == (n, why)


def test_a_narrow_interval_is_shown_with_the_digits_it_needs():
    assert said(Estimate(5, 0.09998, 0.09996, 0.10003)) == "0.09998 (0.09996 to 0.10003)"
    assert said(Estimate(5, 11.4, 9.5, 13.3)) == "11.4 (9.5 to 13.3)"
    assert said(Estimate(5, 0.9995, 0.9986, 1.0)) == "0.9995 (0.9986 to 1.0000)"
    assert said(Estimate(1, 60.0, 60.0, 60.0), "converged") == "60 epochs"
    assert said(Estimate(5, 0.0944, 0.0903, 0.0985), "test/acc") == "9.4% (9.0 to 9.8)"


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("A.mlp", "test accuracy of baseline above that of mlp and mlp_matched"),
        ("A.bn_time", "training time of bn 0.9 to 1.1 times that of baseline"),
        ("A.gap", "training accuracy less test accuracy −2 to 2 points in baseline, batch_8, max, lr_0.003 and bn"),
        ("C.gap", "training accuracy less test accuracy smaller in regularised_readme than in lenet5"),
        ("D.xavier", "test accuracy of bn less that of bn_default −0.1 to 0.1 points"),
        ("D.plateau", "training loss of the first epoch of bn 0 to 0.09"),
        ("F.mu", "test accuracy of printed_mu 90 to 100%"),
        (
            "F.passes",
            "first epoch from which on the accuracy stays within 0.1 points of the run's best of paper at most 12.5",
        ),
    ],
)
def test_a_rule_in_words(claim, words):
    letter, _, name = claim.partition(".")
    (rule,) = (one.rule for one in load(letter).statements if one.id == name)
    assert holds_if(rule) == words


@pytest.mark.slow
@pytest.mark.parametrize(("letter", "arm"), [(k, a) for k in names() for a, v in load(k).arms.items() if v.parameters])
def test_an_arm_is_as_large_as_the_source_says(letter, arm):
    """Built from the arm's own words, counted by torch."""
    source = load(letter)
    config = parse(compose_cell(source.words(arm)).resolved)
    assert sum(weights.numel() for weights in build(config).parameters()) == source.arms[arm].parameters


def test_a_claim_brings_the_arms_that_judge_it():
    found = Asked.of("C.mlp_readme.later.test")
    assert found.arms == {"mlp_readme", "mlp_code"}
    assert found.claims == {"C.mlp_readme.later.test"}
    assert Asked.of("A.batch_8_time").arms == {"batch_8", "baseline"}
    assert Asked.of("E.lenet").arms == frozenset()
    assert Asked.of("A.svm").arms == {"baseline", "svm"}, "the claim and the arm of that name"
    assert Asked.of("E").arms == set(load("E").arms)


def test_a_metric_after_an_epoch_is_read_off_the_curve():
    run = record("one", 0)
    found = Evidence({"one": [run]}, {run.run_id: {"train/loss": ((1, 0.1), (2, 0.05))}})
    assert found.values("one", "train/loss@2") == {0: 0.05}
    assert found.values("one", "train/loss@3") == {}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"rows": [{"arm": "nobody", "where": "row 1"}]}, "nobody"),
        ({"rows": [{"arm": "one", "where": "row 1", "speed": "1"}]}, "speed"),
        ({"statements": [{"id": "a", "says": "b", "where": "c"}]}, "one of rule"),
        ({"seeds": 9}, "10 seeds decide what is claimed of it, 9 are aimed at"),
        ({"statements": [{"id": "a", "says": "b", "where": "c", "rule": {"more": "one"}}]}, "rule"),
    ],
)
def test_a_ledger_that_cannot_be_meant_is_refused(change, wrong):
    node = {**SMALL.model_dump(exclude_unset=True), **change}
    with pytest.raises(ValueError, match=wrong):
        Source.model_validate(node)


def test_no_such_source():
    with pytest.raises(LabError, match="no such source; there are: A, B"):
        load("Z")


def test_the_page_says_what_the_judgesaid():
    chapter = Chapter.of(SMALL, evidence(one=[0.97] * 5))
    made = document([chapter])
    rows = table([chapter]).splitlines()
    assert len(rows) == 1 + len(chapter.judged)
    assert any(
        row.startswith("X.one.acc,,97.0,%,row 1,test images,1,the best epoch,,reproduced,,5,,97,") for row in rows
    )
    commands = next(section for section in made.sections if section.id == "X-runs").code
    assert 'python -m lenet_lab -m data=digits pool=max sweep.workers=1 seed="range(10)"' in commands
    assert "# one: 5 of 10 seeds run" in commands


def test_a_lesson_is_told_only_where_its_verdicts_bear_it_out():
    lesson = {"says": "Look twice.", "when": {"X.double": "contradicted by its own numbers", "X.one.acc": "reproduced"}}
    source = Source.model_validate({**SMALL.model_dump(exclude_unset=True), "lessons": [lesson]})
    told = [
        document([Chapter.of(source, evidence(one=values))]).sections[0].notes for values in ([0.97] * 5, [0.9] * 5)
    ]
    assert told[0] == ("somebody: Look twice. (X.double, X.one.acc)",)
    assert not any("Look twice" in line for line in told[1])


def test_what_was_not_run_teaches_nothing():
    lesson = {"says": "Cannot be told.", "when": {"X.better": "undecided"}}
    source = Source.model_validate({**SMALL.model_dump(exclude_unset=True), "lessons": [lesson]})
    same = [0.9 + 0.01 * (seed % 2) for seed in range(10)]
    for found, told in ((evidence(), False), (evidence(one=same, two=same[::-1]), True)):
        sections = {section.id: section.notes for section in document([Chapter.of(source, found)]).sections}
        assert ("somebody: Cannot be told. (X.better)" in sections.get("learned", ())) == told


@pytest.mark.slow
def test_the_committed_page_is_what_its_exports_give(tmp_path, monkeypatch, capsys):
    """Rebuilt from the committed files alone; a changed verdict is found."""
    docs = tmp_path / "docs"
    shutil.copytree(REPOSITORY / "docs" / "replication", docs / "replication")
    pages = [docs / "replication.md", docs / "replication.html", docs / "replication" / TABLE]
    for page in pages[:2]:
        shutil.copy(REPOSITORY / "docs" / page.name, page)
    monkeypatch.chdir(tmp_path)
    assert main(["--check"]) == 0, capsys.readouterr().out
    for page in pages:
        whole = page.read_text()
        page.write_text(whole.replace("reproduced", "doubtful", 1))
        assert main(["--check"]) == 1
        assert f"stale: {page.relative_to(tmp_path)};" in capsys.readouterr().out
        page.write_text(whole)


@pytest.mark.slow
def test_a_narrow_terminal_shows_the_claims_without_their_reasons(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = {}
    for width in ("80", "140"):
        monkeypatch.setenv("COLUMNS", width)
        assert main(["A"]) == 0
        lines[width] = capsys.readouterr().out
    assert "not run" in lines["140"]
    assert "not run" not in lines["80"]
    assert all(re.search(rf"{re.escape(claim)}\b", lines["80"]) for claim in ("A.batch_8.test", "A.lr_0.003.train"))


@pytest.mark.slow
def test_what_is_missing_is_run_once_and_the_page_stands_on_its_exports(tmp_path, monkeypatch, capsys):
    """A timed arm alone, any other packed; what is written can be checked when the store is gone. A line by itself."""
    fields = SMALL.model_dump(exclude_unset=True)
    fields |= {"base": "data=digits data.train_size=100 epochs=1 tracking.artifacts=minimal", "statements": []}
    fields["arms"] = {arm: fields["arms"][arm] for arm in ("one", "two")}
    fields["columns"].pop("time")
    fields["rows"] = [{key: value for key, value in row.items() if key != "time"} for row in fields["rows"]]
    source = Source.model_validate(fields)
    monkeypatch.setattr(claims, "load", lambda letter: source)
    monkeypatch.setattr(claims, "names", lambda: ["X"])
    monkeypatch.chdir(tmp_path)
    asked = []

    def run(words, check):
        asked.append(words)
        assert words[:3] == [sys.executable, "-m", "lenet_lab"]
        return command_line(words[3:], tmp_path, os.environ, 240)  # the imports of a new Python take longer

    monkeypatch.setattr("lenet_lab.commands.claim_runs.subprocess", SimpleNamespace(run=run))
    assert main(["--run", "--seeds", "4"]) == 0
    runs = read_runs(open_store(create=False))
    engines = {(run.params["pool"], json.loads(run.tags["lenet.execution"])["engine"]) for run in runs}
    assert (len(asked), len(runs)) == (2, 8)
    assert engines == {("avg", "replicas"), ("max", "single")}
    assert main(["--run", "--seeds", "4"]) == 0
    assert len(asked) == 2, "nothing is missing"
    assert main(["--write"]) == 0
    capsys.readouterr()
    assert main(["X.one.size", "--run", "--seeds", "1", "--store", "sqlite:///other.db", "--out", "other"]) == 0
    assert (len(asked), "pool=max" in asked[-1]) == (3, False)
    said = capsys.readouterr().out
    assert re.search(r"X\.one\.size .* 44,426 +1 +reproduced", said), said
    assert "X.two" not in said
    for file in tmp_path.glob("mlflow.db*"):
        file.unlink()
    assert main(["--check"]) == 0
    shown = (tmp_path / "docs" / "replication" / TABLE).read_text()
    assert len(re.findall(r"^X\.(?:one|two)\.\w+,.*,4,", shown, re.MULTILINE)) == 4, shown


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("Z",), "'Z': no such source"),
        (("A.nobody", "--run"), "A.nobody: no such arm or claim; there are: baseline"),
        (("--run", "--budget", "soon"), "a time such as 90m or 2h"),
        (("--run", "--seeds", "0"), "a whole number of seeds"),
        (("--budget", "2h"), "of --run"),
        (("A", "--write"), "name no sources"),
        (("--check", "--out", "/"), "--out /: has no name to call the page by"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, words, wrong):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((SystemExit, LabError)) as ended:
        main(list(words))
    assert wrong in str(ended.value) + capsys.readouterr().err
    assert not list(tmp_path.iterdir())
