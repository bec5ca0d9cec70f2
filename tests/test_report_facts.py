"""What the report computes from runs: arms, what counts, labels, warnings, sentences."""

import dataclasses
import math
import random
import statistics

import pytest
from report_study import run, study
from scipy import stats as reference

from lenet_lab.records import LabError
from lenet_lab.report import Question, build
from lenet_lab.report.labels import labels, printable, settings, web_link
from lenet_lab.report.plots import accuracy, differences
from lenet_lab.report.study_plots import costs
from lenet_lab.report.words import summary, timing_note, warnings
from lenet_lab.stats.stray import stray


def labelled(arms):
    runs = {arm: [params] for arm, params in arms.items()}
    shown, common = settings(runs)
    return labels(shown, runs), dict(common)


def by_label(facts):
    return {arm.label: arm for arm in facts.arms}


def changed(records, run_id, **over):
    return [dataclasses.replace(row, **over) if row.run_id == run_id else row for row in records]


def test_each_arm_has_the_statistics_of_its_runs():
    records, curves = study()
    facts = build(records, curves)
    assert len(facts.arms) == 6
    for arm in facts.arms:
        mine = [row for row in records if row.arm == arm.arm]
        accuracies = [row.metrics["test/acc"] for row in mine]
        found = arm.metrics["test/acc"]
        assert (arm.n, found.n, arm.seeds, arm.diverged) == (3, 3, (0, 1, 2), ())
        assert found.mean == pytest.approx(statistics.fmean(accuracies))
        assert found.sd == pytest.approx(statistics.stdev(accuracies))
        expected = reference.t.interval(0.95, 2, found.mean, reference.sem(accuracies))
        assert (found.low, found.high) == pytest.approx(expected)
        band = arm.curves["val/acc"]
        last = [curves[row.run_id]["val/acc"][-1][1] for row in mine]
        assert (band.steps, band.n) == ((1, 2, 3, 4, 5), (3,) * 5)
        assert (band.mean[-1], band.low[-1], band.high[-1]) == pytest.approx(
            (statistics.fmean(last), min(last), max(last))
        )
    means = [arm.metrics["test/acc"].mean for arm in facts.arms]
    assert means == sorted(means, reverse=True)


def test_facts_do_not_depend_on_the_order_of_runs():
    records, curves = study()
    records = changed(records, "max-bn-1", state="diverged", metrics={})
    expected = build(records, curves)
    for seed in range(5):
        shuffled = records.copy()
        random.Random(seed).shuffle(shuffled)
        assert build(iter(shuffled), dict(reversed(curves.items()))) == expected


@pytest.mark.parametrize("state", ["running", "failed", "dead", "killed", ""])
def test_an_incomplete_run_never_counts_and_is_listed(state):
    records, curves = study()
    # It has final metrics, and far too good ones: its state alone decides.
    records = changed(records, "avg-gn-1", state=state, metrics={"test/acc": 1.0}, name="the stray")
    facts = build(records, curves)
    arm = by_label(facts)["pool=avg norm=gn"]
    assert (arm.n, arm.seeds) == (2, (0, 2))
    assert max(arm.metrics["test/acc"].values) < 1
    assert max(arm.curves["val/acc"].n) == 2
    [listed] = facts.excluded
    assert (listed.name, listed.state, listed.run_id) == ("the stray", state, "avg-gn-1")
    assert len(facts.counted) == 17


def test_a_diverged_run_is_counted_beside_the_mean_and_its_arm_is_not_the_highest():
    records, curves = study()
    assert "Highest mean test accuracy: pool=max norm=bn" in " ".join(summary(build(records, curves)))
    records = changed(records, "max-bn-1", state="diverged", metrics={"test/acc": 0.1})
    facts = build(records, curves)
    arm = by_label(facts)["pool=max norm=bn"]
    assert (arm.n, arm.diverged) == (2, (1,))
    assert min(arm.metrics["test/acc"].values) > 0.9
    words = " ".join(summary(facts))
    assert "1 run diverged, in pool=max norm=bn" in words
    assert "Highest mean test accuracy among the arms without diverged seeds: pool=max norm=gn" in words


