"""The building blocks against torch's own functions and the formulas of their sources."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from lenet_lab import blocks
from lenet_lab.blocks import average, maximum, streams
from lenet_lab.blocks import tanh as tangent
from lenet_lab.blocks.activation import ACTIVATIONS, Activation
from lenet_lab.blocks.dropout import Dropout, DropoutRate, dropout_keys, set_dropout_keys
from lenet_lab.blocks.init import SCHEMES, Init
from lenet_lab.blocks.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, NoNorm
from lenet_lab.blocks.pool import POOLS, Pool, StridedConvolution
from lenet_lab.records import LabError


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Pools


def test_pools_equal_their_definition():
    x = draw(3, 6, 9, 8)
    windows = x[:, :, :8].reshape(3, 6, 4, 2, 4, 2)
    torch.testing.assert_close(Pool("avg").build(6)(x), windows.mean(dim=(3, 5)))
    torch.testing.assert_close(Pool("max").build(6)(x), windows.amax(dim=(3, 5)))


@pytest.mark.parametrize("shape", [(64, 6, 26, 26), (128, 16, 9, 10), (70, 16, 8, 11)])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_the_maximum_of_windows_is_that_of_torchs_kernel(shape, kind):
    """Many equals among the values: the gradient goes to the first of them, as there."""
    layer = Pool("max").build(shape[1])
    for values in (draw(*shape), draw(*shape).mul(2).round(), torch.zeros(shape)):
        ours, theirs = (values.to(kind).requires_grad_() for _ in range(2))
        assert ours.numel() >= maximum.LEAST, "large enough for the fast way"
        out, expected = layer(ours), functional.max_pool2d(theirs, 2)
        assert type(out.grad_fn).__name__ == "_LargestBackward"
        slope = draw(*expected.shape, seed=1).to(kind)
        out.backward(slope)
        expected.backward(slope)
        assert torch.equal(out, expected)
        assert torch.equal(ours.grad, theirs.grad)
        with torch.no_grad():
            assert torch.equal(layer(ours), expected)


def test_the_maximum_hides_no_nan_and_no_infinity():
    for place in range(4):
        for value in (math.nan, math.inf, -math.inf):
            x = draw(32, 16, 10, 10)
            x[5, 3, place // 2, place % 2] = value
            for one in (x, x.clone().requires_grad_()):
                assert torch.equal(Pool("max").build(16)(one).nan_to_num(7), functional.max_pool2d(x, 2).nan_to_num(7))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own forward derivatives
@pytest.mark.parametrize("least", [0, maximum.LEAST])
def test_the_maximum_bends_and_stacks_as_torchs_own(monkeypatch, least):
    """Derivatives of derivatives, forward ones, and vmap over all of them: what curvatures and packs ask of it."""
    monkeypatch.setattr(maximum, "LEAST", least)
    monkeypatch.setattr(maximum, "STACKED", 0)
    layer, x = Pool("max").build(2), draw(3, 2, 2, 6, 6).double()

    def bend(pool):
        def energy(values):
            return (pool(values) ** 3).sum()

        return lambda values: torch.func.grad(lambda v: (torch.func.grad(energy)(v) ** 2).sum())(values)

    def forwards(pool):
        return lambda v: torch.func.jvp(lambda w: (pool(w) ** 3).sum(), (v,), (v.cos(),))[1]

    def theirs(values):
        return functional.max_pool2d(values, 2)

    for trial in (bend, forwards):
        for found, expected in (
            (trial(layer)(x[0]), trial(theirs)(x[0])),
            (torch.vmap(trial(layer))(x), torch.vmap(trial(theirs))(x)),
            (torch.vmap(trial(layer), 2)(x.movedim(0, 2)), torch.vmap(trial(theirs))(x)),
        ):
            assert expected.abs().sum() > 0
            torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(layer, x[0].clone().requires_grad_())
    assert torch.autograd.gradgradcheck(layer, x[0].clone().requires_grad_())


@pytest.fixture
def one_thread():
    """By which pools are chosen."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("shape", [(64, 6, 26, 26), (128, 16, 9, 10), (70, 16, 8, 11)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_the_mean_of_windows_is_that_of_torchs_kernel(shape, layout, kind):
    layer = Pool("avg").build(shape[1])
    values = draw(*shape).to(kind).contiguous(memory_format=layout)
    ours, theirs = (values.clone().requires_grad_() for _ in range(2))
    out, expected = layer(ours), functional.avg_pool2d(theirs, 2)
    fast = kind != torch.bfloat16 and (layout == torch.contiguous_format or shape[1] < average.VECTOR)
    assert type(out.grad_fn).__name__ == ("_MeanBackward" if fast else "AvgPool2DBackward0")
    assert out.is_contiguous(memory_format=layout)
    slope = draw(*expected.shape, seed=1).to(kind)
    out.backward(slope)
    expected.backward(slope)
    assert torch.equal(out, expected)
    assert torch.equal(ours.grad, theirs.grad)
    assert ours.grad.is_contiguous(memory_format=layout)
    with torch.no_grad():
        assert torch.equal(layer(values), expected)


