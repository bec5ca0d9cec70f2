"""LeNet-5: parameter counts, seeds, the layer table, and every option of every group learning."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml
from pydantic import TypeAdapter

from lenet_lab import blocks, models, objectives, optim
from lenet_lab.blocks.dropout import Dropout, DropoutRate, dropout_keys, set_dropout_keys
from lenet_lab.blocks.head import LinearHead, RbfHead
from lenet_lab.blocks.init import Init
from lenet_lab.blocks.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, NoNorm
from lenet_lab.blocks.pool import Pool, StridedConvolution
from lenet_lab.models import LeNet5, Parts, build, layer_table, render_table
from lenet_lab.models.lenet5 import Order
from lenet_lab.records import LabError

CONF = Path(__file__).parents[1] / "conf"
DEFAULTS = {**blocks.DEFAULTS, **models.DEFAULTS, **objectives.DEFAULTS, **optim.DEFAULTS}
BASES = {**blocks.BASES, **models.BASES, **objectives.BASES, **optim.BASES}
OPTIONS = [(group, path.stem) for group in BASES for path in sorted((CONF / group).glob("*.yaml"))]
CLASSICAL = [("model", name) for name in ("kmeans", "knn", "logreg", "random_forest", "svm")]  # test_classical.py
BASELINE = Parts(
    pool=Pool("avg"),
    norm=NoNorm(),
    activation=blocks.Activation("tanh"),
    dropout=DropoutRate(0.0),
    head=LinearHead(),
    init=Init("default"),
    in_shape=(1, 28, 28),
    classes=10,
    seed=0,
)


def option(group, name):
    """An option's file as the object that it stands for, every key checked."""
    text = (CONF / group / f"{name}.yaml").read_text()
    node = yaml.safe_load(text)
    if "@package _global_" in text:
        node = node[group]
    module, _, cls = node.pop("_target_", "").rpartition(".")
    kind = getattr(importlib.import_module(module), cls) if module else DEFAULTS[group]
    assert issubclass(kind, BASES[group])
    assert set(node) == set(kind.__dataclass_fields__), "the file shows every key there is"
    return TypeAdapter(kind).validate_json(json.dumps(node), strict=True)


def count(net):
    return sum(p.numel() for p in net.parameters())


def images(n=4, shape=(1, 28, 28), seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


# What is built


@pytest.mark.parametrize(
    ("model", "parts", "parameters"),
    [
        (LeNet5(), BASELINE, 44_426),
        (LeNet5(padding=2), BASELINE, 61_706),
        (LeNet5(), replace(BASELINE, in_shape=(1, 32, 32)), 61_706),
        (LeNet5(padding=2), replace(BASELINE, norm=BatchNorm()), 61_750),
        (LeNet5(), replace(BASELINE, norm=LayerNorm("fc")), 44_426 + 2 * (120 + 84)),
        (LeNet5(), replace(BASELINE, pool=StridedConvolution()), 44_426 + 6 * 25 + 16 * 65),
        (LeNet5(maps=(4,), units=(5,)), BASELINE, 4 * 26 + (4 * 144 + 1) * 5 + 6 * 10),
    ],
)
def test_parameter_counts(model, parts, parameters):
    net = build(model, parts)
    assert count(net) == parameters
    assert net.training
    assert net(images(3, parts.in_shape)).shape == (3, 10)


def test_layers_of_the_baseline():
    net = build(LeNet5(), BASELINE)
    stages = [f"conv{i}{part}" for i in (1, 2) for part in ("", "_act", "_pool")]
    assert [name for name, _ in net.named_children()] == [
        *stages,
        "flatten",
        "fc1",
        "fc1_act",
        "fc2",
        "fc2_act",
        "head",
    ]


@pytest.mark.parametrize("order", get_args(Order))
def test_a_stage_follows_its_order(order):
    net = build(LeNet5(order=order), replace(BASELINE, norm=BatchNorm()))
    names = [name.removeprefix("conv2_") for name, _ in net.named_children() if name.startswith("conv2_")]
    assert names == order.split("-")[1:]
    assert net(images()).shape == (4, 10)
    assert len(get_args(Order)) == 6


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("fc", ["fc1_drop", "fc2_drop"]),
        ("flatten", ["flatten_drop"]),
        ("conv", ["conv1_drop", "conv2_drop"]),
    ],
)
def test_dropout_sits_where_it_is_told(place, names):
    net = build(LeNet5(), replace(BASELINE, dropout=DropoutRate(0.5, place)))
    assert [name for name, module in net.named_modules() if isinstance(module, Dropout)] == names
    layers = [name for name, _ in net.named_children()]
    before = {"fc1_drop": "fc1_act", "flatten_drop": "flatten", "conv1_drop": "conv1_pool"}[names[0]]
    assert layers.index(names[0]) == layers.index(before) + 1


