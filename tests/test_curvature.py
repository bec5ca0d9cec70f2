"""Curvature and SDLM: against a brute-force Hessian, the paper's equations summed by hand, and a loop of one's own."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from lenet_lab.blocks.activation import ACTIVATIONS, Activation, ScaledTanh
from lenet_lab.blocks.average import AvgPool2x2
from lenet_lab.blocks.dropout import Dropout
from lenet_lab.blocks.head import CodeDistances, Gaussians
from lenet_lab.blocks.maximum import MaxPool2x2
from lenet_lab.blocks.pool import Sum2x2
from lenet_lab.blocks.tanh import Tanh
from lenet_lab.cell import build, load, make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import parse
from lenet_lab.models.partial import PartialConv2d
from lenet_lab.objectives import CrossEntropy, Map, MeanSquaredError, RbfMse
from lenet_lab.optim import curvature
from lenet_lab.optim.sdlm import DiagonalLevenbergMarquardt, Sdlm
from lenet_lab.records import LabError
from lenet_lab.train import execution_of, train

CODES = torch.tensor([[1.0, -1, 1], [-1, -1, -1], [1, 1, -1]])


def filled(net, seed=0):
    """The net in float64, every parameter drawn: nothing is at a special value."""
    draws = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=draws, dtype=torch.float64) * 0.6
    return net.double()


def small(head=None, activation=ScaledTanh, pool=None):
    """5x5 images: shared weights in two convolutions and a trainable subsampling."""
    return filled(
        nn.Sequential(
            nn.Conv2d(1, 2, 2),
            activation(),
            pool or Sum2x2(2),
            activation(),
            PartialConv2d(2, ((0,), (0, 1), (1,)), 2),
            nn.Flatten(),
            activation(),
            nn.Linear(3, 3),
            activation(),
            head or CodeDistances(CODES.clone(), trainable=False),
        )
    )


def patterns(n=4, shape=(1, 5, 5), classes=3):
    draws = torch.Generator().manual_seed(9)
    return torch.randn(n, *shape, generator=draws, dtype=torch.float64), torch.arange(n) % classes


OBJECTIVES = [
    (RbfMse(), lambda: CodeDistances(CODES.clone(), trainable=True)),
    (Map(j=2.0), lambda: CodeDistances(CODES.clone(), trainable=True)),
    (Map(j=2.0, over="incorrect"), lambda: CodeDistances(CODES.clone(), trainable=False)),
    (MeanSquaredError(), lambda: Gaussians(3, 3)),
    (MeanSquaredError(), lambda: nn.Linear(3, 3)),
    (CrossEntropy(0.1), lambda: nn.Linear(3, 3)),
]


def hessian(net, objective, images, labels):
    """The whole Hessian of the mean loss by all weights, by torch's own double backward."""
    names, values = zip(*((n, p.detach()) for n, p in net.named_parameters()), strict=True)
    sizes = [v.numel() for v in values]

    def loss(flat):
        parts = {n: w.view_as(v) for n, w, v in zip(names, flat.split(sizes), values, strict=True)}
        return objective.loss(functional_call(net, parts, (images,)), labels).mean()

    return torch.autograd.functional.hessian(loss, torch.cat([v.flatten() for v in values]))


def flat(found):
    return torch.cat([value.flatten() for value in found.values()])


# eq. (22)


@pytest.mark.parametrize(("objective", "head"), OBJECTIVES, ids=lambda v: type(v).__name__)
def test_the_exact_diagonal_is_that_of_the_hessian(objective, head):
    net, (images, labels) = small(head()), patterns()
    expected = hessian(net, objective, images, labels).diagonal()
    found = curvature.exact(net, objective, images, labels)
    assert list(found) == [name for name, _ in net.named_parameters()]
    torch.testing.assert_close(flat(found), expected, rtol=1e-9, atol=1e-11)


def test_the_exact_diagonal_of_other_layers():
    """Pools without parameters, a strided convolution, a max: what the Gauss-Newton rules may not know as well."""
    for pool in (nn.AvgPool2d(2), AvgPool2x2(), MaxPool2x2(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 2, stride=2)):
        net, (images, labels) = small(nn.Linear(3, 3), Tanh, pool), patterns()
        expected = hessian(net, CrossEntropy(), images, labels).diagonal()
        torch.testing.assert_close(flat(curvature.exact(net, CrossEntropy(), images, labels)), expected)


