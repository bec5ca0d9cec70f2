"""Paired comparisons, Holm, power, the set that may be best, McNemar: against SciPy, statsmodels and brute force."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats as reference

from lenet_lab import stats
from lenet_lab.stats import paired, power


def arm(values):
    return dict(enumerate(values))


def two_arms(n, seed=0, step=None):
    rng = np.random.default_rng([n, seed])
    a, b = rng.normal(0.97, 0.002, size=(2, n))
    if step:
        a, b = np.round(a / step) * step, np.round(b / step) * step
    return a.tolist(), b.tolist()


def brute_sign_flip(differences):
    """All 2^n patterns in a loop, over integers or fractions: no rounding to speak of."""
    seen = abs(sum(differences))
    signs = itertools.product((-1, 1), repeat=len(differences))
    return sum(abs(sum(s * d for s, d in zip(one, differences, strict=True))) >= seen for one in signs) / 2 ** len(
        differences
    )


# -- compare


@pytest.mark.parametrize("n", [2, 3, 6, 10, 20])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_difference_interval_and_t_test_agree_with_scipy(n, level):
    a, b = two_arms(n)
    found = stats.compare(arm(a), arm(b), level)
    expected = reference.ttest_rel(a, b)
    assert found.t_p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(level)), rel=1e-9)
    assert found.mean == pytest.approx(np.mean(a) - np.mean(b), rel=1e-9)
    assert found.sd == pytest.approx(np.std(np.subtract(a, b), ddof=1), rel=1e-9)
    assert found.n == n


@pytest.mark.parametrize("n", [6, 7, 10])
@pytest.mark.parametrize("step", [None, 1 / 2000])
def test_sign_flip_agrees_with_scipys_permutation_test(n, step):
    a, b = two_arms(n, step=step)
    differences = [round(2000 * (x - y)) if step else x - y for x, y in zip(a, b, strict=True)]
    expected = reference.permutation_test(
        (differences,), lambda x, axis: np.abs(np.mean(x, axis=axis)), permutation_type="samples",
        vectorized=True, alternative="greater", n_resamples=np.inf,
    )  # fmt: skip
    assert stats.compare(arm(a), arm(b)).sign_flip_p == pytest.approx(expected.pvalue, rel=1e-12)


@pytest.mark.parametrize("n", range(1, 13))
def test_sign_flip_counts_ties_as_a_plain_loop_does(n):
    rng = np.random.default_rng(n)
    for _ in range(20):
        steps = rng.integers(-4, 5, size=n).tolist()
        assert stats.sign_flip_p([step / 2000 for step in steps]) == brute_sign_flip(steps)


def test_rounding_of_decimals_breaks_no_tie():
    # 0.3 - 0.2, 0.2 - 0.1 and 1.1 - 1.0 differ in the last bits of their floats; each is a tenth.
    a, b = arm([0.3, 0.2, 1.1, 0.5, 0.7, 0.8]), arm([0.2, 0.1, 1.0, 0.4, 0.6, 0.7])
    found = stats.compare(a, b)
    assert (found.sd, found.interval, found.t_p, found.effect) == (0.0, None, None, None)
    assert found.sign_flip_p == 2 / 2**6
    mixed = stats.compare(arm([0.3, 0.2, 1.1, 0.4, 0.6, 0.7]), arm([0.2, 0.1, 1.0, 0.5, 0.7, 0.8]))
    assert (mixed.mean, mixed.sign_flip_p, mixed.improvement) == (0.0, 1.0, 0.5)


def test_sign_flip_over_many_seeds_is_drawn_and_close_to_the_exact_one(monkeypatch):
    differences = np.random.default_rng(3).normal(0.4, 1, size=22).tolist()
    exact = stats.sign_flip_p(differences)
    monkeypatch.setattr(paired, "EXACT_UP_TO", 10)
    drawn = stats.sign_flip_p(differences)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 99_999))
    assert stats.sign_flip_p(differences) == drawn
    assert stats.sign_flip_p([1.0] * 40) == 1 / 100_000


def test_sign_flip_p_values_are_uniform_on_what_they_can_be():
    """Under symmetry every one of the 2^(n-1) values of p is as likely as another."""
    n, rounds = 6, 6_400
    draws = np.random.default_rng(5).standard_t(2, size=(rounds, n))
    counts = Counter(stats.sign_flip_p(row.tolist()) for row in draws)
    assert sorted(counts) == [2 * (k + 1) / 2**n for k in range(2 ** (n - 1))]
    assert reference.chisquare([*counts.values()]).pvalue > 0.001


def test_a_comparison_by_hand():
    # differences 2 4 6 8 10 12 (in thousandths): mean 7, sd sqrt(14) = 3.7417, t = 7 / (3.7417 / sqrt 6) = 4.5826
    found = stats.compare(arm([0.002, 0.004, 0.006, 0.008, 0.010, 0.012]), arm([0.0] * 6))
    assert found.mean == pytest.approx(0.007)
    assert found.sd == pytest.approx(0.0037417, rel=1e-4)
    assert found.interval == pytest.approx((0.007 - 2.5706 * 0.0015275, 0.007 + 2.5706 * 0.0015275), rel=1e-4)
    assert found.t_p == pytest.approx(0.00593, abs=5e-5)
    assert found.sign_flip_p == 2 / 64
    # d = 1.8708, Hedges' J(5) = 0.8408 (Hedges 1981, table 1)
    assert found.effect == pytest.approx(1.8708 * 0.8408, abs=2e-4)
    assert found.improvement == 1.0


@pytest.mark.parametrize(("df", "printed"), [(2, 0.5642), (3, 0.7236), (10, 0.9228), (20, 0.9619), (50, 0.9849)])
def test_hedges_correction_agrees_with_the_printed_table(df, printed):
    assert paired.hedges(df) == pytest.approx(printed, abs=1e-4)


def test_improvement_counts_equal_seeds_half():
    assert stats.compare(arm([1, 2, 3, 4]), arm([0, 2, 4, 3])).improvement == (2 + 0.5) / 4


def test_five_seeds_cannot_reach_the_level_and_six_can():
    five, six = (stats.compare(arm(range(1, n + 1)), arm([0.0] * n)) for n in (5, 6))
    assert (five.enough, five.sign_flip_p, five.attainable) == (False, None, 2 / 32)
    assert (six.enough, six.sign_flip_p, six.attainable) == (True, 2 / 64, 2 / 64)
    assert stats.compare(arm(range(1, 6)), arm([0.0] * 5), level=0.9).sign_flip_p == 2 / 32


def test_only_common_seeds_count_and_their_order_does_not():
    a, b = two_arms(8)
    forward = stats.compare({**arm(a), 99: math.nan}, {**arm(b), 77: 0.0})
    backward = stats.compare(dict(reversed(arm(a).items())), dict(reversed(arm(b).items())))
    assert forward == backward
    assert forward.n == 8


def test_one_seed_says_the_difference_and_nothing_else():
    found = stats.compare({3: 0.98}, {3: 0.97, 4: 0.9})
    assert (found.n, found.sd, found.interval, found.t_p, found.sign_flip_p, found.effect) == (1, *(None,) * 5)
    assert found.mean == pytest.approx(0.01)
    assert not found.enough


def test_equal_arms_are_equal():
    found = stats.compare(arm([0.97] * 8), arm([0.97] * 8))
    assert (found.mean, found.sd, found.interval, found.t_p, found.sign_flip_p) == (0.0, 0.0, None, None, 1.0)
    assert found.improvement == 0.5


# -- Holm


def brute_holm(ps, alpha):
    """Holm's procedure as it is written: rejected or not at one alpha, smallest first, stop at the first that fails."""
    rejected = set()
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        if ps[i] > alpha / (len(ps) - rank):
            break
        rejected.add(i)
    return rejected


