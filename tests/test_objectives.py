"""Cross-entropy and its decision rule against torch and the formula."""

import pytest
import torch
from torch.nn import functional

from lenet_lab.objectives import BASES, DEFAULTS, CrossEntropy

OUTPUTS = torch.randn(9, 10, generator=torch.Generator().manual_seed(0)) * 3
TARGETS = torch.arange(9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_those_of_each_example(smoothing):
    losses = CrossEntropy(smoothing).loss(OUTPUTS, TARGETS)
    aim = (1 - smoothing) * functional.one_hot(TARGETS, 10) + smoothing / 10
    expected = -(aim * (OUTPUTS - OUTPUTS.logsumexp(dim=1, keepdim=True))).sum(dim=1)
    assert losses.shape == (9,)
    torch.testing.assert_close(losses, expected)


def test_the_largest_score_is_the_decision():
    objective = CrossEntropy()
    scores = objective.scores(OUTPUTS)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(9))
    assert torch.equal(scores.argmax(dim=1), objective.predict(OUTPUTS))
    assert objective.predict(torch.eye(10)).tolist() == list(range(10))
    torch.testing.assert_close(-scores[torch.arange(9), TARGETS].log(), objective.loss(OUTPUTS, TARGETS))


def test_the_default_descends_from_the_base():
    assert issubclass(DEFAULTS["loss"], BASES["loss"])
