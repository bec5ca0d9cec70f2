"""Architectures beside LeNet-5: parameter counts from their sources, the spatial transformer, what they refuse."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from test_models import BASELINE, count, images, option

from lenet_lab import blocks, objectives
from lenet_lab.blocks.dropout import DropoutRate
from lenet_lab.blocks.init import Init
from lenet_lab.blocks.norm import BatchNorm, GroupNorm, LayerNorm
from lenet_lab.blocks.pool import Pool
from lenet_lab.cell import make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.models import LeNet5, build
from lenet_lab.models.mlp import MLP
from lenet_lab.models.stn import SpatialTransformer, SpatialTransformerLeNet5
from lenet_lab.records import LabError


@pytest.mark.parametrize(
    ("model", "parts", "parameters"),
    [
        ("mlp", BASELINE, 469_160),  # 784-500-150-10, as the README of SangbeomJeong/LeNet5_MLP_project counts them
        ("mlp_small", BASELINE, 41_090),  # 784-50-30-10, its code
        ("mlp_matched", BASELINE, 44_415),
        ("lenet5_wide", BASELINE, 1_123_366),  # TommyL1/LeNet5, model2.py
        ("stn_lenet5", BASELINE, 44_426 + 8 * 50 + 10 * 201 + 32 * 91 + 6 * 33),
    ],
)
def test_parameter_counts(model, parts, parameters):
    net = build(option("model", model), parts)
    assert count(net) == parameters
    assert net(images(3)).shape == (3, 10)


def test_no_widths_of_two_hidden_layers_come_closer_below_lenet5():
    counts = {785 * a + (a + 1) * b + (b + 1) * 10 for a in range(31, 57) for b in range(1, a)}
    assert max(n for n in counts if n <= 44_426) == count(build(option("model", "mlp_matched"), BASELINE))


def test_the_wide_net_is_its_source_on_padded_images():
    """A 32x32 image, and the 28x28 image that it is padded from, meet the same convolutions."""
    wide = option("model", "lenet5_wide")
    parts = replace(BASELINE, pool=Pool("max"), activation=blocks.Activation("relu"))
    small, large = build(wide, parts), build(replace(wide, padding=(2, 2)), replace(parts, in_shape=(1, 32, 32)))
    assert [p.shape for p in small.parameters()] == [p.shape for p in large.parameters()]
    x = images(3)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    torch.testing.assert_close(small.eval()(x), large.eval()(padded))


def test_padding_of_the_wrong_length_is_refused():
    with pytest.raises(LabError, match=r"model\.padding=\[2\]: a list has one a convolution; allowed: 2 numbers"):
        LeNet5(padding=(2,))


# the spatial transformer


@pytest.mark.parametrize("init", ["default", "he_normal", "orthogonal"])
def test_a_spatial_transformer_starts_as_the_identity(init):
    """Whatever the rule for weights, biases included; LeNet-5 behind it starts from its own weights."""
    parts = replace(BASELINE, init=Init(init, bias=0.3))
    net, plain = build(SpatialTransformerLeNet5(), parts).eval(), build(LeNet5(), parts).eval()
    x = images(5)
    torch.testing.assert_close(net(x), plain(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(net.stn(x), x, rtol=0, atol=1e-4)
    for name, value in plain.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name


@pytest.mark.parametrize(
    "theta",
    [
        [[1.0, 0, 0.25], [0, 1, -0.5]],
        [[0.8, -0.3, 0.1], [0.3, 0.8, 0]],
        [[1.5, 0, 0], [0.2, 0.7, 0.1]],
    ],
)
def test_an_affine_map_reads_where_it_says(theta):
    """Against SciPy's bilinear interpolation at the places that eq. 1 of the paper gives, edges repeated."""

    class Fixed(torch.nn.Module):
        def forward(self, x):
            return torch.tensor(theta).view(1, 6).expand(len(x), 6)

    x = images(2, (1, 9, 12))
    seen = SpatialTransformer(torch.nn.Sequential(Fixed()))(x)
    height, width = 9, 12
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    centre = [(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1, np.ones_like(rows)]
    u, v = np.tensordot(np.array(theta), np.stack(centre), axes=1)
    places = [((v + 1) * height - 1) / 2, ((u + 1) * width - 1) / 2]
    for image, expected in zip(seen[:, 0], x[:, 0], strict=True):
        reference = ndimage.map_coordinates(expected.numpy(), places, order=1, mode="nearest")
        np.testing.assert_allclose(image.numpy(), reference, atol=1e-5)


def test_a_localisation_net_that_does_not_fit_is_refused():
    with pytest.raises(LabError, match=r"model\.loc_kernels=\[7, 11\] leaves nothing to pool of the 11x11 maps"):
        build(SpatialTransformerLeNet5(loc_kernels=(7, 11)), BASELINE)
    with pytest.raises(LabError, match=r"model\.loc_kernels=\[7\]: one a convolution; allowed: 2 numbers"):
        SpatialTransformerLeNet5(loc_kernels=(7,))


# what every architecture goes through

RELU_BN = replace(BASELINE, norm=BatchNorm("all"), dropout=DropoutRate(0.5), activation=blocks.Activation("relu"))
NETS = [
    pytest.param(MLP((20, 12)), replace(RELU_BN, norm=BatchNorm("fc")), id="mlp"),
    pytest.param(SpatialTransformerLeNet5(), RELU_BN, id="stn"),
    pytest.param(LeNet5(maps=(4, 6), padding=(4, 2), units=(12,)), RELU_BN, id="wide"),
]


def moved(model, parts, seed=0):
    """A net whose norms have seen a batch and whose transformer is no identity any more."""
    net = build(model, replace(parts, seed=seed))
    for name, parameter in net.named_parameters():
        if "theta" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(seed))
            parameter.data += torch.tensor([1.0, 0, 0, 0, 1, 0]) if name.endswith("bias") else 0
    net(images(8, seed=5))
    return net


