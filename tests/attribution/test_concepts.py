"""Concepts of a layer and the neurons that carried a decision, on networks whose answer is known."""

from __future__ import annotations

import pytest
import torch
from tiny_models import GapNet, images, seeded
from torch import nn

from gradaudit.attribution.capture import capture
from gradaudit.attribution.concepts import discover, important_neurons
from gradaudit.attribution.methods import contributions
from gradaudit.attribution.scores import ClassScore
from gradaudit.errors import InputError


class TwoColours(nn.Module):
    """Channel 0 sees red, channel 1 blue; class k is the mean of channel k."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 2, 4, 4, bias=False), nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.layer.weight.zero_()
            self.layer.weight[0, 0] = self.layer.weight[1, 2] = 1 / 16
            self.head.weight.copy_(torch.eye(2))

    def forward(self, x):
        return self.head(torch.relu(self.layer(x)).mean((2, 3)))


@pytest.fixture
def picture():
    x = torch.zeros(2, 3, 16, 16)
    x[0, 0, :8, :8] = 1.0  # a red corner
    x[0, 2, 8:, 8:] = 2.0  # a blue corner, stronger
    x[1, 2, :8, 8:] = 2.0
    return x


def test_concepts_find_the_two_colours_and_their_classes(picture):
    found = discover(TwoColours(), "layer", picture, concepts=2)
    assert found.explained > 0.999
    red = int(found.channels[:, 0].argmax())
    blue = 1 - red
    assert found.classes(red)[0] == 0
    assert found.classes(blue)[0] == 1
    heat = found.heat / found.heat.amax((0, 2, 3), keepdim=True)
    expected = torch.zeros(2, 4, 4)
    expected[0, :2, :2] = 1
    torch.testing.assert_close(heat[:, red], expected, atol=1e-3, rtol=0)
    expected = torch.zeros(2, 4, 4)
    expected[0, 2:, 2:] = expected[1, :2, 2:] = 1
    torch.testing.assert_close(heat[:, blue], expected, atol=1e-3, rtol=0)


def test_concepts_are_deterministic_and_bounded():
    net, x = seeded(GapNet), images(2)
    one, two = (discover(net, "relu2", x, 3) for _ in range(2))
    assert torch.equal(one.heat, two.heat)
    assert (one.heat >= 0).all()
    assert one.heat.shape == (2, 3, 8, 8)
    assert one.scores.shape == (3, 5)
    assert 0 < one.explained < 1
    with pytest.raises(InputError, match="expected 1 to 12"):
        discover(net, "relu2", x, 13)


def test_important_neurons_name_their_classes(picture):
    captured = capture(TwoColours(), "layer", picture, ClassScore(torch.tensor([[1], [1]])))
    neurons = important_neurons(captured, contributions("gradcam", captured), count=2, classes=1)
    assert [(n.channel, n.classes) for n in neurons] == [(1, (1,)), (0, (0,))]
    assert neurons[0].share == pytest.approx(1.0)
    assert neurons[1].share == 0.0
