"""Losses and their decision rules against torch and the formulas of their sources."""

import itertools
import math
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional

from lenet_lab import blocks
from lenet_lab.blocks.head import HEADS, GaussianHead, LinearHead, RbfHead
from lenet_lab.objectives import (
    BASES,
    DEFAULTS,
    LOSSES,
    CrossEntropy,
    Map,
    MeanSquaredError,
    Objective,
    RbfMse,
    check_fit,
)
from lenet_lab.records import LabError

CONF = Path(__file__).parents[1] / "conf"
OUTPUTS = torch.randn(9, 10, generator=torch.Generator().manual_seed(0)) * 3
DISTANCES = OUTPUTS.square()
TARGETS = torch.arange(9)
READ = {"logits": OUTPUTS, "distances": DISTANCES, "likelihoods": torch.exp(-DISTANCES / 2)}
ALL = [
    CrossEntropy(),
    CrossEntropy(0.1),
    MeanSquaredError(),
    MeanSquaredError(0.1),
    RbfMse(),
    Map(),
    Map(j=30.0),
    Map(over="incorrect"),
    Map(label_smoothing=0.1),
]
PAIRS = [(objective, kind) for objective in ALL for kind in objective.accepts]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_each_example(smoothing):
    losses = CrossEntropy(smoothing).loss(OUTPUTS, TARGETS)
    aim = (1 - smoothing) * functional.one_hot(TARGETS, 10) + smoothing / 10
    expected = -(aim * (OUTPUTS - OUTPUTS.logsumexp(dim=1, keepdim=True))).sum(dim=1)
    assert losses.shape == (9,)
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mean_squared_error_is_over_classes(smoothing):
    aim = (1 - smoothing) * torch.eye(10)[TARGETS] + smoothing / 10
    losses = MeanSquaredError(smoothing).loss(OUTPUTS, TARGETS)
    expected = [functional.mse_loss(row, a) for row, a in zip(OUTPUTS, aim, strict=True)]
    torch.testing.assert_close(losses, torch.stack(expected))
    nothing = MeanSquaredError().loss(torch.zeros(3, 10), torch.arange(3))
    torch.testing.assert_close(nothing, torch.full((3,), 0.1))


@pytest.mark.parametrize(
    ("objective", "formula"),
    [
        (RbfMse(), lambda y, d: y[d]),
        (Map(), lambda y, d: y[d] + math.log(math.exp(-0.1) + sum(math.exp(-v) for v in y))),
        (Map(j=7.5), lambda y, d: y[d] + math.log(math.exp(-7.5) + sum(math.exp(-v) for v in y))),
        (
            Map(j=2.0, over="incorrect"),
            lambda y, d: y[d] + math.log(math.exp(-2) + sum(math.exp(-v) for i, v in enumerate(y) if i != d)),
        ),
    ],
    ids=lambda v: type(v).__name__ if callable(v) else str(v),
)
def test_losses_over_distances_are_the_papers(objective, formula):
    """Equations (8) and (9), term by term."""
    y = DISTANCES.double()
    expected = [formula(row, d) for d, row in enumerate(y.tolist())]
    assert objective.loss(y, TARGETS).tolist() == pytest.approx(expected, rel=1e-12)


def test_map_smooths_over_the_classes_and_not_over_the_rubbish():
    y, e, j = DISTANCES.double(), 0.2, 1.5
    logs = torch.cat([-y, torch.full((9, 1), -j)], dim=1).log_softmax(dim=1)
    aim = torch.cat([(1 - e) * torch.eye(10)[:9] + e / 10, torch.zeros(9, 1)], dim=1)
    torch.testing.assert_close(Map(j=j, label_smoothing=e).loss(y, TARGETS), -(aim * logs).sum(dim=1))


def test_map_pulls_and_pushes_as_it_should():
    """At a right answer, codes 12 bits apart: half a pull, no push from far codes unless j is of their size."""
    y = torch.full((1, 10), 48.0)
    y[0, 3] = 0.0

    def slopes(objective):
        at = y.clone().requires_grad_()
        objective.loss(at, torch.tensor([3])).sum().backward()
        return at.grad[0]

    assert float(slopes(Map())[3]) == pytest.approx(0.475, abs=1e-3)
    assert float(slopes(Map()).abs()[:3].max()) < 1e-12
    assert float(slopes(Map(over="incorrect"))[3]) == pytest.approx(1.0)
    assert float(slopes(Map(j=48.0, over="incorrect"))[0]) == pytest.approx(-0.1)
    assert torch.equal(slopes(RbfMse()), torch.eye(10)[3])