def test_an_arm_with_diverged_runs_only_keeps_its_row():
    records, curves = study(norms=("none", "bn"))
    for seed in (0, 1, 2):
        records = changed(records, f"avg-bn-{seed}", state="diverged", metrics={})
    last = build(records, curves).arms[-1]
    assert (last.label, last.n, last.diverged, last.metrics) == ("pool=avg norm=bn", 0, (0, 1, 2), {})


def test_a_seed_that_was_trained_twice_counts_once():
    records, curves = study()
    again = dataclasses.replace(records[0], run_id="again", end_ms=9999, metrics={"test/acc": 0.5})
    facts = build([*records, again, again], curves)
    arm = by_label(facts)["pool=avg norm=none"]
    assert arm.n == 3
    assert 0.5 in arm.metrics["test/acc"].values
    [replaced] = facts.excluded
    assert replaced.run_id == "avg-none-0"
    assert "again" in replaced.excluded


def test_only_runs_that_had_the_machine_to_themselves_have_a_train_time():
    records, curves = study(pools=("avg",), norms=("none", "bn", "gn"))
    for seed, timing in ((0, "shared"), (1, "packed"), (2, "shared")):
        records = changed(records, f"avg-bn-{seed}", tags={"lenet.timing": timing})
    records = changed(records, "avg-gn-0", tags={})
    facts = build(records, curves)
    arms = by_label(facts)
    assert arms["norm=none"].metrics["time/train_s"].n == 3
    assert arms["norm=gn"].metrics["time/train_s"].n == 2
    assert "time/train_s" not in arms["norm=bn"].metrics
    assert (arms["norm=bn"].timed_alone, arms["norm=bn"].metrics["images_per_s"].n) == (False, 3)
    assert "†" in timing_note(facts.arms)
    assert "†" not in timing_note([arms["norm=none"]])


def test_what_a_run_lacks_or_has_as_nan_is_missing():
    records, curves = study(pools=("avg",), norms=("none",))
    records[0] = run("avg-none", 0, records[0].params, metrics={"test/acc": math.nan, "test/loss": None})
    curves["avg-none-1"] = {"val/acc": ((1, 0.5), (2, math.nan), (2, 0.75))}
    curves["avg-none-2"] = {}
    facts = build(records, curves)
    [arm] = facts.arms
    assert (arm.n, arm.metrics["test/acc"].n, arm.metrics["test/loss"].n) == (3, 2, 2)
    assert arm.curves["val/acc"].n == (2, 2, 1, 1, 1)
    assert any("1 of the 3 complete runs of model=lenet5 have no test accuracy" in line for line in warnings(facts))


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"params": {"pool": "max", "norm": "gn", "epochs": "5", "data.split_seed": "1"}}, "validation splits"),
        ({"tags": {"lenet.data_digest": "d1", "lenet.code": "c2"}}, "code versions"),
        ({"params": {"pool": "max", "norm": "gn", "epochs": "7"}}, "training budgets"),
    ],
)
def test_mixing_what_should_be_alike_is_said(over, words):
    records, curves = study()
    assert warnings(build(records, curves)) == ()
    [found] = warnings(build(changed(records, "max-gn-2", **over), curves))
    assert words in found
    assert "17 runs" in found


@pytest.mark.parametrize(
    "over",
    [
        {"tags": {"lenet.data_digest": "d2", "lenet.code": "c1"}},
        {"params": {"pool": "max", "norm": "gn", "epochs": "5", "data.draw_seed": "7"}},
    ],
)
def test_runs_of_different_test_sets_are_refused_unless_asked_for(over):
    records, curves = study()
    records = changed(records, "max-gn-2", **over)
    with pytest.raises(LabError, match=r"2 different test sets: \w[\w ]+ \(\S+.*; \d+ runs\)") as refusal:
        build(records, curves)
    assert "\n" not in str(refusal.value)
    found = warnings(build(records, curves, Question(mixed=True)))
    assert any("are mixed" in line and "17 runs" in line for line in found)


