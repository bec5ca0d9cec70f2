"""Every architecture as MLflow stores it: loaded without unpickling, for other batch sizes, with equal outputs."""

import pytest
import torch

from lenet_lab.blocks.dropout import set_dropout_keys
from lenet_lab.cell import build, load
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import parse
from lenet_lab.fitted import Network
from lenet_lab.tracked import _asked
from lenet_lab.tracking import models, pt2

NETWORKS = [
    ["model=mlp", "norm=bn", "norm.place=fc", "dropout=0.5"],
    ["model=stn_lenet5", "norm=gn", "activation=gelu"],
    ["model=lenet5_wide", "pool=max", "activation=relu", "dropout=conv"],
    ["model=lenet5_1998"],
    ["norm=bn", "norm.place=all", "dropout=flatten", "pool=conv"],
    ["norm=in", "head=rbf_gaussian", "loss=mse", "pool=max"],
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("words", NETWORKS, ids=lambda words: words[0])
def test_a_stored_network_says_what_it_said(words, tmp_path):
    config = parse(compose_cell(words).resolved)
    net, shape = build(config), config.data.in_shape
    draw = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    for step in range(3):  # a transformer that is no identity any more, norms that have seen something
        set_dropout_keys(net, seed=0, step=step)
        images, labels = torch.randn(16, *shape, generator=draw), torch.arange(16) % 10
        optimizer.zero_grad()
        config.loss.loss(net(images), labels).mean().backward()
        optimizer.step()
    net.eval()
    models.save_network(tmp_path / "model", net, torch.randn(2, *shape, generator=draw))
    pt2.check(tmp_path / "model" / "data" / "model.pt2")
    models._check_flavor(tmp_path / "model" / "MLmodel")
    stored = models._load(tmp_path / "model")  # tells MLflow to unpickle nothing
    for n in (1, 3, 130):
        images = torch.randn(n, *shape, generator=draw)
        with torch.no_grad():
            torch.testing.assert_close(stored(images), net(images))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_network_in_double_precision_is_stored_and_asked_in_it(tmp_path):
    config = parse(compose_cell(["data=digits"]).resolved)
    split = load(config.data).test
    trained = Network(split, {}, (), "", build(config).double().eval(), config.loss)
    trained.save_model(tmp_path / "model", split.images[:2])
    assert split.images.dtype == torch.float32
    scores = _asked(models._load(tmp_path / "model"), config.loss, split).scores
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores, trained.evaluate(split).scores)