def test_holm_rejects_what_the_procedure_rejects():
    rng = np.random.default_rng(0)
    for _ in range(200):
        ps = (rng.uniform(size=6) ** 3).round(3).tolist()
        adjusted = stats.holm(ps)
        for alpha in (0.0501, 0.2003, 0.5007):
            assert {i for i, p in enumerate(adjusted) if p <= alpha} == brute_holm(ps, alpha)


@pytest.mark.slow
def test_holm_agrees_with_statsmodels():
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(1)
    for m in (1, 2, 5, 30):
        ps = (rng.uniform(size=m) ** 2).tolist()
        assert stats.holm(ps) == pytest.approx(tuple(multipletests(ps, method="holm")[1]), rel=1e-12)


def test_what_was_not_tested_counts_in_the_family():
    assert stats.holm([0.01, None, 0.04]) == pytest.approx((0.03, None, 0.08))
    assert stats.holm([None, None]) == (None, None)
    assert stats.holm([]) == ()


# -- power


@pytest.mark.parametrize("effect", [0.1, 0.5, 1.0, 2.5])
def test_seeds_needed_agree_with_statsmodels(effect):
    from statsmodels.stats.power import TTestPower

    n = TTestPower().solve_power(effect, power=0.8, alpha=0.05, alternative="two-sided")
    assert stats.seeds_needed(0.002, 0.002 * effect) == max(6, math.ceil(n))
    assert stats.seeds_needed(0.002, -0.002 * effect) == max(6, math.ceil(n))