def test_the_mean_of_maps_that_are_views():
    """What lies in memory in an order of its own, more than once, or with gaps."""
    layer = Pool("avg").build(6)
    for view in (
        draw(6, 40, 26, 26).transpose(0, 1),
        draw(1, 6, 26, 26).expand(40, -1, -1, -1),
        draw(80, 6, 26, 26)[::2],
        draw(40, 6, 26, 30)[..., 1:27],
        draw(40, 6, 26, 26).transpose(2, 3),
    ):
        ours, theirs = (view.detach().requires_grad_() for _ in range(2))
        out, expected = layer(ours), functional.avg_pool2d(theirs, 2)
        assert torch.equal(out, expected)
        (found,), (right,) = (torch.autograd.grad((y**3).sum(), x) for y, x in ((out, ours), (expected, theirs)))
        assert torch.equal(found, right)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own forward derivatives
@pytest.mark.parametrize("least", [0, average.LEAST])
def test_the_mean_bends_and_stacks_as_torchs_own(monkeypatch, least):
    """Derivatives of derivatives, forward ones, and vmap over all of them: what curvatures and packs ask of it."""
    monkeypatch.setattr(average, "LEAST", least)
    monkeypatch.setattr(average, "STACKED", 0)
    layer, x = Pool("avg").build(2), draw(3, 2, 2, 7, 6).double()

    def theirs(values):
        return functional.avg_pool2d(values, 2)

    def bend(pool):
        def energy(values):
            return (pool(values) ** 3).sum()

        return torch.func.grad(lambda v: (torch.func.grad(energy)(v) ** 2).sum())

    def forwards(pool):
        return lambda v: torch.func.jvp(torch.func.grad(lambda w: (pool(w) ** 3).sum()), (v,), (v.cos(),))[1]

    for trial in (bend, forwards):
        for found, expected in (
            (trial(layer)(x[0]), trial(theirs)(x[0])),
            (torch.vmap(trial(layer))(x), torch.vmap(trial(theirs))(x)),
            (torch.vmap(trial(layer), 3)(x.movedim(0, 3)), torch.vmap(trial(theirs))(x)),
        ):
            assert expected.abs().sum() > 0
            torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(layer, x[0].clone().requires_grad_())
    assert torch.autograd.gradgradcheck(layer, x[0].clone().requires_grad_())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("pool", "kernel"), [("avg", "avg_pool2d"), ("max", "max_pool2d")])