def test_the_summary_says_what_n_allows():
    one = " ".join(summary(build(*study(seeds=(0,)))))
    assert "n=1: no spread can be given" in one
    assert "±" not in one
    assert "n=2: the spread rests on a single difference" in " ".join(summary(build(*study(seeds=(0, 1)))))
    three = " ".join(summary(build(*study())))
    assert "6 arms, 18 complete runs (n=3 in each arm)" in three
    assert "n=1" not in three
    # sqrt(0.9887 * 0.0113 / 10000) = 0.00106
    assert "binomial standard error of 0.11 points" in three


def test_equal_seeds_are_no_proof():
    same = [run("a", seed, {"pool": "max"}, accuracy=0.98) for seed in range(3)]
    assert "interval of no width is no proof" in " ".join(summary(build(same, {})))


def test_nothing_to_compare_is_said():
    facts = build([run("a", 0, {}, state="running")], {})
    assert (facts.arms, len(facts.excluded)) == ((), 1)
    assert summary(facts) == ("There are no complete runs, so there is nothing to compare.",)
    assert summary(build([], {})) == summary(facts)
    assert warnings(build([], {})) == ()


def test_labels_show_only_what_varies():
    base = {
        "model": "lenet5",
        "name": "x",
        "seed": "3",
        "epochs": "5",
        "tracking.uri": "u",
        "sweep.jobs": "2",
    }
    arms = {
        "a": base | {"pool": "max", "pool.name": "max", "norm": "none", "name": "one", "tracking.uri": "v"},
        "b": base | {"pool": "avg", "pool.name": "avg", "norm": "bn", "norm.on": "conv"},
    }
    found, common = labelled(arms)
    assert found == {"a": "pool=max norm=none", "b": "pool=avg norm=bn"}
    assert common == {"model": "lenet5", "epochs": "5"}


def test_labels_show_a_key_where_the_option_does_not_tell():
    arms = {
        "none": {"norm": "none", "norm.on": "conv"},
        "bn": {"norm": "bn", "norm.on": "conv"},
        "gn2": {"norm": "gn", "norm.on": "conv", "norm.groups": "2"},
        "gn3": {"norm": "gn", "norm.on": "conv", "norm.groups": "3"},
    }
    found, _ = labelled(arms)
    assert found == {
        "none": "norm=none",
        "bn": "norm=bn",
        "gn2": "norm=gn norm.groups=2",
        "gn3": "norm=gn norm.groups=3",
    }
    found, common = labelled({arm: arms[arm] for arm in ("gn2", "gn3")})
    assert found == {"gn2": "norm.groups=2", "gn3": "norm.groups=3"}
    assert common == {"norm": "gn", "norm.on": "conv"}


def test_a_number_stands_for_its_group():
    found, _ = labelled({"a": {"lr": "0.001", "lr.value": "0.001"}, "b": {"lr": "paper", "lr.value": "0.0042"}})
    assert found == {"a": "lr=0.001", "b": "lr=paper"}
    found, _ = labelled({"a": {"lr": "base", "lr.value": "0.001"}, "b": {"lr": "base", "lr.value": "0.01"}})
    assert found == {"a": "lr=0.001", "b": "lr=0.01"}


def test_what_differs_inside_an_arm_is_no_factor():
    runs = {"a": [{"pool": "max", "x": "1"}, {"pool": "max", "x": "2"}], "b": [{"pool": "avg", "x": "1"}]}
    shown, _ = settings(runs)
    assert labels(shown, runs) == {"a": "pool=max", "b": "pool=avg"}


def test_trainer_settings_show_where_they_vary():
    found, common = labelled(
        {
            "a": {"trainer.precision": "32", "trainer.devices": "1"},
            "b": {"trainer.precision": "16", "trainer.devices": "1"},
        }
    )
    assert found == {"a": "trainer.precision=32", "b": "trainer.precision=16"}
    assert common == {}


def test_a_key_that_came_later_and_changes_no_number_sets_no_arms_apart():
    where = {"trainer.strategy": "auto", "trainer.compile": "null"}
    assert labelled({"a": {"pool": "max"}, "b": {"pool": "avg", **where}})[0] == {"a": "pool=max", "b": "pool=avg"}


