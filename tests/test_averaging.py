"""Weight averaging: held against torch's own, resumed to the bit, and no reason to train what was trained before."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lenet_lab.cell import make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.keys import identity
from lenet_lab.optim.averaging import Exponential, NoAveraging, Stochastic, blend_
from tests.test_engine import Killed, config_of, figures, fit, killer, same


def walk(net, updates):
    """A network on a random walk, after each update."""
    generator = torch.Generator().manual_seed(0)
    for count in range(1, updates + 1):
        with torch.no_grad():
            for tensor in (*net.parameters(), *net.buffers()):
                if tensor.is_floating_point():
                    tensor.add_(torch.randn(tensor.shape, generator=generator))
                else:
                    tensor.add_(1)
        yield count


def test_the_exponential_average_is_torchs_once_its_decay_is_reached():
    """With a decay of 0.5 the warm-up ends with the ninth update; from there on torch's averaging goes the same way."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    ours, rule, theirs = copy.deepcopy(net), Exponential(0.5), None
    for count in walk(net, 20):
        blend_(ours, net, rule.share(count, 5, 4))
        if count == 9:
            theirs = AveragedModel(ours, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
            theirs.n_averaged.fill_(1)
        elif theirs is not None:
            theirs.update_parameters(net)
    for mine, torchs in zip(ours.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(mine, torchs)
    torch.testing.assert_close(ours[1].running_mean, theirs.module[1].running_mean)
    assert int(ours[1].num_batches_tracked) == 20


def test_the_first_updates_are_soon_forgotten():
    rule = Exponential(0.998)
    assert rule.share(1, 10, 10) == pytest.approx(0.9)
    assert rule.share(10**6, 10, 10) == pytest.approx(0.002)


def test_stochastic_averaging_is_the_mean_of_the_last_epochs_ends():
    net = nn.Linear(3, 2)
    average, ends, rule = copy.deepcopy(net), [], Stochastic(start=0.5)
    for count in walk(net, 4 * 6):
        blend_(average, net, rule.share(count, steps_per_epoch=4, epochs=6))
        if count % 4 == 0:
            ends.append(net.weight.detach().clone())
            whole = torch.stack(ends[3:] if len(ends) > 3 else ends[-1:]).mean(0)
            torch.testing.assert_close(average.weight, whole)


@pytest.mark.parametrize("option", ["ema averaging.decay=0.9", "swa averaging.start=0.25"])
def test_a_resumed_average_equals_an_uninterrupted_one(option, tmp_path):
    name, key = option.split()
    config = config_of("epochs=4", "norm=bn", "dropout=0.2", f"averaging={name}", key)
    whole = fit(config)
    with pytest.raises(Killed):
        fit(config, tmp_path, sink=killer(2))
    resumed = fit(config, tmp_path)
    assert resumed.resumed_from == 2
    assert same(resumed.last, whole.last)
    assert same(resumed.best, whole.best)
    assert figures(resumed) == figures(whole)


def test_averaging_changes_what_is_tested_and_not_how_it_trains():
    plain, averaged = (fit(config_of("epochs=3", f"averaging={name}")) for name in ("none", "ema"))
    assert [row["train/loss"] for row in plain.log_book] == [row["train/loss"] for row in averaged.log_book]
    assert not same(plain.last, averaged.last)
    assert [row["val/loss"] for row in plain.log_book] != [row["val/loss"] for row in averaged.log_book]


CLEAN = "augment.clean_epochs=2"


def test_a_run_without_what_came_later_keeps_the_key_that_it_had_before():
    plain = compose_cell()
    assert "averaging" in plain.resolved
    assert "averaging" not in identity(plain.resolved)
    assert "noise" not in identity(plain.resolved)["data"]
    assert identity(compose_cell(["data.noise=0.1"]).resolved)["data"]["noise"] == 0.1
    assert identity(compose_cell(["averaging=ema"]).resolved)["averaging"]["decay"] == 0.998
    affine = [identity(compose_cell(["augment=affine", *words]).resolved)["augment"] for words in ((), (CLEAN,))]
    assert [one.get("clean_epochs") for one in affine] == [None, 2]
    # digests that were tracked before
    assert make_ready(compose_cell(["data=digits", "augment=affine"])).key.startswith("9e8c8ddb0d751106")
    assert make_ready(compose_cell()).arm.startswith("b9459196ac04b4b5")
    assert not NoAveraging.on