# eqs. (23) to (27), connection by connection


def connections(layer, shape):
    """Every connection (output unit, input unit or None for a bias, parameter, its index) and the output's shape."""
    found = []
    if isinstance(layer, nn.Conv2d | PartialConv2d):
        size = layer.weight.shape[-1]
        partial = isinstance(layer, PartialConv2d)
        sees = layer.sees if partial else [range(shape[0])] * len(layer.weight)
        out = (len(sees), shape[1] - size + 1, shape[2] - size + 1)
        first = [0, *itertools.accumulate(len(s) for s in sees)]
        for m, y, x in itertools.product(*map(range, out)):
            for place, c in enumerate(sees[m]):
                for dy, dx in itertools.product(range(size), repeat=2):
                    kernel = (first[m] + place,) if partial else (m, c)
                    found.append(((m, y, x), (c, y + dy, x + dx), "weight", (*kernel, dy, dx)))
            found.append(((m, y, x), None, "bias", (m,)))
    elif isinstance(layer, Sum2x2):
        out = (shape[0], shape[1] // 2, shape[2] // 2)
        for c, y, x in itertools.product(*map(range, out)):
            for dy, dx in itertools.product(range(2), repeat=2):
                found.append(((c, y, x), (c, 2 * y + dy, 2 * x + dx), "weight", (c,)))
            found.append(((c, y, x), None, "bias", (c,)))
    else:
        out = (layer.out_features,)
        for i in range(layer.out_features):
            found += [((i,), (j,), "weight", (i, j)) for j in range(layer.in_features)]
            found.append(((i,), None, "bias", (i,)))
    return found, out


def by_hand(net, image, label, rubbish):
    """h of every weight for one pattern and the loss (9), or (8) where `rubbish` is None: plain Python numbers."""
    values = {index: float(image[index]) for index in itertools.product(*map(range, image.shape))}
    shape, tape = tuple(image.shape), []
    for name, layer in list(net.named_children())[:-1]:
        if isinstance(layer, ScaledTanh):
            slope = {i: 1.7159 * 2 / 3 * (1 - math.tanh(2 * a / 3) ** 2) for i, a in values.items()}
            values = {i: 1.7159 * math.tanh(2 * a / 3) for i, a in values.items()}
            tape.append(("squash", slope, None, None))
        elif isinstance(layer, nn.Flatten):
            order = list(itertools.product(*map(range, shape)))
            tape.append(("flatten", order, None, None))
            values, shape = {(k,): values[index] for k, index in enumerate(order)}, (len(order),)
        else:
            links, shape = connections(layer, shape)
            tape.append((name, links, layer, values))
            sums = dict.fromkeys(itertools.product(*map(range, shape)), 0.0)
            for i, j, param, k in links:
                sums[i] += float(layer.get_parameter(param).detach()[k]) * (1.0 if j is None else values[j])
            values = sums
    x, w = [values[(j,)] for j in range(3)], CODES.tolist()
    y = [sum((x[j] - w[i][j]) ** 2 for j in range(3)) for i in range(3)]
    share = [0.0] * 3
    if rubbish is not None:
        total = math.exp(-rubbish) + sum(math.exp(-v) for v in y)
        share = [math.exp(-v) / total for v in y]
    bend = {}
    for j in range(3):
        by_y = sum(p * (1 - p) * (2 * (x[j] - w[i][j])) ** 2 for i, p in enumerate(share))
        bend[(j,)] = by_y + 2 * sum((i == label) - p for i, p in enumerate(share))
    found = {}
    for name, what, layer, inputs in reversed(tape):
        if name == "squash":
            bend = {i: what[i] ** 2 * value for i, value in bend.items()}
        elif name == "flatten":
            bend = {index: bend[(k,)] for k, index in enumerate(what)}
        else:
            before = dict.fromkeys(inputs, 0.0)
            for i, j, param, k in what:
                key = (f"{name}.{param}", k)
                found[key] = found.get(key, 0.0) + bend[i] * (1.0 if j is None else inputs[j] ** 2)
                if j is not None:
                    before[j] += float(layer.get_parameter(param).detach()[k]) ** 2 * bend[i]
            bend = before
    return found


@pytest.mark.parametrize(("objective", "rubbish"), [(RbfMse(), None), (Map(j=2.0), 2.0)], ids=["eq8", "eq9"])
def test_the_papers_diagonal_is_its_equations_summed_connection_by_connection(objective, rubbish, monkeypatch):
    monkeypatch.setattr(curvature, "PATTERNS_AT_ONCE", 2)  # chunks add up
    net, (images, labels) = small(), patterns(5)
    each = [by_hand(net, image, int(label), rubbish) for image, label in zip(images, labels, strict=True)]
    found = curvature.gauss_newton(net, objective, images, labels)
    assert list(found) == [name for name, _ in net.named_parameters()]
    for name, values in found.items():
        for k in itertools.product(*map(range, values.shape)):
            expected = sum(one[name, k] for one in each) / len(each)
            assert float(values[k]) == pytest.approx(expected, rel=1e-9), (name, k)
            assert values[k] > 0


def test_without_shared_weights_or_hidden_units_both_diagonals_agree():
    """One linear layer under the squared distance: the cross terms and f'' that the paper drops are not there."""
    net = filled(nn.Sequential(nn.Flatten(), nn.Linear(25, 3), CodeDistances(CODES.clone(), trainable=False)))
    images, labels = patterns()
    paper = curvature.gauss_newton(net, RbfMse(), images, labels)
    torch.testing.assert_close(flat(paper), flat(curvature.exact(net, RbfMse(), images, labels)))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_squashes_pass_the_square_of_their_slope(name):
    """Of one linear unit each before the squash: h of its bias is f'(a)^2 times the bend of what follows."""
    layer = Activation(name).build()
    net = filled(nn.Sequential(nn.Flatten(), nn.Linear(25, 3), layer, CodeDistances(CODES.clone(), False)))
    images, labels = patterns(1)
    a = net[:2](images).detach().requires_grad_()
    (slope,) = torch.autograd.grad(layer(a).sum(), a)
    found = curvature.gauss_newton(net, RbfMse(), images, labels)
    torch.testing.assert_close(found["1.bias"], 2 * slope[0] ** 2)


def test_pools_pass_their_squared_weights_and_dropout_passes_all():
    images, labels = patterns(1, (1, 4, 4), 2)
    codes = torch.tensor([[1.0, -1, 1, 1], [-1, 1, 1, 1]])
    quarter = torch.full((4, 4), 1 / 16)
    pools = ((nn.AvgPool2d(2), quarter), (AvgPool2x2(), quarter), (nn.MaxPool2d(2), None), (MaxPool2x2(), None))
    for pool, share in pools:
        conv = nn.Conv2d(1, 1, 1)
        head = CodeDistances(codes.clone(), False)
        net = filled(nn.Sequential(conv, pool, Dropout(0.5), nn.Flatten(), head)).train()
        if share is None:
            top = nn.functional.interpolate(pool(conv(images)), scale_factor=2)
            share = (conv(images) == top).double()[0, 0]
        found = curvature.gauss_newton(net, RbfMse(), images, labels)
        expected = (2 * share.double() * images[0, 0] ** 2).sum()
        torch.testing.assert_close(found["0.weight"].flatten()[0], expected)
        assert net[2].training, "the mode is put back"


def test_gaussians_are_squared_slopes_of_the_loss_at_its_bottom():
    """Where the mean squared error is 0, Gauss-Newton and the Hessian's diagonal are the same."""
    net = filled(nn.Sequential(nn.Flatten(), Gaussians(25, 3)))
    images, _ = patterns(2)
    aims = net(images).detach()

    class Reached(MeanSquaredError):
        def loss(self, outputs, targets):
            return (outputs - aims[targets]).square().mean(dim=1)

    rows = torch.arange(2)
    paper, full = (f(net, Reached(), images, rows) for f in (curvature.gauss_newton, curvature.exact))
    torch.testing.assert_close(flat(paper), flat(full))


# Hutchinson


@pytest.mark.slow
def test_hutchinson_finds_the_exact_diagonal_with_the_error_it_states():
    net, (images, labels) = small(), patterns()
    objective, probes = Map(j=2.0), 300
    h = hessian(net, objective, images, labels)
    mean, error = (
        flat(v) for v in curvature.hutchinson(net, objective, images, labels, probes, torch.Generator().manual_seed(1))
    )
    spread = (h.square().sum(dim=1) - h.diagonal().square()).sqrt() / probes**0.5
    assert ((mean - h.diagonal()).abs() <= 4.5 * spread + 1e-12).all()
    torch.testing.assert_close(error, spread, rtol=0.4, atol=1e-9)


def test_hutchinson_of_one_probe_is_z_times_hz():
    net, (images, labels) = small(), patterns()
    h = hessian(net, RbfMse(), images, labels)
    draws = torch.Generator().manual_seed(3)
    z = torch.cat([(torch.randint(0, 2, p.shape, generator=draws) * 2.0 - 1).flatten() for p in net.parameters()])
    mean, error = curvature.hutchinson(net, RbfMse(), images, labels, 1, torch.Generator().manual_seed(3))
    torch.testing.assert_close(flat(mean), z * (h @ z.double()))
    assert not flat(error).any()


# The step


def test_the_step_is_the_rule_written_as_a_loop():
    """Eqs. (18) and (21), weight by weight, with coupled decay and a rate that changes."""
    draws = torch.Generator().manual_seed(5)
    params = [nn.Parameter(torch.randn(3, 2, generator=draws)), nn.Parameter(torch.randn(4, generator=draws))]
    plain = [p.detach().flatten().tolist() for p in params]
    curves = [torch.rand(p.shape, generator=draws) * 5 for p in params]
    mu, decay = 0.02, 0.1
    optimizer = Sdlm(mu=mu).build(params, 0.01, decay)
    optimizer.curvatures(curves)
    for step in range(5):
        rate = 0.01 / (step + 1)
        optimizer.param_groups[0]["lr"] = rate
        for row, (p, h) in enumerate(zip(params, curves, strict=True)):
            p.grad = torch.randn(p.shape, generator=draws)
            grads, bends = p.grad.flatten().tolist(), h.flatten().tolist()
            for k, w in enumerate(plain[row]):
                plain[row][k] = w - rate / (mu + bends[k] + decay) * (grads[k] + decay * w)
        optimizer.step()
    for p, expected in zip(params, plain, strict=True):
        torch.testing.assert_close(p.detach().flatten(), torch.tensor(expected))
    bends = torch.cat([h.flatten() for h in curves])
    torch.testing.assert_close(optimizer.rates(), 0.01 / 5 / (mu + decay + bends))


def test_before_any_curvature_the_step_is_gradient_descent():
    weight = nn.Parameter(torch.tensor([1.0, -1.0]))
    optimizer = DiagonalLevenbergMarquardt([weight], lr=0.01, mu=0.02)
    weight.grad = torch.tensor([0.2, 0.4])
    assert optimizer.step(lambda: 7.0) == 7.0
    torch.testing.assert_close(weight.detach(), torch.tensor([0.9, -1.2]))


@pytest.mark.parametrize("kind", ["gauss_newton", "exact", "hutchinson"])
@pytest.mark.parametrize("negative", ["abs", "floor"])
def test_each_epoch_sets_the_curvature_of_its_own_patterns(kind, negative):
    net, (images, labels) = small(), patterns(12)
    rule = Sdlm(curvature=kind, patterns=5, probes=3, negative=negative)
    optimizer = rule.build(list(net.parameters()), 0.01)
    figures = rule.before_epoch(optimizer, net, Map(j=2.0), images, labels, seed=4)
    draws = torch.Generator().manual_seed(4)
    chosen = torch.randperm(12, generator=draws)[:5]
    inputs = (net, Map(j=2.0), images[chosen], labels[chosen])
    h = {
        "gauss_newton": lambda: curvature.gauss_newton(*inputs),
        "exact": lambda: curvature.exact(*inputs),
        "hutchinson": lambda: curvature.hutchinson(*inputs, 3, draws)[0],
    }[kind]()
    bends = flat(h)
    rates = 0.01 / (0.02 + (bends.abs() if negative == "abs" else bends.clamp(min=0)))
    torch.testing.assert_close(optimizer.rates(), rates)
    assert figures["sdlm/rate_min"] == pytest.approx(float(rates.min()))
    assert figures["sdlm/rate_median"] == pytest.approx(float(rates.median()))
    assert figures["sdlm/rate_max"] == pytest.approx(float(rates.max()))
    assert figures["sdlm/negative"] == pytest.approx(float((bends < 0).double().mean()))
    assert (figures["sdlm/negative"] == 0) == (kind == "gauss_newton")
    assert ("sdlm/noise" in figures) == (kind == "hutchinson")


# In the harness

SMALL = ("model=lenet5_1998", "data=digits", "data.train_size=40", "optimizer.patterns=30", "trainer.threads=1")


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["optimizer=sdlm", "norm=bn"], ["curvature=gauss_newton", "BatchNorm2d (conv", "curvature=hutchinson"]),
        (["optimizer=sdlm", "optimizer.curvature=exact"], ["patterns=500", "44,426", "1 to 67"]),
        (["model=lenet5_1998", "norm=gn"], ["curvature=gauss_newton", "GroupNorm (c"]),
    ],
)
def test_what_the_curvature_cannot_do_is_refused_in_one_line(words, fragments):
    with pytest.raises(LabError) as refusal:
        make_ready(compose_cell(["data=digits", *words]))
    assert "\n" not in str(refusal.value)
    assert not [f for f in fragments if f not in str(refusal.value)], refusal.value