def test_the_pools_of_a_packs_maps_go_by_their_number(monkeypatch, pool, kernel):
    """No replica by itself has as many values as it takes."""
    x = draw(16, 8, 6, 26, 26)
    assert x[0].numel() < min(average.LEAST, maximum.LEAST) <= max(average.STACKED, maximum.STACKED) <= x.numel()
    theirs, calls = getattr(functional, kernel), []
    monkeypatch.setattr(functional, kernel, lambda *given: calls.append(given) or theirs(*given))
    ours = x.clone().requires_grad_()
    out, expected = torch.vmap(Pool(pool).build(6))(ours), theirs(x.flatten(0, 1), 2).unflatten(0, (16, 8))
    assert torch.equal(out, expected)
    assert not calls
    again = x.clone().requires_grad_()
    (theirs(again.flatten(0, 1), 2) ** 2).sum().backward()
    (out**2).sum().backward()
    assert torch.equal(ours.grad, again.grad)


def test_the_tangent_is_that_of_twice_the_bits():
    """Relative to the value, at every size of it; in the order in memory of what it is given."""
    layer = Activation("tanh").build()
    for power in (-30, -8, -4, -3, -2, -1, 0, 1):
        x = draw(16, 4, 32, 32) * 10.0**power
        assert x.numel() >= tangent.LEAST
        exact = torch.tanh(x.double())
        for view in (
            x,
            x.contiguous(memory_format=torch.channels_last),
            x.transpose(0, 2),
            x[:1].expand(16, -1, -1, -1),
        ):
            out = layer(view)
            assert out.stride() == torch.tanh(view).stride()
        assert power != 0 or not torch.equal(layer(x), torch.tanh(x)), "another kernel"
        assert ((layer(x).double() - exact).abs() <= 1.2e-7 * exact.abs()).all()
    edges = torch.tensor([math.nan, math.inf, -math.inf, 0.0, 100.0, -100.0]).repeat(tangent.LEAST)
    assert torch.equal(layer(edges).nan_to_num(7), torch.tanh(edges).nan_to_num(7))
    assert torch.equal(layer(edges.double()).nan_to_num(7), torch.tanh(edges.double()).nan_to_num(7))


def test_the_tangent_is_differentiated_as_torchs_own():
    layer = Activation("tanh").build()
    x, theirs = (draw(16, 4, 32, 32).requires_grad_() for _ in range(2))
    for values, function in ((x, layer), (theirs, torch.tanh)):
        out = function(values)
        (slope,) = torch.autograd.grad((out**3).sum(), values, create_graph=True)
        (slope**2).sum().backward()
        values.slope = slope.detach()
    assert type(layer(x).grad_fn).__name__ == "_TanhBackward"
    torch.testing.assert_close(x.slope, theirs.slope)
    torch.testing.assert_close(x.grad, theirs.grad)


def test_the_tangent_does_not_look_at_threads_or_neighbours():
    """Else a run's last bits would be other ones in another pack, or where it is tested with more threads."""
    layer, x = Activation("tanh").build(), draw(16, 8, 6, 24, 24)
    assert x[0].numel() >= tangent.STACKED
    together = torch.vmap(layer)(x.requires_grad_())
    assert torch.equal(together[:1], torch.vmap(layer)(x[:1]))
    with torch.no_grad():
        assert torch.equal(together[:1, :1], layer(x[:1, :1])), "however few are evaluated at once"
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            assert torch.equal(together, torch.vmap(layer)(x))
    finally:
        torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own forward derivatives
