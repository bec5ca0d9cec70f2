"""Mean, spread and intervals against SciPy, NumPy and printed tables."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as reference

from lenet_lab import stats

SAMPLES = [[0.98, 0.99], [0.9841, 0.9852, 0.9833], [98.0, 99.0, 97.5, 98.25, 98.1], [1e-9, 2e-9, 4e-9, 1e9]]


@pytest.mark.parametrize("values", SAMPLES)
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_t_interval_agrees_with_scipy(values, level):
    expected = reference.t.interval(level, len(values) - 1, loc=np.mean(values), scale=reference.sem(values))
    assert stats.t_interval(values, level) == pytest.approx(expected, rel=1e-12)


def test_t_interval_agrees_with_a_printed_table():
    # Student's t at 97.5%: 12.706, 4.303, 2.262 for 1, 2 and 9 degrees of freedom.
    for n, quantile in ((2, 12.706), (3, 4.303), (10, 2.262)):
        values = [float(i) for i in range(n)]
        low, high = stats.t_interval(values)
        assert (high - low) / 2 * math.sqrt(n) / np.std(values, ddof=1) == pytest.approx(quantile, abs=5e-4)


def test_t_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(3.0, 2.0, size=(2000, 5))
    hits = [low <= 3.0 <= high for low, high in (stats.t_interval(row.tolist(), 0.9) for row in draws)]
    assert np.mean(hits) == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / 2000))


@pytest.mark.parametrize("values", SAMPLES)
def test_mean_and_sd_agree_with_numpy_in_any_order(values):
    assert stats.mean(values) == pytest.approx(np.mean(values), rel=1e-12)
    assert stats.sample_sd(values) == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    orders = list(itertools.permutations(values))
    assert len({stats.mean(order) for order in orders}) == 1
    assert len({stats.sample_sd(order) for order in orders}) == 1


def test_equal_values_have_no_spread_at_all():
    assert stats.sample_sd([0.1] * 3) == 0.0
    assert stats.t_interval([0.1] * 3) == (0.1, 0.1)


def test_binomial_se_agrees_with_the_binomial_distribution():
    assert stats.binomial_se(0.99, 10_000) == pytest.approx(reference.binom.std(10_000, 0.99) / 10_000)
    assert stats.binomial_se(1.0, 100) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.mean([]), "at least 1"),
        (lambda: stats.sample_sd([1.0]), "at least 2"),
        (lambda: stats.t_interval([1.0]), "at least 2"),
        (lambda: stats.t_interval([1.0, math.nan]), "finite"),
        (lambda: stats.mean([math.inf]), "finite"),
        (lambda: stats.t_interval([1.0, 2.0], 1.0), "level=1.0"),
        (lambda: stats.binomial_se(1.1, 10), r"share=1\.1"),
        (lambda: stats.binomial_se(0.5, 0), "n=0"),
    ],
)
def test_what_cannot_be_computed_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