def test_losses_stay_finite_far_away():
    far = torch.tensor([[3e4, 2e4, 1e4]])
    for objective in (RbfMse(), Map(), Map(over="incorrect")):
        assert torch.isfinite(objective.loss(far, torch.tensor([0]))).all()
        assert float(objective.scores(far).sum()) == pytest.approx(1.0)


@pytest.mark.parametrize(("objective", "kind"), PAIRS, ids=lambda v: str(v)[:40])
def test_the_largest_score_is_the_decision(objective, kind):
    outputs = READ[kind]
    scores = objective.scores(outputs)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(9))
    assert (scores >= 0).all()
    assert torch.equal(scores.argmax(dim=1), objective.predict(outputs))
    best = outputs.argmin(dim=1) if kind == "distances" else outputs.argmax(dim=1)
    assert torch.equal(objective.predict(outputs), best)


def test_scores_of_outputs_without_a_positive_one():
    objective, outputs = MeanSquaredError(), torch.tensor([[-0.3, -0.1, -0.2], [0.0, 0.0, 0.0], [0.5, -1.0, 0.5]])
    scores = objective.scores(outputs)
    torch.testing.assert_close(scores[0], outputs[0].softmax(dim=0))
    torch.testing.assert_close(scores[1], torch.full((3,), 1 / 3))
    torch.testing.assert_close(scores[2], torch.tensor([0.5, 0.0, 0.5]))


def test_scores_of_gaussians_far_from_every_centre():
    tiny = torch.tensor([[1e-30, 3e-30, 0.0]])
    torch.testing.assert_close(MeanSquaredError().scores(tiny), torch.tensor([[0.25, 0.75, 0.0]]))


def test_a_rubbish_class_must_be_somewhere_to_be_smoothed():
    with pytest.raises(LabError, match=r"^loss\.label_smoothing=0\.1: .*; allowed: 0, or loss\.over=all$"):
        Map(over="incorrect", label_smoothing=0.1)


# which loss reads which head


def test_pairs_that_fit_are_those_whose_outputs_match():
    heads = {"linear": LinearHead(), "rbf_fixed": RbfHead(), "rbf_gaussian": GaussianHead()}
    losses = {"cross_entropy": CrossEntropy(), "mse": MeanSquaredError(), "rbf_mse": RbfMse(), "map": Map()}
    fitting = []
    for (head, built), (name, loss) in itertools.product(heads.items(), losses.items()):
        try:
            check_fit(built, loss)
            fitting.append((head, name))
        except LabError as refusal:
            said = str(refusal)
            assert "\n" not in said
            good = [f"loss={n}" for n, o in losses.items() if built.outputs in o.accepts]
            assert all(word in said for word in good)
            assert f"loss={name}," not in said
    assert fitting == [
        ("linear", "cross_entropy"),
        ("linear", "mse"),
        ("rbf_fixed", "rbf_mse"),
        ("rbf_fixed", "map"),
        ("rbf_gaussian", "mse"),
    ]


def test_the_tables_of_the_refusal_are_the_options_there_are():
    assert set(LOSSES) == {path.stem for path in (CONF / "loss").glob("*.yaml")}
    assert set(HEADS) == {path.stem for path in (CONF / "head").glob("*.yaml")}
    for group, table, attribute in (("loss", LOSSES, "accepts"), ("head", HEADS, "outputs")):
        for name, stated in table.items():
            target = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())["_target_"]
            module = __import__(target.rpartition(".")[0], fromlist=["x"])
            assert getattr(getattr(module, target.rpartition(".")[2]), attribute) == stated


def test_the_default_descends_from_the_base():
    assert issubclass(DEFAULTS["loss"], BASES["loss"])
    assert issubclass(blocks.DEFAULTS["head"], blocks.BASES["head"])
    assert BASES["loss"] is Objective
