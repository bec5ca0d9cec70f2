"""The network of the 1998 paper: its counts layer by layer, its connections, its parts as factors."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from lenet_lab.blocks.init import BOUNDS, SCHEMES, Init
from lenet_lab.blocks.pool import Subsample, Sum2x2
from lenet_lab.cell import build, make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import parse
from lenet_lab.models import layer_table, render_table
from lenet_lab.models.lenet1998 import TABLE_1
from lenet_lab.models.partial import PartialConv2d
from lenet_lab.optim.schedules import Stairs
from lenet_lab.records import LabError

# layer: trainable parameters, connections (the paper, section II.B)
PAPER = {
    "c1": (156, 122_304),
    "s2": (12, 5_880),
    "c3": (1_516, 151_600),
    "s4": (32, 2_000),
    "c5": (48_120, 48_120),
    "f6": (10_164, 10_164),
    "head": (0, 840),
}


def config_of(*words):
    return parse(compose_cell(["model=lenet5_1998", *words]).resolved)


def net_of(*words):
    return build(config_of(*words))


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# counts


def test_parameters_and_connections_are_the_papers_layer_by_layer():
    net = net_of()
    rows = {row.name: (row.parameters, row.connections) for row in layer_table(net, (1, 32, 32))}
    assert {name: rows.pop(name) for name in PAPER} == PAPER
    assert set(rows.values()) == {(0, 0)}, "squashes and the flattening have neither"
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 60_000
    assert sum(connections for _, connections in PAPER.values()) == 340_908
    total = render_table(layer_table(net, (1, 32, 32))).splitlines()[-1].split()
    assert total[:3] == ["total", "60,000", "340,908"]


def test_sizes_and_squashes_are_the_papers():
    rows = layer_table(net_of(), (1, 32, 32))
    shapes = {row.name: row.output for row in rows}
    expected = {"c1": "6x28x28", "s2": "6x14x14", "c3": "16x10x10", "s4": "16x5x5", "c5": "120x1x1", "f6": "84"}
    assert {name: shapes[name] for name in expected} == expected
    assert shapes["head"] == "10"
    assert [row.name for row in rows if row.kind == "ScaledTanh"] == [
        f"{layer}_act" for layer in ("c1", "s2", "c3", "s4", "c5", "f6")
    ]


def test_formulas_come_to_the_parameters():
    for words in ([], ["model.c3=full"], ["head=rbf_trainable"], ["pool=conv"]):
        rows = layer_table(net_of(*words), (1, 32, 32))
        assert sum(row.parameters for row in rows) == sum(p.numel() for p in net_of(*words).parameters())
        for row in rows:
            assert eval(row.formula or "0") == row.parameters  # the formulas are ours


@pytest.mark.parametrize(
    ("words", "parameters"),
    [
        (["model.c3=full"], 60_000 - 1_516 + 2_416),
        (["pool=avg"], 60_000 - 44),
        (["head=rbf_trainable"], 60_840),
        (["head=linear", "loss=cross_entropy"], 60_850),
        (["norm=bn", "optimizer=sgd"], 60_000 + 2 * 22),
        (["norm=bn", "norm.place=all", "optimizer=sgd"], 60_000 + 2 * (22 + 120 + 84)),
    ],
)
def test_its_parts_are_factors(words, parameters):
    assert sum(p.numel() for p in net_of(*words).parameters()) == parameters


@pytest.mark.parametrize(("place", "after"), [("fc", ["c5", "f6"]), ("conv", ["s2", "s4"]), ("flatten", ["flatten"])])
def test_dropout_sits_where_it_is_told(place, after):
    names = [name for name, _ in net_of("dropout=0.5", f"dropout.place={place}").named_children()]
    assert [name for name in names if name.endswith("_drop")] == [f"{layer}_drop" for layer in after]
    assert names.index(f"{after[-1]}_drop") in {names.index("f6_act") + 1, names.index("s4_act") + 1}


def test_another_input_is_refused():
    with pytest.raises(LabError, match=r"^data\.size=28: model=lenet5_1998 sees 32x32 images; allowed: 32$"):
        make_ready(compose_cell(["model=lenet5_1998", "data=digits", "data.size=28"]))


def test_the_command_line_changes_what_the_model_brings():
    config = config_of()
    assert (config.batch_size.value, config.lr.value, config.epochs, config.order) == (1, 5e-4, 20, "fixed")
    assert (config.data.size, config.data.fit, config.data.normalize) == (32, "pad", "lecun1998")
    changed = config_of("epochs=3", "order=shuffle", "lr=0.01", "batch_size=32", "pool=max", "data.normalize=unit")
    assert (changed.batch_size.value, changed.lr.value, changed.epochs, changed.order) == (32, 0.01, 3, "shuffle")
    assert (changed.pool.name, changed.data.normalize) == ("max", "unit")


def test_its_passes_have_the_papers_rates():
    config = config_of()
    assert isinstance(config.schedule, Stairs)
    rates = [config.lr.value * config.schedule.factor(60_000 * epoch, 60_000, 20) for epoch in range(20)]
    assert rates == pytest.approx([5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8)
    assert config.schedule.factor(120_000 - 1, 60_000, 20) == 1


@pytest.mark.parametrize(("milestones", "factors"), [((2, 5), (1.0, 0.5)), ((5, 2), (1.0, 0.5, 0.1))])
def test_stairs_must_be_in_order_and_complete(milestones, factors):
    with pytest.raises(LabError, match=r"^schedule\.(factors|milestones)="):
        Stairs(milestones, factors)


# partial connections


def test_table_1_is_the_papers():
    assert [len(maps) for maps in TABLE_1] == [3] * 6 + [4] * 9 + [6]
    assert sorted(set(TABLE_1)) == sorted(TABLE_1), "no two maps see the same"
    assert all(sum(c in maps for maps in TABLE_1) == 10 for c in range(6))
    neighbours = {tuple(sorted((i + k) % 6 for k in range(3))) for i in range(6)}
    assert set(TABLE_1[:6]) == neighbours
    assert set(TABLE_1[6:12]) == {tuple(sorted((i + k) % 6 for k in range(4))) for i in range(6)}
    assert set(TABLE_1[12:15]) == {tuple(sorted({i, (i + 1) % 6, (i + 3) % 6, (i + 4) % 6})) for i in range(3)}


def test_a_partial_convolution_sums_over_the_maps_it_sees():
    layer = PartialConv2d(6, TABLE_1, 5)
    Init("lecun1989").apply(layer, seed=1)
    x = draw(2, 6, 14, 14)
    out, first = layer(x), 0
    assert out.shape == (2, 16, 10, 10)
    for m, maps in enumerate(TABLE_1):
        kernels = layer.weight[first : first + len(maps)]
        expected = functional.conv2d(x[:, list(maps)], kernels.unsqueeze(0), layer.bias[m : m + 1])
        torch.testing.assert_close(out[:, m : m + 1], expected)
        first += len(maps)
    assert first == len(layer.weight) == 60


def test_gradients_reach_the_connections_there_are_and_no_others():
    layer = PartialConv2d(3, ((0, 2), (1,)), 2)
    Init("lecun1989").apply(layer, seed=1)
    x = draw(1, 3, 4, 4).requires_grad_()
    layer(x)[:, 1].sum().backward()
    assert not x.grad[:, [0, 2]].any()
    assert x.grad[:, 1].any()
    assert not layer.weight.grad[:2].any()
    assert layer.weight.grad[2].any()


# initial weights


@pytest.mark.parametrize("name", ["lecun1989", "lecun1998", "default"])
def test_bounds_are_those_of_each_units_fan_in(name):
    """2.4 / F, 2.4 / sqrt(F), 1 / sqrt(F), of weights and biases, F the inputs of a unit: 4 in a subsampling."""
    formula = {
        "lecun1998": lambda f: 2.4 / f,
        "lecun1989": lambda f: 2.4 / f**0.5,
        "default": lambda f: 1 / f**0.5,
    }[name]
    net, spreads = net_of(f"init={name}").requires_grad_(False), []
    fans = {"c1": 25, "s2": 4, "s4": 4, "c5": 400, "f6": 120}
    for layer, fan in fans.items():
        for kind in ("weight", "bias"):
            spreads.append((net.get_parameter(f"{layer}.{kind}"), fan))
    third, first = net.get_submodule("c3"), 0
    for m, maps in enumerate(TABLE_1):
        spreads += [(third.weight[first : first + len(maps)], 25 * len(maps)), (third.bias[m : m + 1], 25 * len(maps))]
        first += len(maps)
    for values, fan in spreads:
        bound = formula(fan)
        assert float(values.abs().max()) <= bound
        if values.numel() > 100:
            assert float(values.abs().max()) > 0.95 * bound
            assert float(values.std()) == pytest.approx(bound / 3**0.5, rel=0.15)
        assert BOUNDS[name](fan) == formula(fan)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_rule_fills_every_parameter(name):
    net = net_of(f"init={name}").requires_grad_(False)
    third = net.get_submodule("c3").weight
    assert all(bool(kernel.any()) for kernel in third)
    assert len({float(kernel.sum()) for kernel in third}) == 60, "no two kernels share a draw"
    for layer in ("s2", "s4"):
        assert len(net.get_parameter(f"{layer}.weight").unique()) > 1 or name == "orthogonal"
    assert not torch.equal(net.get_parameter("s2.weight"), net.get_parameter("s4.weight")[:6])
    again = net_of(f"init={name}").state_dict()
    assert all(torch.equal(value, again[key]) for key, value in net.state_dict().items())


def test_a_partial_convolution_keeps_the_variance_of_its_rule():
    layer = PartialConv2d(60, [range(k, k + 20) for k in range(40)], 5).requires_grad_(False)
    Init("xavier_normal").apply(layer, seed=0)
    fans = (20 * 25 + 40 * 20 / 60 * 25) / 2
    assert float(layer.weight.std()) == pytest.approx(fans**-0.5, rel=0.03)


# subsampling


def test_subsampling_is_a_coefficient_times_the_sum_plus_a_bias():
    layer = Subsample().build(3)
    Init("lecun1989").apply(layer, seed=3)
    x = draw(2, 3, 6, 8)
    out = layer(x)
    assert out.shape == (2, 3, 3, 4)
    for n, c, y, i in itertools.product(range(2), range(3), range(3), range(4)):
        four = x[n, c, 2 * y : 2 * y + 2, 2 * i : 2 * i + 2].sum()
        torch.testing.assert_close(out[n, c, y, i], layer.weight[c] * four + layer.bias[c])
    assert [tuple(p.shape) for p in layer.parameters()] == [(3,), (3,)]


def test_subsampling_serves_todays_network_too():
    config = parse(compose_cell(["data=digits", "pool=subsample"]).resolved)
    net = build(config)
    assert [type(m) for m in net.modules()].count(Sum2x2) == 2
    assert sum(p.numel() for p in net.parameters()) == 44_426 + 2 * (6 + 16)


# as any other network


@pytest.mark.parametrize("words", [[], ["head=rbf_gaussian", "loss=mse"], ["model.c3=full", "pool=max"]], ids=str)
def test_it_is_exported_for_any_batch(words):
    net = net_of(*words).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(net, (draw(2, 1, 32, 32),), dynamic_shapes=({0: batch},))
    for n in (1, 2, 33):
        x = draw(n, 1, 32, 32, seed=n)
        torch.testing.assert_close(program.module()(x), net(x))


def test_it_runs_under_vmap():
    nets = [net_of(f"seed={seed}") for seed in range(2)]
    params, buffers = torch.func.stack_module_state(nets)
    x = draw(3, 1, 32, 32)
    together = torch.func.vmap(lambda p, b: torch.func.functional_call(nets[0], (p, b), (x,)))(params, buffers)
    torch.testing.assert_close(together, torch.stack([net(x) for net in nets]))


def test_its_layers_are_in_the_papers_order():
    layers = [type(layer) for name, layer in net_of().named_children() if not name.endswith("_act")]
    assert layers[:6] == [nn.Conv2d, Sum2x2, PartialConv2d, Sum2x2, nn.Conv2d, nn.Flatten]