def test_norms_train_with_the_estimates_that_need_no_rule():
    words = ["data=digits", "data.train_size=32", "optimizer=sdlm", "norm=bn", "epochs=1", "optimizer.patterns=8"]
    cell = compose_cell([*words, "optimizer.curvature=hutchinson", "optimizer.probes=2", "lr=1e-4"])
    config = make_ready(cell).config
    _, trained = train(config, load(config.data), execution_of(config), None)
    assert trained.log_book[0]["sdlm/noise"] > 0
    assert all(torch.isfinite(value).all() for value in trained.last.values())


def test_an_sdlm_run_resumes_bit_for_bit(tmp_path):
    """With the paper's network, losses of single patterns, fixed order and its schedule."""
    config = parse(
        compose_cell([*SMALL, "epochs=3", "schedule.milestones=[1,2]", "schedule.factors=[1,0.5,0.1]"]).resolved
    )
    arrays = load(config.data)
    whole = train(config, arrays, execution_of(config), None)[1]

    class Killed(Exception):
        pass

    def sink(values, step):
        if step > 1:
            raise Killed

    with pytest.raises(Killed):
        train(config, arrays, execution_of(config), tmp_path, sink=sink)
    resumed = train(config, arrays, execution_of(config), tmp_path)[1]
    assert resumed.resumed_from == 1
    assert all(torch.equal(resumed.last[key], value) for key, value in whole.last.items())
    names = ("sdlm/rate_min", "sdlm/rate_median", "sdlm/rate_max", "lr", "train/loss")
    assert [[row[n] for n in names] for row in resumed.log_book] == [[row[n] for n in names] for row in whole.log_book]
    rates = [row["lr"] for row in whole.log_book]
    assert rates == pytest.approx([5e-4, 2.5e-4, 5e-5])
    assert all(
        row["sdlm/rate_max"] <= rate / config.optimizer.mu * (1 + 1e-6)
        for row, rate in zip(whole.log_book, rates, strict=True)
    )


def test_every_update_of_the_harness_is_the_rule():
    """One pass of single patterns in the fixed order, replayed with autograd alone."""
    from lenet_lab.blocks.streams import derive
    from lenet_lab.data.batches import order

    config = parse(compose_cell([*SMALL, "epochs=1"]).resolved)
    arrays = load(config.data)
    trained = train(config, arrays, execution_of(config), None)[1]
    net, images, labels = build(config), arrays.train.images, arrays.train.labels
    draws = torch.Generator().manual_seed(derive(0, "curvature", 0))
    some = torch.randperm(40, generator=draws)[:30]
    h = curvature.gauss_newton(net, config.loss, images[some], labels[some])
    for row in order(40, 0, 0):
        loss = config.loss.loss(net(images[row : row + 1]), labels[row : row + 1]).sum()
        grads = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for (name, p), g in zip(net.named_parameters(), grads, strict=True):
                p -= 5e-4 / (config.optimizer.mu + h[name]) * g
    for name, p in net.named_parameters():
        torch.testing.assert_close(trained.last[name], p.detach(), rtol=1e-3, atol=2e-5)