def test_power_agrees_with_scipys_noncentral_t():
    for n, effect in ((3, 1.0), (10, 0.7), (40, 0.2)):
        bound, centre = reference.t.ppf(0.975, n - 1), effect * math.sqrt(n)
        expected = reference.nct.sf(bound, n - 1, centre) + reference.nct.cdf(-bound, n - 1, centre)
        assert stats.t_power(2.0, 2.0 * effect, n) == pytest.approx(expected, rel=1e-6)


def test_power_is_there_and_rises_where_libraries_give_nan():
    """statsmodels gives NaN at some of these, SciPy's noncentral F at others; the power is 1 there."""
    for n in (2, 6, 10, 20, 34, 100):
        powers = [stats.t_power(1.0, effect, n) for effect in (0.0, 0.5, 1.0, 2.0, 4.0, 6.9, 8.0, 40.0, 1e4)]
        assert powers[0] == pytest.approx(0.05)
        assert powers == sorted(powers)
        assert powers[-1] == pytest.approx(1.0, abs=1e-3)


def test_smallest_detectable_is_found_with_just_that_power():
    for n in (2, 5, 10, 20):
        difference = stats.smallest_detectable(0.003, n, 0.95, 0.9)
        assert stats.t_power(0.003, difference, n) == pytest.approx(0.9, abs=1e-6)


def test_least_seeds_attain_the_level_and_one_fewer_does_not():
    assert stats.least_seeds() == 6
    for level, comparisons in itertools.product((0.8, 0.9, 0.95, 0.99, 0.999), (1, 2, 5, 40)):
        n, bound = stats.least_seeds(level, comparisons), (1 - level) / comparisons
        assert 2 / 2**n <= bound * (1 + 1e-9)
        assert n == 2 or 2 / 2 ** (n - 1) > bound


# -- the arms that may be best


def brute_best(arms, level=0.95):
    """The rule as a loop over pairs: SciPy's paired test, statsmodels' Holm."""
    from statsmodels.stats.multitest import multipletests

    pairs = list(itertools.combinations(arms, 2))
    tests = [reference.ttest_rel([*arms[a].values()], [*arms[b].values()]) for a, b in pairs]
    rejected = multipletests([test.pvalue for test in tests], alpha=1 - level, method="holm")[0]
    beaten = {a if test.statistic < 0 else b for (a, b), test, no in zip(pairs, tests, rejected, strict=True) if no}
    return frozenset(arms) - beaten


@pytest.mark.slow
def test_the_set_that_may_be_best_is_what_the_rule_says():
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(8):
        values = rng.normal(size=(5, 8)) + 2 * rng.normal(size=(5, 1)) + rng.normal(size=8)
        arms = {name: arm(row.tolist()) for name, row in zip("abcde", values, strict=True)}
        found = stats.indistinguishable_from_best(arms)
        assert found == brute_best(arms)
        assert max(arms, key=lambda name: sum(arms[name].values())) in found
        sizes.add(len(found))
    assert len(sizes) > 2, "the draws show small sets and large ones"


def test_two_arms_that_the_comparison_does_not_tell_apart_are_both_marked():
    """p = 0.09, two-sided: half of that, one-sided, must not crown one of them."""
    a, b = arm([0.5, 0.0, 0.6, 0.3, -0.2, 0.9]), arm([0.0] * 6)
    assert 0.05 < stats.compare(a, b).t_p < 0.1
    assert stats.indistinguishable_from_best({"a": a, "b": b}) == {"a", "b"}


def test_diverged_arms_are_neither_best_nor_in_the_way():
    clear = {"a": arm([5.0, 5.1, 5.2, 5.1]), "b": arm([3.0, 3.1, 3.3, 3.2]), "c": arm([3.0, 3.2, 3.1, 3.2])}
    assert stats.indistinguishable_from_best(clear) == {"a"}
    assert stats.indistinguishable_from_best(clear, ["a"]) == {"b", "c"}
    assert stats.indistinguishable_from_best(clear, ["a", "b", "c"]) == frozenset()
    assert stats.indistinguishable_from_best({"a": {0: 1.0}}) == {"a"}


