"""Splits: disjoint, stratified, nested, the same for ever."""

import hashlib

import numpy as np
import pytest
from sklearn.model_selection import StratifiedShuffleSplit

from lenet_lab.data import Data, splits
from lenet_lab.records import LabError


@pytest.fixture(scope="module")
def labels():
    """1,000 labels of 5 classes, from 20 to 400 of each."""
    values = np.repeat(np.arange(5, dtype=np.uint8), [400, 300, 200, 80, 20])
    return np.random.RandomState(0).permutation(values)


@pytest.mark.parametrize("size", [0, 1, 37, 200, 999])
def test_hold_out_partitions_the_rows(labels, size):
    kept, held = splits.hold_out(labels, 5, size, seed=3)
    assert len(held) == size
    assert sorted([*kept, *held]) == list(range(1000))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held) > 0).all()


@pytest.mark.parametrize("size", [5, 37, 200, 613])
def test_hold_out_is_as_stratified_as_scikit_learns(labels, size):
    _, held = splits.hold_out(labels, 5, size, seed=3)
    _, theirs = next(StratifiedShuffleSplit(1, test_size=size, random_state=0).split(labels, labels))
    ours, theirs = (np.bincount(labels[rows], minlength=5) for rows in (held, theirs))
    assert abs(ours - theirs).max() <= 1
    assert abs(ours - np.bincount(labels) * size / 1000).max() <= 1


def test_hold_out_depends_on_its_seed_and_is_random_within_a_class(labels):
    held = [frozenset(splits.hold_out(labels, 5, 200, seed)[1]) for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]
    rows = np.flatnonzero(labels == 0)
    taken = np.mean([np.isin(rows, splits.hold_out(labels, 5, 500, seed)[1]) for seed in range(200)], axis=0)
    assert abs(taken - 0.5).max() < 5 * 0.5 / 200**0.5  # every row of the class is as likely as another


def test_subsets_are_nested_and_stratified(labels):
    chosen = [set(splits.subset(labels, 5, size, seed=1)) for size in (50, 100, 400, 1000)]
    assert [len(rows) for rows in chosen] == [50, 100, 400, 1000]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]
    for rows in chosen:
        proportional = np.bincount(labels) * len(rows) / 1000
        assert abs(np.bincount(labels[list(rows)], minlength=5) - proportional).max() <= 1


def test_subset_is_another_draw_than_the_validation_split(labels):
    held = set(splits.hold_out(labels, 5, 300, seed=1)[1])
    assert len(held & set(splits.subset(labels, 5, 300, seed=1))) < 150


def test_per_class(labels):
    small, large = (splits.per_class(labels, 5, size, seed=1) for size in (3, 20))
    assert np.bincount(labels[small]).tolist() == [3] * 5
    assert np.bincount(labels[large]).tolist() == [20] * 5
    assert set(small) < set(large)


def test_draw_is_class_by_class_in_one_stream(labels):
    """Written out as the published code does it: one generator, a choice for each digit."""
    rng, expected = np.random.RandomState(42), []
    for digit in range(5):
        expected.extend(rng.choice(np.where(labels == digit)[0], size=15, replace=False))
    assert splits.draw(labels, 5, 15, 42).tolist() == sorted(expected)


def test_splits_are_the_same_for_ever(labels):
    kept, held = splits.hold_out(labels, 5, 200, seed=7)
    parts = kept, held, splits.subset(labels, 5, 99, seed=7), splits.draw(labels, 5, 20, seed=7)
    digest = hashlib.sha256(np.concatenate(parts).astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "0720862d1418848f"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"val_size": 1437}, "data.val_size=1437: there are 1437 training images; allowed: 0 to 1436"),
        (
            {"val_size": 200, "train_size": 1238},
            "data.train_size=1238: data.val_size=200 leaves fewer training images; allowed: 1 to 1237",
        ),
        (
            {"val_size": 200, "per_class": 120},
            "data.per_class=120: data.val_size=200 leaves fewer training images; allowed: 1 to 119",
        ),
        (
            {"val_size": 0, "per_class": 1, "train_size": 10},
            "data.train_size=10: data.per_class=1 is given too; allowed: one of the two",
        ),
        ({"val_size": 0, "draw_seed": 1}, "data.draw_seed=1: data=digits is not a draw; allowed: null"),
        ({"val_size": 0, "name": "digit"}, "data.name=digit: no such data set; allowed: mnist, "),
        (
            {"val_size": 0, "name": "reduced_mnist"},
            "data.draw_seed: missing; data=reduced_mnist needs a number",
        ),
        (
            {
                "name": "reduced_mnist",
                "draw_seed": 0,
                "train_per_class": 5422,
                "test_per_class": 1,
                "val_size": 0,
            },
            "data.train_per_class=5422: the smallest class has 5421; allowed: 1 to 5421",
        ),
        (
            {
                "name": "reduced_mnist",
                "draw_seed": 0,
                "train_per_class": 1,
                "test_per_class": 893,
                "val_size": 0,
            },
            "data.test_per_class=893: the smallest class has 892; allowed: 1 to 892",
        ),
    ],
)
def test_clashes_are_refused_without_reading_anything(keys, message):
    with pytest.raises(LabError) as refused:
        Data(**{"name": "digits", **keys})
    assert str(refused.value).startswith(message)


def test_the_largest_allowed_sizes_load():
    assert Data(name="digits", val_size=1436).counts() == (1, 1436, 360)
    assert len(Data(name="digits", val_size=200, per_class=119).load().train) == 1190
    assert len(Data(name="digits", val_size=200, train_size=1237).load().train) == 1237