@pytest.mark.parametrize(("model", "parts"), NETS)
def test_an_exported_net_takes_any_batch(model, parts):
    net = moved(model, parts).eval()
    program = torch.export.export(net, (images(2),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    for n in (1, 2, 33):
        torch.testing.assert_close(program.module()(images(n)), net(images(n)))


@pytest.mark.parametrize(("model", "parts"), NETS)
def test_a_net_does_the_same_in_channels_last(model, parts):
    net, x = moved(model, parts).eval(), images(4)
    expected = net(x)
    other = net.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(other, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("model", "parts"), NETS)
def test_nets_under_vmap_equal_each_alone(model, parts):
    nets = [moved(model, replace(parts, dropout=DropoutRate(0.0)), seed) for seed in range(3)]
    x, targets = images(6), torch.arange(6)
    params, buffers = torch.func.stack_module_state(nets)

    def loss(params, buffers):
        outputs = torch.func.functional_call(nets[0], (params, buffers), (x,))
        return objectives.CrossEntropy().loss(outputs, targets).mean()

    grads, losses = torch.func.vmap(torch.func.grad_and_value(loss))(params, buffers)
    for seed, net in enumerate(nets):
        alone = objectives.CrossEntropy().loss(net(x), targets).mean()
        alone.backward()
        torch.testing.assert_close(losses[seed], alone.detach())
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(grads[name][seed], parameter.grad, atol=1e-4, rtol=1e-3)


# what a fully connected network has no use for


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": BatchNorm()}, r"norm\.place=conv: .* allowed: norm=none, or norm=bn,ln with norm\.place=fc"),
        ({"norm": GroupNorm()}, r"norm\.place=conv: "),
        ({"dropout": DropoutRate(0.1, "conv")}, r"dropout\.place=conv: .* allowed: fc, flatten"),
    ],
)
def test_an_mlp_refuses_what_belongs_to_convolutions(change, message):
    with pytest.raises(LabError, match=message) as refusal:
        build(MLP(), replace(BASELINE, **change))
    assert "\n" not in str(refusal.value)


def test_an_mlp_takes_what_belongs_to_hidden_layers():
    parts = replace(BASELINE, norm=LayerNorm("fc"), dropout=DropoutRate(0.2, "flatten"))
    names = [name for name, _ in build(MLP((7, 5)), parts).named_children()]
    hidden = ["fc1", "fc1_norm", "fc1_act", "fc2", "fc2_norm", "fc2_act"]
    assert names == ["flatten", "flatten_drop", *hidden, "head"]


def test_an_mlp_refuses_a_pool():
    make_ready(compose_cell(["data=digits", "model=mlp"]))
    with pytest.raises(LabError, match=r"pool=max: model=mlp has no use for it; leave it at avg"):
        make_ready(compose_cell(["data=digits", "model=mlp", "pool=max"]))