def test_what_cannot_be_compared_is_not_told_apart():
    ahead = arm([5.0, 5.1, 5.2, 5.1])
    assert stats.indistinguishable_from_best({"a": ahead, "b": {0: 1.0}}) == {"a", "b"}
    assert stats.indistinguishable_from_best({"a": ahead, "b": {90: 1.0, 91: 1.1}}) == {"a", "b"}
    assert stats.indistinguishable_from_best({"a": arm([1.0] * 5), "b": arm([0.0] * 5)}) == {"a", "b"}
    # rounding leaves 1e-17 between these differences
    assert stats.indistinguishable_from_best({"a": arm([0.3, 0.2, 1.1]), "b": arm([0.2, 0.1, 1.0])}) == {"a", "b"}


def test_arms_that_beat_each_other_in_a_circle_are_not_told_apart():
    low, high = [0.0, 0.01, 0.0], [9.0, 9.01, 9.02]
    arms = {
        "a": dict(enumerate(high)) | {i + 20: v for i, v in enumerate(low)},
        "b": dict(enumerate(low)) | {i + 10: v for i, v in enumerate(high)},
        "c": {i + 10: v for i, v in enumerate(low)} | {i + 20: v for i, v in enumerate(high)},
    }
    assert stats.indistinguishable_from_best(arms) == {"a", "b", "c"}


# -- McNemar, prediction


def test_mcnemar_agrees_with_the_binomial_test():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, size=500)
    a, b = (np.where(rng.uniform(size=500) < share, labels, (labels + 1) % 10) for share in (0.95, 0.9))
    found = stats.mcnemar(a, b, labels)
    assert found.b == ((a == labels) & (b != labels)).sum()
    assert found.c == ((a != labels) & (b == labels)).sum()
    assert found.p == pytest.approx(reference.binomtest(found.b, found.b + found.c).pvalue)


def test_mcnemar_by_hand():
    # a alone is right on 5 images, b alone on none: 2 * (1/2)^5
    assert stats.mcnemar([1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 0, 2]) == (5, 0, 2 / 32)
    assert stats.mcnemar([1, 0], [1, 0], [1, 1]) == (0, 0, 1.0)


def test_prediction_interval_agrees_with_statsmodels():
    import statsmodels.api as sm

    values = [0.981, 0.984, 0.979, 0.9835, 0.982]
    frame = sm.OLS(values, np.ones(5)).fit().get_prediction([1.0]).summary_frame(alpha=0.1)
    expected = (frame.obs_ci_lower[0], frame.obs_ci_upper[0])
    assert stats.prediction_interval(values, 0.9) == pytest.approx(expected, rel=1e-9)
    assert stats.prediction_interval([0.5, 0.5]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.compare({0: 1.0}, {1: 1.0}), "no seed in common"),
        (lambda: stats.compare({0: 1.0, 1: math.nan}, {0: 1.0, 1: 2.0}), "seed 1: values must be finite"),
        (lambda: stats.compare({0: 1.0}, {0: 1.0}, 95), "level=95"),
        (lambda: stats.sign_flip_p([]), "at least one"),
        (lambda: stats.holm([0.1, 1.2]), r"p=1\.2"),
        (lambda: stats.holm([math.nan]), "p=nan"),
        (lambda: stats.seeds_needed(0.0, 1.0), r"sd=0\.0"),
        (lambda: stats.seeds_needed(1.0, 0.0), "difference=0"),
        (lambda: stats.seeds_needed(1.0, math.inf), "difference=inf"),
        (lambda: stats.seeds_needed(1.0, 1e-9), "more than 1,000,000"),
        (lambda: stats.seeds_needed(1.0, 1.0, power=1.0), r"power=1\.0"),
        (lambda: stats.smallest_detectable(1.0, 1), "n=1"),
        (lambda: stats.smallest_detectable(1.0, 5, power=0.04), r"power=0\.04"),
        (lambda: power.least_seeds(0.95, 0), "comparisons=0"),
        (lambda: stats.indistinguishable_from_best({"a": {0: 1.0}, "b": {}}), "arm b: has no values"),
        (lambda: stats.indistinguishable_from_best({"a": {0: 1.0}, "b": {0: math.inf}}), "arm b: values must be"),
        (lambda: stats.mcnemar([1], [1, 2], [1, 2]), "one of each"),
        (lambda: stats.mcnemar([], [], []), "one of each"),
        (lambda: stats.prediction_interval([1.0]), "at least 2"),
    ],
)
def test_what_cannot_be_computed_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
