"""What the report says of arms against arms: contrasts, the set that may be best, factors, answers, layouts."""

import dataclasses
import json
import random
import statistics

import numpy as np
import pytest
from report_study import run, study
from scipy import stats as reference

from lenet_lab.records import LabError
from lenet_lab.report import Question, build
from lenet_lab.report.facts import as_json
from lenet_lab.report.predictions import read
from lenet_lab.report.question import Predictions, measure
from lenet_lab.report.words import summary, warnings
from lenet_lab.study import Study

DEFAULT = {"pool": "avg", "norm": "none"}


def said(facts):
    return " ".join((*summary(facts), *warnings(facts)))


def named(facts):
    return {arm.label: arm for arm in facts.arms}


@pytest.fixture(scope="module")
def ten():
    return build(*study(seeds=range(10)), Question(defaults=DEFAULT))


def test_contrasts_are_paired_by_seed(ten):
    records, _ = study(seeds=range(10))
    values = {row.arm: {} for row in records}
    for row in records:
        values[row.arm][row.seed] = row.metrics["test/acc"]
    assert ten.arm(ten.base).label == "pool=avg norm=none"
    assert (len(ten.contrasts), ten.family) == (5, 5)
    for one in ten.contrasts:
        a, b = values[ten.arm(one.arm).arm], values[ten.arm(one.base).arm]
        found = reference.ttest_rel([a[s] for s in range(10)], [b[s] for s in range(10)])
        assert one.mean == pytest.approx(statistics.fmean(a[s] - b[s] for s in range(10)))
        assert one.t_p == pytest.approx(found.pvalue)
        assert (one.low, one.high) == pytest.approx(tuple(found.confidence_interval(0.95)))
        # every difference has one sign, so two of the 2^10 patterns are as far out; Holm multiplies the least by 5
        assert one.p == pytest.approx(2 / 1024)
        assert one.adjusted == pytest.approx(10 / 1024)
        assert one.reading == "better"


def test_the_factors_of_a_grid_are_told_apart(ten):
    assert ten.factors == ("pool", "norm")
    mean = {one.levels: one.mean for one in ten.effects}
    arms = named(ten)
    cells = [arms[f"pool=max norm={norm}"].metrics["test/acc"].mean for norm in ("none", "bn", "gn")]
    assert mean["max",] == pytest.approx(statistics.fmean(cells))
    assert mean["max", "bn"] == pytest.approx(arms["pool=max norm=bn"].metrics["test/acc"].mean)
    tests = {one.factors: one for one in ten.tests}
    assert tests["pool",].adjusted < 0.001
    assert tests["pool", "norm"].p > 0.05
    words = said(ten)
    assert "Main effects over the whole grid: pool (p<0.001); norm (p<0.001)." in words
    assert "Interactions: none shown for pool × norm" in words


def test_no_arm_is_called_the_best_where_nobody_can_tell():
    draw = random.Random(5)
    records = [
        run(pool, seed, {"pool": pool}, accuracy=0.98 + draw.gauss(0, 1e-3)) for pool in "abc" for seed in range(8)
    ]
    facts = build(records, {})
    assert [arm.best for arm in facts.arms] == [True] * 3
    assert "No arm can be told from the best: any of them may be." in said(facts)
    assert "Highest mean" in said(facts)


def test_an_arm_that_may_be_the_best_and_reads_as_worse_is_explained():
    """Below the baseline in every seed, by unequal amounts: sign flips tell it apart, t tests of every pair do not."""
    draw = random.Random(2)
    level = [0.99 + draw.gauss(0, 3e-4) for _ in range(10)]
    lower = [1e-4] * 8 + [5e-4, 5e-4]
    records = [
        run(pool, seed, {"pool": pool}, accuracy=level[seed] + draw.gauss(-2e-5, 3e-4))
        for pool in "cde"
        for seed in range(10)
    ]
    records += [run("avg", seed, {"pool": "avg"}, accuracy=level[seed] + 3e-4) for seed in range(10)]
    records += [run("b", seed, {"pool": "b"}, accuracy=level[seed] + 3e-4 - lower[seed]) for seed in range(10)]
    facts = build(records, {}, Question(defaults={"pool": "avg"}))
    arms = named(facts)
    [contrast] = [one for one in facts.contrasts if one.arm == arms["pool=b"].number]
    assert (facts.arms[0].label, contrast.reading, arms["pool=b"].best) == ("pool=avg", "worse", True)
    assert "Of these, pool=b (A2) reads as worse than it in the 4 comparisons below" in said(facts)
    assert "reads as worse" not in said(build(*study(seeds=range(10)), Question(defaults=DEFAULT)))


