"""Optimizers, penalties and schedules against torch's own and against the formulas."""

import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from lenet_lab import optim
from lenet_lab.optim.penalty import WeightDecay, add_l1_
from lenet_lab.optim.schedules import Constant, Cosine, MultiStep, OneCycle, Step, WarmUp
from lenet_lab.optim.table import Adam, AdamW, RmsProp, Sgd
from lenet_lab.records import LabError

EPOCHS, PER_EPOCH = 6, 7


def torch_factors(make, each_epoch):
    """The rates that a scheduler of torch makes of 1, one an update; it steps each epoch or each update."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    for step in range(EPOCHS * PER_EPOCH):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < EPOCHS * PER_EPOCH - 1 and (not each_epoch or (step + 1) % PER_EPOCH == 0):
            scheduler.step()
    return factors


def warm_up_then_cosine(optimizer):
    warm, rest = 2 * PER_EPOCH, (EPOCHS - 2) * PER_EPOCH
    line = lr_scheduler.LambdaLR(optimizer, lambda k: (k + 1) / warm)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, rest, eta_min=0.1)
    return lr_scheduler.SequentialLR(optimizer, [line, cosine], [warm])


def one_cycle(optimizer, **kw):
    return lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=EPOCHS * PER_EPOCH, cycle_momentum=False, **kw)


SCHEDULES = [
    (Constant(), lambda o: lr_scheduler.ConstantLR(o, factor=1.0), True),
    (Step(2, 0.5), lambda o: lr_scheduler.StepLR(o, 2, 0.5), True),
    (MultiStep((1, 4, 5), 0.3), lambda o: lr_scheduler.MultiStepLR(o, [1, 4, 5], 0.3), True),
    (Cosine(), lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS * PER_EPOCH), False),
    (Cosine(0.2), lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS * PER_EPOCH, eta_min=0.2), False),
    (OneCycle(), one_cycle, False),
    (
        OneCycle(0.5, 10.0, 100.0),
        lambda o: one_cycle(o, pct_start=0.5, div_factor=10, final_div_factor=100),
        False,
    ),
    (
        WarmUp(2.0),
        lambda o: lr_scheduler.LinearLR(o, 1 / (2 * PER_EPOCH), total_iters=2 * PER_EPOCH - 1),
        False,
    ),
    (WarmUp(2.0, "cosine", 0.1), warm_up_then_cosine, False),
]


@pytest.mark.parametrize(
    ("schedule", "make", "each_epoch"), SCHEDULES, ids=lambda v: getattr(v, "__name__", str(v))[:40]
)
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")
def test_schedules_equal_torch_at_every_update(schedule, make, each_epoch):
    ours = [schedule.factor(step, PER_EPOCH, EPOCHS) for step in range(EPOCHS * PER_EPOCH)]
    assert ours == pytest.approx(torch_factors(make, each_epoch), rel=1e-9, abs=1e-12)


def test_warm_up_may_be_a_part_of_an_epoch():
    factors = [WarmUp(0.5).factor(step, 8, 3) for step in range(6)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("schedule", [s for s, _, _ in SCHEDULES])
@pytest.mark.parametrize(("per_epoch", "epochs"), [(1, 1), (1, 2), (2, 1), (3, 4), (10, 1)])
def test_factors_of_short_runs_are_rates(schedule, per_epoch, epochs):
    factors = [schedule.factor(step, per_epoch, epochs) for step in range(per_epoch * epochs)]
    assert all(math.isfinite(f) and 0 <= f <= 1 for f in factors)


def test_milestones_must_rise():
    with pytest.raises(LabError, match=r"schedule.milestones=\[4, 2\]"):
        MultiStep((4, 2))


def quadratic_steps(optimizer_of, l1=0.0):
    """Two parameters pulled to a fixed aim for 20 updates."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    bias = nn.Parameter(torch.tensor([0.5]))
    optimizer = optimizer_of([weight, bias])
    for _ in range(20):
        optimizer.zero_grad()
        ((weight - 0.3) ** 2).sum().add((bias + 1) ** 2).sum().backward()
        add_l1_([weight, bias], l1)
        optimizer.step()
    return torch.cat([weight, bias]).detach()


OPTIMIZERS = [
    (Sgd(), lambda p: torch.optim.SGD(p, lr=0.02, weight_decay=0.1)),
    (Sgd(0.9), lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=0.1)),
    (Sgd(0.9, True), lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.1)),
    (Adam((0.8, 0.99), 1e-6), lambda p: torch.optim.Adam(p, 0.02, (0.8, 0.99), 1e-6, 0.1)),
    (Adam(amsgrad=True), lambda p: torch.optim.Adam(p, lr=0.02, amsgrad=True, weight_decay=0.1)),
    (AdamW((0.8, 0.99), 1e-6), lambda p: torch.optim.AdamW(p, 0.02, (0.8, 0.99), 1e-6, 0.1)),
    (RmsProp(0.9, 1e-6, 0.5), lambda p: torch.optim.RMSprop(p, 0.02, 0.9, 1e-6, 0.1, 0.5)),
]


@pytest.mark.parametrize(("spec", "make"), OPTIMIZERS, ids=lambda v: getattr(v, "__name__", str(v))[:40])
@pytest.mark.parametrize("fused", [False, True])
def test_optimizers_are_torchs_with_their_parameters(spec, make, fused):
    ours = quadratic_steps(lambda p: spec.build(p, 0.02, 0.1, fused=fused))
    torch.testing.assert_close(ours, quadratic_steps(make), rtol=1e-5, atol=1e-6)


def test_decay_is_coupled_in_adam_and_decoupled_in_adamw():
    """Where the loss has no gradient, AdamW takes lr * decay of the weight off, Adam takes lr."""
    for spec, expected in [(Adam(), 2.0 - 0.01), (AdamW(), 2.0 * (1 - 0.01 * 0.1))]:
        weight = nn.Parameter(torch.tensor([2.0]))
        weight.grad = torch.zeros(1)
        spec.build([weight], 0.01, 0.1).step()
        assert weight.item() == pytest.approx(expected, rel=1e-6)


def test_nesterov_needs_momentum():
    with pytest.raises(LabError, match=r"optimizer\.nesterov=true"):
        Sgd(nesterov=True)


def test_l1_is_the_gradient_of_the_sum_of_absolute_values():
    weight = nn.Parameter(torch.tensor([1.5, -2.0, 0.0]))
    frozen = nn.Parameter(torch.ones(2))
    loss = (weight**3).sum()
    expected = torch.autograd.grad(loss + 0.3 * weight.abs().sum(), weight, retain_graph=True)[0]
    loss.backward()
    add_l1_([weight, frozen], 0.3)
    torch.testing.assert_close(weight.grad, expected)
    assert frozen.grad is None


def test_a_penalty_is_l2_or_l1():
    assert (WeightDecay(0.1).l2, WeightDecay(0.1).l1) == (0.1, 0.0)
    assert (WeightDecay(0.1, "l1").l2, WeightDecay(0.1, "l1").l1) == (0.0, 0.1)
    plain = quadratic_steps(lambda p: torch.optim.SGD(p, lr=0.1))
    pulled = quadratic_steps(lambda p: torch.optim.SGD(p, lr=0.1), l1=0.2)
    torch.testing.assert_close(pulled, plain - 0.1 * plain.sign(), atol=2e-2, rtol=0)


def test_defaults_descend_from_their_bases():
    assert set(optim.DEFAULTS) == set(optim.BASES)
    assert all(issubclass(optim.DEFAULTS[group], base) for group, base in optim.BASES.items())
