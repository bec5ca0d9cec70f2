"""The calibration: its bars can fail, its page holds what the code gives, its A/A study is the one that was fixed."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from lenet_lab import stats
from tests.calibration import aa
from tests.calibration.harness import ROUNDS, TABLES, Row, line, markdown
from tests.calibration.page import PAGE, fill

# Cheap ones of every kind, at full length.
COMMITTED = [
    ("false_positives", ("normal", 5)),
    ("unlike_arms", (5,)),
    ("coverage", ("skewed", 5)),
    ("prediction", ("discrete", 5)),
    ("percentile", (5,)),
    ("needed", (1.0,)),
    ("detectable", (10,)),
]


@pytest.mark.parametrize(("name", "case"), COMMITTED)
def test_the_page_holds_what_the_simulations_give(name, case):
    """Same draws, same figures. After a change of the code: `make calibration`."""
    page = PAGE.read_text()
    for row in TABLES[name].rows(case):
        assert line(row) in page.partition(f"### {TABLES[name].title}\n")[2].partition("###")[0]


def test_the_page_has_every_table_and_no_bar_that_was_missed():
    page = PAGE.read_text()
    part = page.partition("<!-- calibration: begin -->")[2].partition("<!-- calibration: end -->")[0]
    titles = [text.removeprefix("### ") for text in part.splitlines() if text.startswith("### ")]
    assert titles == [table.title for table in TABLES.values()]
    assert "**no**" not in part
    assert part.count("| yes |") > 40


@pytest.mark.slow
def test_every_bar_holds_in_a_short_calibration(capsys):
    """A tenth of the studies; the figures are printed."""
    missed = []
    for table in TABLES.values():
        rows = [row for case in table.cases for row in table.rows(case, ROUNDS // 10)]
        with capsys.disabled():
            print(f"\n{table.title}\n\n{markdown(rows)}")  # noqa: T201
        missed += [row for row in rows if not row.ok]
    assert not missed


@pytest.mark.parametrize(
    ("bar", "held", "ok"),
    [
        ("most", 227, True), ("most", 228, False), ("most", 0, True),
        ("least", 173, True), ("least", 172, False),
        ("equal", 173, True), ("equal", 227, True), ("equal", 172, False), ("equal", 228, False),
        ("within", 160, True), ("within", 159, False), ("within", 240, True), ("within", 241, False),
        ("", 4000, True),
    ],
)  # fmt: skip
def test_bars_stand_where_they_say(bar, held, ok):
    # two standard errors of 5% over 4,000 are 27.6 studies, one point is 40
    assert Row("", 5, held, 4000, 0.05, bar).ok is ok


def test_wrong_statistics_miss_their_bars(monkeypatch):
    """Normal quantiles in place of Student's, and a p value that is too small, are seen for what they are."""

    def normal_interval(values, level):
        half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
        return np.mean(values) - half, np.mean(values) + half

    monkeypatch.setattr(stats, "t_interval", normal_interval)
    assert not TABLES["coverage"].rows(("normal", 5), 1000)[0].ok
    monkeypatch.setattr(stats, "sign_flip_p", lambda d: 2 / 32 if abs(np.sign(d).sum()) > 2 else 1.0)
    assert not TABLES["false_positives"].rows(("normal", 5), 1000)[1].ok


def test_a_row_that_misses_is_drawn_again_and_both_figures_are_shown():
    def simulate(rng, rounds):
        yield Row("chance", 5, rounds // 2 if rounds == 100 else rounds // 20, rounds, 0.05, "most")

    table = replace(TABLES["needed"], cases=[()], simulate=simulate)
    assert line(table.rows((), 100)[0]) == "| chance | 5 | 5.00% (first: 50.00%) | at most 5% | 400 | yes |"


def test_a_page_without_its_markers_is_refused():
    with pytest.raises(ValueError, match="calibration: begin"):
        fill("no markers", "calibration", "")


def test_the_aa_study_is_the_one_that_was_fixed():
    a, b = aa.deal()
    assert sorted(a + b) == list(range(40))
    assert (a[:4], b[:4]) == ([15, 27, 20, 17], [11, 22, 14, 30])
    with aa.FILE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["seed"]) for row in rows] == list(range(40))
    assert all(float(row["test_acc"]) * 360 == pytest.approx(round(float(row["test_acc"]) * 360)) for row in rows)


def test_the_page_shows_the_aa_study_as_it_came_out():
    assert fill(PAGE.read_text(), "aa", aa.text()) == PAGE.read_text()