@pytest.mark.parametrize(("least", "kind"), [(0, torch.float32), (0, torch.float64), (tangent.LEAST, torch.float64)])
def test_the_tangent_bends_and_stacks_as_torchs_own(monkeypatch, least, kind):
    """Derivatives of derivatives, forward ones, and vmap over all of them: what curvatures and packs ask of it."""
    monkeypatch.setattr(tangent, "LEAST", least)
    monkeypatch.setattr(tangent, "STACKED", 0)
    layer, x = Activation("tanh").build(), draw(3, 4, 5).to(kind)

    def bend(function):
        return torch.func.grad(lambda v: (torch.func.grad(lambda w: (function(w) ** 3).sum())(v) ** 2).sum())

    def forwards(function):
        return lambda v: torch.func.jvp(torch.func.grad(lambda w: (function(w) ** 3).sum()), (v,), (v.cos(),))[1]

    for trial in (bend, forwards):
        for found, expected in (
            (trial(layer)(x[0]), trial(torch.tanh)(x[0])),
            (torch.vmap(trial(layer))(x), torch.vmap(trial(torch.tanh))(x)),
            (torch.vmap(trial(layer), 2)(x.movedim(0, 2)), torch.vmap(trial(torch.tanh))(x)),
        ):
            assert expected.abs().sum() > 0
            torch.testing.assert_close(found, expected)
    if kind == torch.float64:
        assert torch.autograd.gradcheck(layer, x[0].clone().requires_grad_())
        assert torch.autograd.gradgradcheck(layer, x[0].clone().requires_grad_())


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_strided_convolution_halves_even_maps(kernel):
    layer = StridedConvolution(kernel).build(6)
    assert layer(draw(2, 6, 24, 8)).shape == (2, 6, 12, 4)
    assert sum(p.numel() for p in layer.parameters()) == 6 * (6 * kernel**2 + 1)


# Norms


def test_norms_equal_the_functional_forms():
    x = draw(4, 6, 5, 5) * 3 + 1
    cases = [
        (BatchNorm(), functional.batch_norm(x, None, None, training=True)),
        (GroupNorm(groups=3), functional.group_norm(x, 3)),
        (LayerNorm(), functional.layer_norm(x, x.shape[1:])),
        (InstanceNorm(), functional.instance_norm(x)),
    ]
    for norm, expected in cases:
        layer = norm.conv(6, (5, 5))
        torch.testing.assert_close(layer(x), expected)
        assert [tuple(p.shape) for p in layer.parameters()] == [(6,), (6,)]
        assert norm.fc(84) is None
    y = draw(4, 84) * 3 + 1
    torch.testing.assert_close(LayerNorm(place="fc").fc(84)(y), functional.layer_norm(y, (84,)))
    expected = functional.batch_norm(y, None, None, training=True)
    torch.testing.assert_close(BatchNorm(place="all").fc(84)(y), expected)


def test_norm_parameters_reach_the_layer():
    layer = BatchNorm(momentum=0.25, eps=0.5).conv(6, (5, 5))
    assert (layer.momentum, layer.eps) == (0.25, 0.5)
    assert GroupNorm(eps=0.5).conv(6, (5, 5)).eps == 0.5


@pytest.mark.parametrize(
    ("norm", "conv", "fc"),
    [(NoNorm(), False, False)]
    + [(n(place=p), p != "fc", p != "conv") for n in (BatchNorm, LayerNorm) for p in ("conv", "fc", "all")],
)
def test_norms_sit_where_they_are_told(norm, conv, fc):
    assert (norm.conv(6, (5, 5)) is not None) == conv
    assert (norm.fc(84) is not None) == fc


def test_groups_must_divide_the_maps_of_every_convolution():
    GroupNorm(groups=2).check((6, 16))
    message = r"norm.groups=3 does not divide the 6 and 16 maps of the convolutions; allowed: 1, 2$"
    with pytest.raises(LabError, match=message):
        GroupNorm(groups=3).check((6, 16))


@pytest.mark.parametrize("norm", [GroupNorm, InstanceNorm])
@pytest.mark.parametrize("place", ["fc", "all"])
def test_norms_of_maps_refuse_hidden_units(norm, place):
    with pytest.raises(LabError, match=f"norm.place={place}: .* allowed: conv"):
        norm(place=place)


def test_instance_norm_refuses_single_pixels():
    with pytest.raises(LabError, match="norm=in"):
        InstanceNorm().conv(6, (1, 1))


# Activations

