"""A faster copy of a network gives the same maps, or is not used."""

import copy

import pytest
import torch
from torch import nn

from gradaudit.attribution.explanation import explain
from gradaudit.attribution.methods import CAMS
from gradaudit.measurement.acceleration import accelerated
from gradaudit.models.classifier import Classifier


class Normed(nn.Module):
    """Convolutions with batch norms as networks have them: in a row, in a shortcut, and one whose output is read twice."""

    def __init__(self, read_twice=False):
        super().__init__()
        self.read_twice = read_twice
        self.stem, self.norm0 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = (
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8, affine=False),
        )
        self.body = nn.ReLU()
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.norm0(self.stem(x)).relu()
        y = self.conv1(x)
        z = self.norm1(y) + (y if self.read_twice else x)
        return self.head(self.body(z).mean((2, 3)))


def trained(**options):
    torch.manual_seed(0)
    net = Normed(**options)
    for norm in (net.norm0, net.norm1):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.3, 3)
    return net.eval()


def images(count=3):
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", ["gradcam", "layercam", "eigencam", "scorecam"])
def test_both_steps_are_kept_and_maps_stay(method):
    clf, x = Classifier(trained(), "body"), images()
    found = accelerated(clf, x, method)
    assert len(found.kept) == len(found.notes) == 2
    plain, fast = explain(clf, x, method=method), explain(found.classifier, x, method=method)
    assert (plain.raw - fast.raw).abs().max() <= 1e-5 * plain.raw.abs().max()
    assert isinstance(found.classifier.module.norm0, nn.Identity)
    assert found.classifier.module.stem.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_network_itself_is_untouched():
    net, x = trained(), images()
    state = copy.deepcopy(net.state_dict())
    accelerated(Classifier(net, "body"), x)
    assert isinstance(net.norm0, nn.BatchNorm2d)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


def test_an_output_that_is_read_twice_is_not_folded():
    found = accelerated(Classifier(trained(read_twice=True), "body"), images())
    assert found.kept == ("channels last in memory",)
    assert "left out, it moved a map or a score by" in found.notes[0]
    assert isinstance(found.classifier.module.norm1, nn.BatchNorm2d)


def test_a_norm_behind_the_explained_layer_stays():
    found = accelerated(Classifier(trained(), "conv1"), images())
    assert isinstance(found.classifier.module.norm0, nn.Identity)
    assert isinstance(found.classifier.module.norm1, nn.BatchNorm2d)


def test_what_cannot_be_copied_runs_as_it_is():
    net = trained()
    net.kept = nn.Parameter(torch.ones(2)) * 2  # no leaf: deepcopy refuses it
    found = accelerated(Classifier(net, "body"), images())
    assert found.classifier.module is net
    assert found.kept == ()
    assert all("not possible (RuntimeError)" in note for note in found.notes)


def test_a_method_that_reads_every_bias_decides_for_itself():
    assert "fullgrad" in CAMS
    clf, x = Classifier(trained(), "body"), images()
    found = accelerated(clf, x, "fullgrad")
    plain, fast = (
        explain(clf, x, method="fullgrad"),
        explain(found.classifier, x, method="fullgrad"),
    )
    assert (plain.raw - fast.raw).abs().max() <= 1e-5 * plain.raw.abs().max()