def test_a_diverged_arm_is_never_among_the_best():
    records, curves = study(seeds=range(6))
    records = [dataclasses.replace(r, state="diverged") if r.run_id == "max-bn-3" else r for r in records]
    facts = build(records, curves, Question(defaults=DEFAULT))
    assert named(facts)["pool=max norm=bn"].best is False
    assert any(arm.best for arm in facts.arms)
    assert "Effects of factors rest on 5 seeds" in said(facts)


def test_too_few_seeds_are_said_and_how_many_would_do():
    facts = build(*study(), Question(defaults=DEFAULT))
    assert {one.reading for one in facts.contrasts} == {"too few seeds"}
    assert all(one.p is None and one.needed >= 8 for one in facts.contrasts)
    # five comparisons: 2 / 2^n <= 0.05 / 5 from n=8 on
    assert "n=3, and sign-flip tests in a family of 5 can reach it from n=8 on" in said(facts)


def test_one_seed_and_equal_seeds_are_said_plainly():
    one = build(*study(seeds=(0,)), Question(defaults=DEFAULT))
    assert {arm.best for arm in one.arms} == {None}
    assert "n=1: no spread can be given" in said(one)
    assert "p=" not in " ".join(summary(one)).replace("pool=", "")
    same = [run(p, s, {"pool": p}, accuracy=a) for p, a in (("avg", 0.98), ("max", 0.99)) for s in range(8)]
    facts = build(same, {}, Question(defaults=DEFAULT))
    assert "The same difference in every seed, so no interval and no t test" in said(facts)
    [contrast] = facts.contrasts
    assert (contrast.low, contrast.t_p, contrast.sd) == (None, None, 0.0)


def test_lower_is_better_where_it_is():
    facts = build(*study(seeds=range(10)), Question(metric="test/loss", defaults=DEFAULT))
    assert facts.arms[0].label == "pool=max norm=bn"
    assert facts.contrasts[0].mean < 0
    assert facts.contrasts[0].reading == "better"
    assert facts.contrasts[0].improvement == 1
    assert "Lowest mean test loss: pool=max norm=bn" in said(facts)
    assert measure("test/acc").sign == measure("images_per_s").sign == 1
    assert measure("test/ece").sign == measure("time/train_s").sign == -1


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (Question(metric="test/nonsense"), "metric 'test/nonsense': no run has it; there are: epochs"),
        (Question(baseline="pool=avg"), "--baseline 'pool=avg': selects 3 arms; say also norm"),
        (Question(baseline="pool=none"), "--baseline 'pool=none': selects no arm; there are: pool=avg, pool=max"),
        (Question(baseline="nonsense"), "does not select arms"),
        (Question(pairs=(("pool=max norm=bn", "norm=bn pool=max"),)), "--pair: both texts select the same arm"),
        (Question(rows=("pool",)), "several arms share this cell; add norm to --rows or --columns"),
        (Question(rows=("nothing",)), "nothing: no arm has such a factor; what varies is: norm, pool"),
    ],
)
def test_a_wrong_question_is_refused_in_one_line(question, words):
    with pytest.raises(LabError) as refusal:
        build(*study(), question)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_baseline_and_the_pairs_are_those_asked_for():
    asked = Question(baseline="pool=max norm=gn", pairs=(("pool=max norm=bn", "pool=avg norm=bn"),), defaults=DEFAULT)
    facts = build(*study(seeds=range(8)), asked)
    assert facts.arm(facts.base).label == "pool=max norm=gn"
    pairs = [(facts.arm(one.arm).label, facts.arm(one.base).label) for one in facts.contrasts]
    assert len(pairs) == facts.family == 6
    assert pairs[-1] == ("pool=max norm=bn", "pool=avg norm=bn")
    assert "Pairs — " in said(facts)