FORMULAS = {
    "tanh": torch.tanh,
    "scaled_tanh": lambda x: 1.7159 * torch.tanh(2 * x / 3),
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "relu": lambda x: x.clamp(min=0),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "elu": lambda x: torch.where(x > 0, x, torch.expm1(x)),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + torch.exp(-x)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_their_formulas(name):
    x = torch.linspace(-4, 4, 101)
    torch.testing.assert_close(Activation(name).build()(x), FORMULAS[name](x), atol=1e-6, rtol=1e-5)


def test_scaled_tanh_keeps_one():
    torch.testing.assert_close(
        Activation("scaled_tanh").build()(torch.tensor([1.0, -1.0])),
        torch.tensor([1.0, -1.0]),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.parametrize(("group", "table"), [("pool", POOLS), ("activation", ACTIVATIONS), ("init", SCHEMES)])
def test_unknown_names_are_answered_with_the_choices(group, table):
    with pytest.raises(LabError, match=rf"^{group}.name=best: .*{', '.join(table)}$"):
        blocks.DEFAULTS[group]("best")


def test_defaults_descend_from_their_bases():
    assert set(blocks.DEFAULTS) == set(blocks.BASES)
    assert all(issubclass(blocks.DEFAULTS[group], base) for group, base in blocks.BASES.items())


# Initial weights

REFERENCES = {
    "default": lambda w, g: nn.init.kaiming_uniform_(w, a=5**0.5, generator=g),
    "xavier_uniform": lambda w, g: nn.init.xavier_uniform_(w, generator=g),
    "xavier_normal": lambda w, g: nn.init.xavier_normal_(w, generator=g),
    "he_uniform": lambda w, g: nn.init.kaiming_uniform_(w, nonlinearity="relu", generator=g),
    "he_normal": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    "lecun_uniform": lambda w, g: nn.init.kaiming_uniform_(w, nonlinearity="linear", generator=g),
    "lecun_normal": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="linear", generator=g),
    "orthogonal": lambda w, g: nn.init.orthogonal_(w, generator=g),
    "lecun1998": lambda w, g: nn.init.uniform_(w, -2.4 / w[0].numel(), 2.4 / w[0].numel(), generator=g),
    "lecun1989": lambda w, g: nn.init.uniform_(w, -2.4 / w[0].numel() ** 0.5, 2.4 / w[0].numel() ** 0.5, generator=g),
}


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("shape", [(16, 6, 5, 5), (84, 120)])
def test_weights_equal_the_framework(name, shape):
    ours, theirs = torch.empty(shape), torch.empty(shape)
    Init(name).fill_weight(ours, torch.Generator().manual_seed(4))
    REFERENCES[name](theirs, torch.Generator().manual_seed(4))
    exact = name == "default"
    torch.testing.assert_close(ours, theirs, rtol=0 if exact else 1e-6, atol=0 if exact else 1e-7)


@pytest.mark.parametrize("layer", [lambda: nn.Conv2d(6, 16, 5), lambda: nn.Linear(400, 120)])
def test_default_is_what_the_layer_itself_would_draw(layer):
    """torch draws weight and bias in turn from the global generator; the same generator, the same bits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        expected = layer()
    generator = torch.Generator().manual_seed(11)
    weight, bias = torch.empty_like(expected.weight), torch.empty_like(expected.bias)
    with torch.no_grad():
        Init("default").fill_weight(weight, generator)
        Init("default").fill_bias(bias, weight, generator)
    assert torch.equal(weight, expected.weight)
    assert torch.equal(bias, expected.bias)


def test_gain_and_bias_override_the_scheme():
    plain, doubled = torch.empty(84, 120), torch.empty(84, 120)
    Init("xavier_uniform").fill_weight(plain, torch.Generator().manual_seed(0))
    Init("xavier_uniform", gain=2.0).fill_weight(doubled, torch.Generator().manual_seed(0))
    torch.testing.assert_close(doubled, 2 * plain)
    net = nn.Sequential(nn.Linear(4, 3))
    for name, value, expected in [
        ("he_normal", None, 0.0),
        ("he_normal", 0.01, 0.01),
        ("default", 0.0, 0.0),
        ("default", 0.1, 0.1),
    ]:
        Init(name, bias=value).apply(net, seed=0)
        assert torch.equal(net[0].bias, torch.full((3,), expected))
    Init("default").apply(net, seed=0)
    assert 0 < net[0].bias.abs().max() <= 1 / math.sqrt(4)


def test_default_refuses_a_gain():
    with pytest.raises(LabError, match=r"init\.gain=2: .* allowed: null"):
        Init("default", gain=2.0)


def test_orthogonal_weights_are_orthogonal():
    weight = torch.empty(16, 6, 5, 5)
    Init("orthogonal").fill_weight(weight, torch.Generator().manual_seed(0))
    matrix = weight.flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(16), atol=1e-5, rtol=0)


def test_a_layer_without_a_rule_is_not_passed_over():
    with pytest.raises(TypeError, match="PReLU"):
        Init("default").apply(nn.Sequential(nn.Linear(4, 3), nn.PReLU()), seed=0)


# Dropout


def dropout(rate, seed=0, step=0, offset_rows=0):
    layer = Dropout(rate)
    set_dropout_keys(layer, seed, step, offset_rows)
    return layer


def test_mask_is_the_stream():
    x = draw(8, 6, 4, 4)
    mask = streams.uniform(streams.key(3, "dropout", 17, 0), x.shape) >= 0.3
    torch.testing.assert_close(dropout(0.3, seed=3, step=17)(x), x * mask / 0.7)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_kept_share_and_mean(rate):
    y = dropout(rate)(torch.ones(1000, 100))
    kept = float((y != 0).float().mean())
    assert abs(kept - (1 - rate)) < 5 * math.sqrt(rate * (1 - rate) / 1e5)
    torch.testing.assert_close(y[y != 0].unique(), torch.tensor([1 / (1 - rate)]))


def test_masks_change_with_seed_step_and_layer():
    x = torch.ones(16, 20)
    net = nn.Sequential(Dropout(0.5), Dropout(0.5))
    set_dropout_keys(net, seed=0, step=0)
    outputs = [net[0](x), net[1](x), dropout(0.5, seed=1)(x), dropout(0.5, step=1)(x)]
    assert all(not torch.equal(a, b) for i, a in enumerate(outputs) for b in outputs[:i])
    assert torch.equal(outputs[0], dropout(0.5)(x))


def test_a_slice_of_the_batch_gets_its_slice_of_the_mask():
    x = draw(12, 6, 3, 3)
    whole = dropout(0.5)(x)
    assert torch.equal(dropout(0.5, offset_rows=4)(x[4:9]), whole[4:9])


def test_evaluation_is_the_identity():
    x = draw(4, 5)
    assert dropout(0.5).eval()(x) is x


def test_the_key_is_no_part_of_the_weights():
    assert not dropout(0.5).state_dict()


def test_dropout_under_vmap_equals_one_at_a_time():
    nets = [nn.Sequential(nn.Linear(5, 7), Dropout(0.5), nn.Linear(7, 6), Dropout(0.2)) for _ in range(3)]
    for seed, net in enumerate(nets):
        Init("default").apply(net, seed)
        set_dropout_keys(net, seed, step=9, offset_rows=2)
    x = draw(4, 5)
    params = {n: torch.stack([net.get_parameter(n) for net in nets]) for n, _ in nets[0].named_parameters()}
    keys = [dropout_keys(nets[0], seed, 9, 2) for seed in range(3)]
    stacked = {name: torch.stack([k[name] for k in keys]) for name in keys[0]}
    together = torch.func.vmap(lambda p, k: torch.func.functional_call(nets[0], {**p, **k}, (x,)))(params, stacked)
    alone = torch.stack([net(x) for net in nets])
    torch.testing.assert_close(together, alone)
    assert torch.equal(together == 0, alone == 0)


def test_dropout_rate_builds_at_its_place_alone():
    rate = DropoutRate(0.3, place="flatten")
    assert rate.build("flatten").rate == 0.3
    assert rate.build("fc") is rate.build("conv") is None
    assert DropoutRate(0.0).build("fc") is None