def test_labels_are_never_alike():
    found, _ = labelled({"a": {"pool": "max"}, "b": {"pool": "max"}})
    assert found == {"a": "model=? [a]", "b": "model=? [b]"}
    found, _ = labelled({"a": {"pool": "max", "name": "first"}, "b": {"pool": "max", "name": "second"}})
    assert found == {"a": "name=first", "b": "name=second"}
    long = "x" * 200
    found, _ = labelled({f"{long}{i}": {"pool": f"{long}{i}"} for i in range(3)})
    assert len(set(found.values())) == 3


def test_hidden_characters_become_visible():
    assert printable("a\nb\t\x1b[31m\u202e\u2028\ud800") == "a\\nb\\t\\x1b[31m\\u202e\\u2028\\ud800"
    assert printable("größe ≤ 5 ± 名") == "größe ≤ 5 ± 名"
    assert printable("x" * 50, 10) == "x" * 9 + "…"


def test_only_web_addresses_become_links():
    assert web_link("https://host:5000/#/runs/1?a=b&c") == "https://host:5000/#/runs/1?a=b&c"
    assert web_link('http://h/a b"<>)') == "http://h/a%20b%22%3C%3E%29"
    for hostile in (
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "//h/x",
        "http://[",
        "",
        None,
    ):
        assert web_link(hostile) is None


GOOD = (0.9941, 0.9945, 0.9949, 0.9943, 0.9947, 0.9946)


@pytest.mark.parametrize(
    ("values", "sign", "found"),
    [
        ((*GOOD, 0.1135), 1, (0.1135,)),
        ((*GOOD, 0.1135), -1, ()),  # less is better: far, but not worse
        ((*GOOD, 0.9935), 1, ()),
        ((*GOOD[:3], 0.1135), 1, ()),  # too few to say
        ((*[0.99] * 6, 0.1135), 1, ()),  # no spread to measure by
        ((*(1 - value for value in GOOD), 0.8865), -1, (0.8865,)),
    ],
)
def test_a_seed_far_from_the_others(values, sign, found):
    assert stray(values, sign) == pytest.approx(found)


def test_an_arm_with_a_seed_that_has_learned_nothing():
    """It is said, the arm is not among the best though a t test cannot tell, and the figures show the rest."""
    arms = {
        "none": [*GOOD[:5], 0.1135],
        "bn": [value + 0.0005 for value in GOOD],
        "gn": [v - 0.002 for v in GOOD[::-1]],
    }
    records = [
        run(arm, seed, {"norm": arm}, metrics={"test/acc": value})
        for arm, values in arms.items()
        for seed, value in enumerate(values)
    ]
    facts = build(records, {}, Question(baseline="norm=bn"))
    found = by_label(facts)
    assert {label: arm.best for label, arm in found.items()} == {"norm=bn": True, "norm=gn": False, "norm=none": False}
    (told,) = [line for line in warnings(facts) if "far from the others" in line]
    assert told.startswith("1 of the 6 runs of norm=none lies far from the others (11.35 beside a median of 99.44%)")
    for figure, low, text in ((accuracy(facts), 99, "◂ 11.35"), (differences(facts), -1, "◂ −14.7")):
        (axes,) = figure.axes
        assert axes.get_xlim()[0] > low
        assert any(one.get_text().startswith(text) for one in axes.texts), [one.get_text() for one in axes.texts]
    plain = build([row for row in records if row.arm != "none"], {}, Question(baseline="norm=bn"))
    assert not any("far from" in line for line in warnings(plain))
    assert not accuracy(plain).axes[0].texts


def test_costs_that_hardly_differ_are_not_drawn():
    records = [
        run(
            arm,
            seed,
            {"norm": arm},
            metrics={"test/acc": 0.99 + seed / 1000, "params/total": size, "params/macs": macs},
        )
        for arm, size, macs in (("none", 44_426.0, 281_640.0), ("bn", 44_470.0, 300_000.0))
        for seed in range(3)
    ]
    assert set(costs(build(records, {}))) == {"params/macs"}