def test_a_study_names_its_family():
    one = Study("s", "pool=avg norm=none", ("pool", "norm"), ("pool=max norm=none", "norm=xx vs pool=avg norm=bn"))
    facts = build(*study(seeds=range(8)), Question(study=one, asked=frozenset({"key-max-bn-0", "elsewhere"})))
    assert facts.family == 1
    assert facts.contrasts[0].adjusted == facts.contrasts[0].p
    assert {contrast.adjusted for contrast in facts.contrasts[1:]} == {None}
    assert "The study's comparison 'norm=xx vs pool=avg norm=bn' cannot be made" in said(facts)
    assert "1 cell that were asked for" in said(facts)


def test_arms_that_change_one_thing_each_are_named_by_it():
    """A study without factors is no grid; where its baseline selects no arm, labels stay as they are."""
    records, curves = study(pools=("max",))
    records += study(pools=("avg",), norms=("bn",))[0]
    whole = Study("record", "pool=max norm=bn", ())
    facts = build(records, curves, Question(study=whole))
    assert {arm.label for arm in facts.arms} == {"record", "norm=none", "norm=gn", "pool=avg"}
    assert facts.arms[facts.base - 1].label == "record"
    other = build(records, curves, Question(study=dataclasses.replace(whole, baseline="pool=conv")))
    assert {arm.label for arm in other.arms} >= {"pool=max norm=bn", "pool=avg norm=bn"}


def test_a_table_is_laid_out_as_asked():
    facts = build(*study(), Question(rows=("norm",), columns=("pool",), defaults=DEFAULT))
    assert facts.pivot.row_values == (("none",), ("bn",), ("gn",))
    assert facts.pivot.column_values == (("avg",), ("max",))
    assert [facts.arm(n).label for n in facts.pivot.cells[1]] == ["pool=avg norm=bn", "pool=max norm=bn"]


def answered(wrong, classes=3):
    """Predictions for twelve images, of which some are wrong."""
    label = np.arange(12) % classes
    predicted = label.copy()
    predicted[list(wrong)] = (label[list(wrong)] + 1) % classes
    return Predictions(np.arange(100, 112), label, predicted, classes)


def test_answers_give_confusions_mistakes_and_mcnemar():
    records = [run(p, s, {"pool": p}, accuracy=a) for p, a in (("avg", 0.5), ("max", 0.9)) for s in range(3)]
    wrong = {"avg": [0, 1, 2, 3, 4, 5], "max": [0]}
    asked = Question(defaults={"pool": "avg"}, mcnemar=True)
    facts = build(records, {}, asked, lambda ids: {i: answered(wrong[i.split("-")[0]]) for i in ids})
    first, second = facts.confusions
    assert (first.arm, first.runs, second.runs) == (1, 3, 3)
    assert np.sum(second.mean) - np.trace(second.mean) == 6
    assert facts.mistakes[0].index == 100
    assert facts.mistakes[0].wrong == ((1, 3, 3), (2, 3, 3))
    assert (facts.mistakes[0].label, facts.mistakes[0].answer) == (0, 1)
    assert len(facts.mistakes) == 6
    assert [(one.seed, one.only_arm, one.only_base) for one in facts.answers] == [(s, 5, 0) for s in range(3)]
    assert facts.answers[0].p == pytest.approx(reference.binomtest(0, 5).pvalue)


def test_runs_without_predictions_are_said():
    facts = build(*study(), Question(defaults=DEFAULT), lambda ids: {})
    assert facts.confusions == facts.mistakes == ()
    assert "No predictions can be read of the runs of A1, A6." in said(facts)


def test_damaged_predictions_are_refused(tmp_path):
    content = {
        "index": np.arange(4),
        "label": np.arange(4) % 2,
        "predicted": np.zeros(4, int),
        "scores": np.ones((4, 2)),
    }
    file = tmp_path / "p.npz"
    np.savez_compressed(file, **content)
    assert read(file.read_bytes()).classes == 2
    for change in (
        {"predicted": np.full(4, 2)},
        {"label": np.arange(3)},
        {"index": np.array([object()] * 4)},
        {"predicted": np.zeros(4)},
        {"scores": np.ones(4)},
    ):
        np.savez_compressed(file, **{**content, **change})
        with pytest.raises(LabError, match=r"predictions\.npz"):
            read(file.read_bytes())
    with pytest.raises(LabError):
        read(file.read_bytes()[:50])


def test_facts_are_json_and_whole(ten):
    found = json.loads(as_json(ten))
    assert [arm["label"] for arm in found["arms"]] == [arm.label for arm in ten.arms]
    assert found["contrasts"][0]["mean"] == ten.contrasts[0].mean
    assert len(found["runs"]) == 60
