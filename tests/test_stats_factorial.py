"""Factorial effects and bootstrap intervals: against explicit contrasts, statsmodels and a plain loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as reference

from lenet_lab import stats
from lenet_lab.stats.factorial import hotelling_p

POOLS, NORMS = ("avg", "max"), ("none", "bn", "gn")


def study(n=7, levels=(POOLS, NORMS), seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=n)
    return {key: dict(enumerate((rng.normal(size=n) + shared).tolist())) for key in itertools.product(*levels)}


def values(cells, key):
    return np.array([cells[key][seed] for seed in sorted(cells[key])])


def test_effects_of_two_levels_are_contrasts_within_the_seed():
    cells = study(levels=(POOLS, ("none", "bn")))
    found = stats.factorial(cells, ("pool", "norm"), 0.9)
    avg_none, avg_bn, max_none, max_bn = (values(cells, key) for key in itertools.product(POOLS, ("none", "bn")))
    pool = (max_none + max_bn - avg_none - avg_bn) / 4
    test = reference.ttest_1samp(pool, 0.0)
    effect = found.main["pool"].effects["max"]
    assert effect.mean == pytest.approx(pool.mean())
    assert effect.interval == pytest.approx(tuple(test.confidence_interval(0.9)))
    assert found.main["pool"].test.p == pytest.approx(test.pvalue)
    both = (max_bn - max_none - avg_bn + avg_none) / 4
    test = reference.ttest_1samp(both, 0.0)
    interaction = found.interactions["pool", "norm"]
    assert interaction.effects["max", "bn"].mean == pytest.approx(both.mean())
    assert interaction.effects["max", "bn"].interval == pytest.approx(tuple(test.confidence_interval(0.9)))
    assert interaction.effects["avg", "bn"].mean == pytest.approx(-both.mean())
    assert interaction.test.p == pytest.approx(test.pvalue)
    assert interaction.means["max", "bn"].mean == pytest.approx(max_bn.mean())
    assert found.grand.mean == pytest.approx(np.mean([avg_none, avg_bn, max_none, max_bn]))


def test_effects_agree_with_least_squares_on_sum_coded_factors():
    import pandas as pd
    import statsmodels.formula.api as smf

    cells = study()
    rows = [(*key, str(seed), value) for key, of in cells.items() for seed, value in of.items()]
    frame = pd.DataFrame(rows, columns=["pool", "norm", "seed", "y"])
    fit = smf.ols("y ~ C(pool, Sum) * C(norm, Sum) + C(seed, Sum)", frame).fit().params
    found = stats.factorial(cells, ("pool", "norm"))
    assert found.main["pool"].effects["avg"].mean == pytest.approx(fit["C(pool, Sum)[S.avg]"])
    assert found.main["norm"].effects["bn"].mean == pytest.approx(fit["C(norm, Sum)[S.bn]"])
    both = fit["C(pool, Sum)[S.avg]:C(norm, Sum)[S.bn]"]
    assert found.interactions["pool", "norm"].effects["avg", "bn"].mean == pytest.approx(both)


def test_joint_tests_agree_with_statsmodels_multivariate_regression():
    from statsmodels.multivariate.multivariate_ols import _MultivariateOLS

    cells = study(n=9)
    found = stats.factorial(cells, ("pool", "norm"))
    none, bn, gn = (sum(values(cells, (pool, norm)) for pool in POOLS) for norm in NORMS)
    # Other contrasts than the code's: the test must not depend on the basis.
    for contrasts, test in (
        (np.stack([bn - none, gn - none], axis=1), found.main["norm"].test),
        (
            np.stack([_apart(cells, "bn"), _apart(cells, "gn")], axis=1),
            found.interactions["pool", "norm"].test,
        ),
    ):
        fit = _MultivariateOLS(contrasts, np.ones((9, 1))).fit()
        table = fit.mv_test([("mean", np.eye(1), np.eye(2))]).results["mean"]["stat"]
        assert test.p == pytest.approx(float(table.loc["Wilks' lambda", "Pr > F"]), rel=1e-6)
        assert (test.df, test.needs) == (2, 3)


def _apart(cells, norm):
    """How much more `norm` adds to max than to avg, seed by seed."""
    by_pool = [values(cells, (pool, norm)) - values(cells, (pool, "none")) for pool in POOLS]
    return by_pool[1] - by_pool[0]


def test_three_factors_are_averaged_over_and_every_pair_is_there():
    levels = (POOLS, NORMS, ("tanh", "relu"))
    cells = study(levels=levels)
    found = stats.factorial(cells, ("pool", "norm", "activation"))
    assert list(found.interactions) == [("pool", "norm"), ("pool", "activation"), ("norm", "activation")]
    mean = np.mean([values(cells, key) for key in cells if key[1] == "bn" and key[2] == "relu"])
    assert found.interactions["norm", "activation"].means["bn", "relu"].mean == pytest.approx(mean)
    effects = [effect.mean for effect in found.main["norm"].effects.values()]
    assert sum(effects) == pytest.approx(0.0, abs=1e-12)
    pooled = {key: cells[(*key, "tanh")] for key in itertools.product(POOLS, NORMS)}
    averaged = {
        key: {seed: (pooled[key][seed] + cells[(*key, "relu")][seed]) / 2 for seed in pooled[key]} for key in pooled
    }
    two = stats.factorial(averaged, ("pool", "norm"))
    assert found.interactions["pool", "norm"].test.p == pytest.approx(two.interactions["pool", "norm"].test.p)


def test_seeds_that_a_combination_lacks_are_left_out_and_named():
    cells = study()
    del cells["max", "bn"][2]
    found = stats.factorial(cells, ("pool", "norm"))
    assert (found.seeds, found.left_out) == ((0, 1, 3, 4, 5, 6), (2,))
    without = {key: {seed: v for seed, v in of.items() if seed != 2} for key, of in cells.items()}
    assert found.main == stats.factorial(without, ("pool", "norm")).main


def test_too_few_seeds_for_a_joint_test_say_how_many_it_takes():
    found = stats.factorial(study(n=2), ("pool", "norm"))
    assert (found.main["norm"].test.p, found.main["norm"].test.needs) == (None, 3)
    assert found.main["pool"].test.p is not None
    assert found.main["norm"].effects["bn"].interval is not None


def test_what_does_not_vary_has_no_interval_and_no_test():
    flat = {key: dict.fromkeys(range(6), 0.1 + 0.2 * (key[0] == "max")) for key in itertools.product(POOLS, NORMS)}
    found = stats.factorial(flat, ("pool", "norm"))
    assert found.main["pool"].effects["max"] == stats.Effect(pytest.approx(0.1), None)
    assert found.main["pool"].test.p is None
    assert found.interactions["pool", "norm"].effects["max", "bn"] == stats.Effect(0.0, None)
    assert found.interactions["pool", "norm"].test.p is None
    # What adds up exactly has no interaction, whatever the seeds do; rounding must not make one.
    adds = {
        (p, n): {s: 0.1 * i + 0.7 * j + 0.013 * s * (1 + i) for s in range(6)}
        for (i, p), (j, n) in itertools.product(enumerate(POOLS), enumerate(NORMS))
    }
    found = stats.factorial(adds, ("pool", "norm"))
    assert found.interactions["pool", "norm"].test.p is None
    assert found.interactions["pool", "norm"].effects["max", "gn"] == stats.Effect(0.0, None)
    assert found.main["pool"].effects["max"].interval is not None


def test_hotelling_by_hand():
    # one contrast: t^2 against F(1, n-1), the two-sided t test
    column = np.array([[0.3], [0.1], [0.4], [-0.1]])
    assert hotelling_p(column) == pytest.approx(reference.ttest_1samp(column[:, 0], 0).pvalue)
    # n = 3, q = 2: mean (1, 1), covariance [[1, .5], [.5, 1]], T2 = 3 * 4/3 = 4, F = 4 * 1 / (2 * 2) = 1;
    # F(2, 1) lies above 1 with chance 1 / sqrt 3
    assert hotelling_p(np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0]])) == pytest.approx(1 / math.sqrt(3))


@pytest.mark.parametrize(
    ("cells", "factors", "message"),
    [
        ({}, ("pool",), "there are none"),
        ({("avg",): {0: 1.0}}, ("pool", "norm"), "2 levels are needed"),
        (study(), (), "one or more different names"),
        (study(), ("pool", "pool"), "one or more different names"),
        (study(levels=(("avg",), NORMS)), ("pool", "norm"), "factor pool: at least two levels are"),
        (
            {key: of for key, of in study().items() if key != ("max", "bn")},
            ("pool", "norm"),
            "missing: pool=max norm=bn$",
        ),
        (study() | {("max", "gn"): {0: 1.0}}, ("pool", "norm"), "1 seeds .* at least 2 are needed; pool=max norm=gn"),
        (study() | {("max", "gn"): {}}, ("pool", "norm"), "0 seeds"),
        (study() | {("max", "gn"): dict.fromkeys(range(7), math.nan)}, ("pool", "norm"), "finite"),
    ],
)  # fmt: skip
def test_an_incomplete_study_is_refused_with_what_is_missing(cells, factors, message):
    with pytest.raises(ValueError, match=message):
        stats.factorial(cells, factors)


# -- bootstrap


def test_bootstrap_t_agrees_with_a_plain_loop():
    values = np.random.default_rng(0).exponential(size=20).tolist()
    ordered = np.sort(values)
    drawn = np.random.default_rng(0).integers(0, 20, size=(999, 20))
    ts = sorted(
        (np.mean(one) - np.mean(values)) / (np.std(one, ddof=1) / math.sqrt(20)) for one in (ordered[i] for i in drawn)
    )
    se = np.std(values, ddof=1) / math.sqrt(20)
    expected = (np.mean(values) - ts[974] * se, np.mean(values) - ts[24] * se)
    assert stats.bootstrap_t_interval(values, resamples=999) == pytest.approx(expected, rel=1e-9)


def test_bootstrap_leans_the_way_the_values_do_and_scales_with_them():
    values = np.random.default_rng(1).exponential(size=24).tolist()
    low, high = stats.bootstrap_t_interval(values)
    assert high - np.mean(values) > np.mean(values) - low
    assert stats.bootstrap_t_interval(values[::-1]) == (low, high)
    assert stats.bootstrap_t_interval([1 + 1e-3 * v for v in values]) == pytest.approx(
        (1 + 1e-3 * low, 1 + 1e-3 * high)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (range(19), "at least 20"),
        ([1.0] * 20, "all values are equal"),
        ([1.0] * 19 + [2.0], "nearly all values are equal"),
        ([*range(19), math.nan], "finite"),
    ],
)
def test_bootstrap_refuses_what_it_cannot_say(values, message):
    with pytest.raises(ValueError, match=message):
        stats.bootstrap_t_interval([float(v) for v in values])


def test_bootstrap_refuses_fewer_resamples_than_the_level_takes():
    with pytest.raises(ValueError, match="resamples=10: too few"):
        stats.bootstrap_t_interval([float(v) for v in range(20)], resamples=10)