@pytest.mark.parametrize(
    ("model", "parts", "message"),
    [
        (LeNet5(kernel=13), BASELINE, "model.kernel=13 does not fit the 8x8 maps that conv2 sees"),
        (LeNet5(maps=(4, 4, 4), kernel=4), BASELINE, "conv3 leaves 1x1 maps, none to pool"),
        (LeNet5(), replace(BASELINE, norm=GroupNorm(groups=5)), "norm.groups=5 does not divide"),
        (
            LeNet5(order="conv-pool-norm-act", maps=(4, 4, 4), kernel=3),
            replace(BASELINE, norm=InstanceNorm()),
            "norm=in",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_one_line(model, parts, message):
    with pytest.raises(LabError, match=message) as refusal:
        build(model, parts)
    assert "\n" not in str(refusal.value)
    assert "allowed: " in str(refusal.value)


# Seeds


def test_a_seed_gives_the_same_bits_and_leaves_the_global_generator():
    before = torch.random.get_rng_state()
    first, again = (build(LeNet5(), BASELINE).state_dict() for _ in range(2))
    other = build(LeNet5(), replace(BASELINE, seed=1)).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(1)
    later = build(LeNet5(), BASELINE).state_dict()
    for name, value in first.items():
        assert torch.equal(value, again[name])
        assert torch.equal(value, later[name])
        assert not torch.equal(value, other[name])


@pytest.mark.parametrize(
    "change",
    [
        {"norm": BatchNorm("all")},
        {"pool": StridedConvolution()},
        {"dropout": DropoutRate(0.5)},
        {"activation": blocks.Activation("relu")},
    ],
    ids=str,
)
def test_a_variant_starts_from_the_weights_of_the_baseline(change):
    plain = build(LeNet5(), BASELINE).state_dict()
    changed = build(LeNet5(), replace(BASELINE, **change)).state_dict()
    for name, value in plain.items():
        assert torch.equal(value, changed[name]), name


def test_no_two_parameters_share_a_draw():
    net = build(LeNet5(maps=(4, 4), units=(64, 64)), replace(BASELINE, pool=StridedConvolution()))
    weights = dict(net.named_parameters())
    assert not torch.equal(weights["conv1_pool.weight"], weights["conv2_pool.weight"])


def test_norms_start_at_one_and_zero():
    net = build(LeNet5(), replace(BASELINE, norm=BatchNorm("all"), init=Init("he_normal", bias=0.3)))
    for name, parameter in net.named_parameters():
        if "_norm." in name:
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight"))))
        elif name.endswith("bias"):
            assert torch.equal(parameter, torch.full_like(parameter, 0.3))


def test_he_weights_have_their_spread():
    net = build(LeNet5(), replace(BASELINE, init=Init("he_normal")))
    weight = net.get_parameter("fc1.weight").detach()
    assert float(weight.std()) == pytest.approx((2 / 256) ** 0.5, rel=0.03)


# The layer table


def test_the_table_counts_as_the_1998_paper_does():
    """The padded net, whose second convolution sees all maps; a pool has 4 inputs an output and no bias."""
    net = build(LeNet5(padding=2), BASELINE)
    rows = {row.name: row for row in layer_table(net, (1, 28, 28))}
    assert (rows["conv1"].parameters, rows["conv1"].connections) == (156, 122_304)
    assert rows["conv1"].formula == "(1*5*5 + 1)*6"
    assert rows["conv1"].output == "6x28x28"
    assert rows["conv1"].macs == 28 * 28 * 25 * 6
    assert (rows["conv2"].parameters, rows["conv2"].connections) == (2416, 241_600)
    assert rows["conv1_pool"].connections == 5_880 - 14 * 14 * 6
    assert (rows["fc1"].parameters, rows["fc1"].connections) == (48_120, 48_120)
    assert (rows["fc2"].parameters, rows["fc2"].formula) == (10_164, "(120 + 1)*84")
    assert rows["head"].macs == 840


@pytest.mark.parametrize(
    "parts",
    [
        BASELINE,
        replace(BASELINE, norm=BatchNorm("all"), pool=StridedConvolution(3), dropout=DropoutRate(0.5)),
        replace(BASELINE, norm=LayerNorm("all"), in_shape=(3, 32, 32), classes=7),
    ],
)
def test_formulas_come_to_the_parameters(parts):
    net = build(LeNet5(), parts)
    net.get_submodule("fc1_act").eval()
    rows = layer_table(net, parts.in_shape)
    assert sum(row.parameters for row in rows) == count(net)
    for row in rows:
        assert eval(row.formula or "0") == row.parameters  # the formulas are ours
    assert net.training
    assert not net.get_submodule("fc1_act").training
    text = render_table(rows)
    assert text.splitlines()[-1].split()[:2] == ["total", f"{count(net):,}"]


# Transformations


def fitted(parts, seed=0):
    """A net whose norms have seen a batch."""
    net = build(LeNet5(), replace(parts, seed=seed))
    net(images(8, seed=5))
    return net


EXPORTED = [
    replace(BASELINE, norm=BatchNorm("all"), dropout=DropoutRate(0.5)),
    replace(
        BASELINE,
        norm=LayerNorm("all"),
        pool=StridedConvolution(),
        activation=blocks.Activation("scaled_tanh"),
    ),
    replace(BASELINE, norm=GroupNorm(), pool=Pool("max"), activation=blocks.Activation("gelu")),
    replace(BASELINE, norm=InstanceNorm()),
]


@pytest.mark.parametrize("parts", EXPORTED, ids=["bn", "ln", "gn", "in"])
def test_an_exported_net_takes_any_batch(parts):
    net = fitted(parts).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(net, (images(2),), dynamic_shapes=({0: batch},))
    for n in (1, 2, 33):
        torch.testing.assert_close(program.module()(images(n)), net(images(n)))


@pytest.mark.parametrize("parts", EXPORTED, ids=["bn", "ln", "gn", "in"])
def test_nets_under_vmap_equal_each_alone(parts):
    """Outputs, gradients and running statistics of three training nets at once."""
    nets = [fitted(parts, seed) for seed in range(3)]
    objective, x, targets = objectives.CrossEntropy(), images(6), torch.arange(6)
    keys = [dropout_keys(net, seed, step=3) for seed, net in enumerate(nets)]
    params, buffers = torch.func.stack_module_state(nets)
    buffers = buffers | {name: torch.stack([key[name] for key in keys]) for name in keys[0]}

    def loss(params, buffers):
        return objective.loss(torch.func.functional_call(nets[0], (params, buffers), (x,)), targets).mean()

    grads, losses = torch.func.vmap(torch.func.grad_and_value(loss))(params, buffers)
    for seed, net in enumerate(nets):
        set_dropout_keys(net, seed, step=3)
        alone = objective.loss(net(x), targets).mean()
        alone.backward()
        torch.testing.assert_close(losses[seed], alone.detach())
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(grads[name][seed], parameter.grad, atol=1e-5, rtol=1e-4)
        for name, buffer in net.named_buffers():
            torch.testing.assert_close(buffers[name][seed], buffer)


# Every option learns


def patches():
    """64 noisy images of 4 classes: the corner that is bright."""
    targets = torch.arange(64) % 4
    x = images(64) * 0.3
    for i, corner in enumerate(targets.tolist()):
        row, column = 14 * (corner // 2), 14 * (corner % 2)
        x[i, 0, row + 3 : row + 11, column + 3 : column + 11] += 1.5
    return x, targets


RATES = {"sgd": 0.1, "momentum": 0.02, "nesterov": 0.02, "sdlm": 0.002, "sdlm_damped": 0.05}
# What an option needs beside it; Gaussians over 84 features start on a plateau and learn in test_heads.py.
PARTNERS = {
    ("head", "rbf_fixed"): {"loss": objectives.RbfMse()},
    ("head", "rbf_trainable"): {"loss": objectives.Map()},
    ("loss", "rbf_mse"): {"head": RbfHead()},
    ("loss", "map"): {"head": RbfHead()},
    ("model", "lenet5_1998"): {"in_shape": (1, 32, 32)},
}
SLOW_TO_START = [("head", "rbf_gaussian")]


@pytest.mark.slow
@pytest.mark.parametrize(("group", "name"), [pair for pair in OPTIONS if pair not in CLASSICAL + SLOW_TO_START])
def test_every_option_builds_and_learns(group, name):
    chosen = option(group, name)
    settings = {"schedule": optim.schedules.Constant(), "weight_decay": optim.WeightDecay(0.0)}
    settings |= {"optimizer": optim.table.Adam(), "loss": objectives.CrossEntropy(), group: chosen}
    settings |= PARTNERS.get((group, name), {})
    fields = {key: value for key, value in settings.items() if key in (*blocks.DEFAULTS, "in_shape")}
    parts = replace(BASELINE, classes=4, **fields)
    net = build(settings.get("model", LeNet5()), parts)
    decay, schedule, objective = settings["weight_decay"], settings["schedule"], settings["loss"]
    rate = RATES.get(name, 0.003)
    optimizer = settings["optimizer"].build(net.parameters(), rate, decay.l2)
    x, targets = patches()
    x = torch.nn.functional.pad(x, [(parts.in_shape[1] - 28) // 2] * 4)

    def evaluate():
        with torch.no_grad():
            outputs = net.eval()(x)
        net.train()
        right = (objective.predict(outputs) == targets).float().mean()
        return float(objective.loss(outputs, targets).mean()), float(right)

    before, _ = evaluate()
    for step in range(60):
        set_dropout_keys(net, seed=0, step=step)
        optimizer.param_groups[0]["lr"] = rate * schedule.factor(step, 12, 5)
        optimizer.zero_grad()
        half = slice(0, 32) if step % 2 else slice(32, 64)
        objective.loss(net(x[half]), targets[half]).mean().backward()
        optim.add_l1_(net.parameters(), decay.l1)
        optimizer.step()
    after, right = evaluate()
    assert after < 0.6 * before
    assert right > 0.9


def test_every_row_of_a_table_has_its_file():
    files = {(group, name) for group, name in OPTIONS}
    for group, table in [
        ("pool", blocks.pool.POOLS),
        ("activation", blocks.activation.ACTIVATIONS),
        ("init", blocks.init.SCHEMES),
    ]:
        for name in table:
            assert (group, name) in files
            assert option(group, name).name == name
