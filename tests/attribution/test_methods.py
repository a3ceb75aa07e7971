"""Every method against its slow replica, and what holds for methods and targets as families."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from replicas import CAM_REPLICAS
from tiny_models import DeepHead, GapNet, PlantedPatch, SharedRelu, TinyViT, images, seeded
from torch import nn
from torch.utils.checkpoint import checkpoint

from gradaudit.attribution.capture import capture
from gradaudit.attribution.explanation import explain, fuse
from gradaudit.attribution.methods import CAMS, WEIGHTS, contributions, first_component
from gradaudit.attribution.targets import (
    TARGETS,
    AllDetections,
    ClassScore,
    TargetContext,
    resolve_target,
)
from gradaudit.errors import InputError, LayerError, TargetError
from gradaudit.models.classifier import Classifier

METHODS = list(CAMS)
MANY_PASSES = ("rise", "occlusion", "smoothgrad", "shapleycam")


class Rectified(nn.Module):
    """A head with curvature behind a rectified layer ``body``, so that every formula has something to get wrong."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 7, 3, 2, 1),
            nn.BatchNorm2d(7),
            nn.ReLU(),
        )
        self.tail, self.act = nn.Conv2d(7, 5, 3, 2, 1), nn.ReLU()
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(5 * 2 * 2, 12), nn.Tanh(), nn.Linear(12, classes)
        )
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.3, 0.3)
                nn.init.uniform_(module.bias, -0.3, 0.5)

    def forward(self, x):
        return self.head(self.act(self.tail(self.body(x))))


def double(build, seed=0, **arguments):
    return seeded(build, seed, **arguments).double()


@pytest.mark.parametrize("method", METHODS)
def test_method_equals_its_replica(method):
    build, layer = (GapNet, "relu2") if method == "cam" else (Rectified, "body")
    net, x, ids = double(build, 4), images(2, 16, seed=3).double(), torch.tensor([2, 4])
    found = explain(Classifier(net, layer), x, ids, method)
    for n in range(1 if method in MANY_PASSES else 2):
        expected = CAM_REPLICAS[method](net, layer, x[n : n + 1], int(ids[n]))
        np.testing.assert_allclose(
            found.raw[n], expected, rtol=1e-5, atol=2e-6 * np.abs(expected).max(), err_msg=method
        )
        assert np.abs(expected).max() > 0


def test_every_method_has_a_replica_and_a_full_card():
    assert set(CAM_REPLICAS) == set(METHODS)
    for card in CAMS.cards():
        assert all((card.label, card.summary, card.formula, card.needs, card.cost, card.source)), (
            card.name
        )


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("cam", "rise")])
def test_several_classes_at_once_equal_one_by_one(method):
    net, x = double(Rectified, 4), images(2, 16, seed=3).double()
    ids = torch.tensor([[0, 3], [2, 1]])
    together = explain(Classifier(net, "body"), x, ids, method)
    for k in range(2):
        alone = explain(Classifier(net, "body"), x, ids[:, k], method)
        torch.testing.assert_close(
            together.raw[:, k],
            alone.raw,
            rtol=1e-5,
            atol=1e-7 * float(alone.raw.abs().max()) + 1e-12,
        )


PLANTED_LIMITS = {
    "occlusion": 0.5,  # 8-pixel covers at steps of 4 spread the drop to half a patch around it; all of it lies within one patch
    "fullgrad": 0.6,  # its bias maps are upsampled from the 8x8 grid, which spreads a cell over its neighbours
    "deconvnet": 0.015,  # it ignores which ReLUs were open, so on one layer it is flat: the patch's own 1.6 % of the area
    "rise": 0.1,  # an estimate: 1,000 masks leave sampling noise everywhere; the patch is 1.6 % of the image
}
"""Below 90 % of the heat inside the planted patch, each with its reason."""


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_patch_holds_the_heat_of_every_method(method):
    x = images(2, 64, seed=5) * 0.05
    masks, near = torch.zeros(2, 64, 64), torch.zeros(2, 64, 64)
    for n, (i, j) in enumerate([(16, 32), (40, 8)]):
        x[n, 0, i : i + 8, j : j + 8] += 3.0
        masks[n, i : i + 8, j : j + 8] = 1
        near[n, i - 8 : i + 16, max(0, j - 8) : j + 16] = 1
    found = explain(Classifier(seeded(PlantedPatch), "relu"), x, 1, method)
    heat = found.heat()
    cell = 64 // heat.shape[-1]
    masks, near = (torch.nn.functional.avg_pool2d(m[:, None], cell)[:, 0] for m in (masks, near))
    inside, around = ((heat * m).sum((1, 2)) / heat.sum((1, 2)) for m in (masks, near))
    assert (inside > PLANTED_LIMITS.get(method, 0.9)).all(), inside
    assert (around > {"rise": 0.3, "deconvnet": 0.1}.get(method, 0.9)).all(), around


def test_known_equalities_between_methods():
    gap, x = double(GapNet, 2), images(3, 32).double()
    maps = {
        m: explain(Classifier(gap, "relu2"), x, 1, m).raw
        for m in ("gradcam", "hirescam", "xgradcam", "cam", "shapleycam")
    }
    for name in ("hirescam", "xgradcam", "shapleycam"):
        torch.testing.assert_close(maps[name], maps["gradcam"], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(maps["cam"], maps["gradcam"] * 64, rtol=1e-5, atol=1e-9)
    with pytest.raises(LayerError, match="CAM needs global average pooling"):
        explain(Classifier(double(Rectified), "body"), images(1, 16).double(), 1, "cam")


def test_contributions_sum_to_the_map():
    net, x = double(Rectified), images(2, 16).double()
    captured = capture(net, "body", x, ClassScore())
    for method in WEIGHTS:
        if method not in ("cam", "finercam"):
            torch.testing.assert_close(
                captured.on_grid(contributions(method, captured).sum(2)), CAMS.get(method)(captured)
            )
    with pytest.raises(InputError, match="not a weighted sum of channels"):
        contributions("eigencam", captured)


def test_first_component_by_either_gram_matrix():
    for shape in ((2, 3, 50), (2, 50, 9)):
        terms = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        x = terms.transpose(1, 2) - terms.transpose(1, 2).mean(1, keepdim=True)
        u, s, _ = torch.linalg.svd(x, full_matrices=False)
        torch.testing.assert_close(first_component(terms).abs(), (u[..., 0] * s[:, :1]).abs())
        assert ((first_component(terms) * x.sum(2)).sum(1) >= 0).all()
    assert torch.equal(first_component(torch.ones(1, 4, 9)), torch.zeros(1, 9))


def test_gradcam_plus_plus_survives_small_gradients():
    net, x = seeded(GapNet, 2), images(2)
    plain = explain(Classifier(net, "relu2"), x, 1, "gradcam++").raw
    tiny = explain(
        Classifier(net, "relu2"), x, lambda out: out[:, 1] * 1e-16, "gradcam++"
    ).raw  # g squared is below float32's range
    assert torch.isfinite(tiny).all()
    assert (tiny.abs().amax((1, 2)) > 0).equal(plain.abs().amax((1, 2)) > 0)
    torch.testing.assert_close(
        tiny * 1e16,
        plain * (tiny.sum() * 1e16 / plain.sum()),
        rtol=0.2,
        atol=float(plain.abs().max()),
    )


def test_the_three_ways_through_a_relu_by_hand():
    """Pixels with inputs +, +, -, - and weights +1, -1, +1, -1 behind one ReLU: each rule lets another set of them pass."""
    net = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 1, bias=False))
    net[2].weight.data = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    x = torch.tensor([[[[2.0, 3.0], [-4.0, -5.0]]]])
    passed = {
        "saliency": [[1, 1], [0, 0]],
        "guided_backprop": [[1, 0], [0, 0]],
        "deconvnet": [[1, 0], [1, 0]],
    }
    for method, expected in passed.items():
        assert explain(Classifier(net), x, 1, method).raw[0].tolist() == expected, method


@pytest.mark.parametrize("build", [DeepHead, SharedRelu])
def test_relu_rules_reach_functional_in_place_and_shared_relus(build):
    net, x = seeded(build), images(2)
    guided = explain(net, x, 1, "guided_backprop").raw
    assert not torch.equal(guided, explain(net, x, 1, "saliency").raw)
    again = explain(net, x, 1, "saliency").raw  # nothing of the rule stays behind
    assert torch.equal(again, explain(net, x, 1, "saliency").raw)
    with pytest.raises(LayerError, match="no ReLU"):
        explain(seeded(TinyViT), x, 1, "guided_backprop")


class Checkpointed(DeepHead):
    """Its body runs once more when its gradient is taken."""

    def forward(self, x):
        x = self.tail(self.act(checkpoint(self.body, x, use_reentrant=False)))
        return self.head(self.drop(torch.relu(x)).flatten(1))


@pytest.mark.parametrize("method", ["gradcam", "shapleycam", "scorecam", "saliency", "fullgrad"])
def test_a_checkpointed_network_has_the_maps_of_its_plain_twin(method):
    x = images(1)
    plain, checkpointed = (
        explain(Classifier(seeded(build), "tail"), x, 1, method)
        for build in (DeepHead, Checkpointed)
    )
    torch.testing.assert_close(checkpointed.raw, plain.raw, rtol=1e-5, atol=1e-7)


def test_methods_without_a_layer_need_no_grid():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4), nn.Tanh(), nn.Linear(4, 3)).eval()
    for method in ("occlusion", "saliency", "smoothgrad"):
        found = explain(Classifier(net), images(2, 16), method=method)
        assert found.raw.shape == (2, 16, 16)
        assert found.layer == ""


# ── smoothing and fusion ────────────────────────────────────────────────────────────────────────────────────────────


def test_aug_averages_the_mirrored_map():
    clf, x = Classifier(seeded(DeepHead), "body"), images(3)
    ids = clf.module(x).argmax(1)
    expected = (explain(clf, x, ids).raw + explain(clf, x.flip(-1), ids).raw.flip(-1)) / 2
    torch.testing.assert_close(
        explain(clf, x, aug=True).raw, expected
    )  # the class stays the one of the plain image


def test_eigen_smoothing_is_the_first_component_of_the_contributions():
    net, x = double(Rectified), images(2, 16).double()
    captured = capture(net, "body", x, ClassScore())
    terms = contributions("gradcam", captured)[:, 0]
    found = explain(Classifier(net, "body"), x, eigen=True).raw
    torch.testing.assert_close(found, captured.on_grid(first_component(terms)).float())
    with pytest.raises(InputError, match="not a weighted sum"):
        explain(Classifier(net, "body"), x, method="eigencam", eigen=True)


def test_fusion_of_layers_is_explicit():
    net, x = seeded(DeepHead), images(2)
    parts = [explain(Classifier(net, layer), x, 1) for layer in ("body", "tail")]
    scaled = [p.heat() / p.heat().amax((1, 2), keepdim=True).clamp_min(1e-30) for p in parts]
    coarse = torch.nn.functional.interpolate(
        scaled[1][:, None], (8, 8), mode="bilinear", align_corners=False
    )[:, 0]
    torch.testing.assert_close(fuse(parts).raw, (scaled[0] + coarse) / 2)
    torch.testing.assert_close(fuse(parts, "product").raw, scaled[0] * coarse)
    assert fuse(parts, "max").layer == "body + tail"
    with pytest.raises(InputError, match="mean, max, product"):
        fuse(parts, "sum")


# ── targets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_target_has_a_card():
    for card in TARGETS.cards():
        assert all((card.label, card.summary, card.source)), card.name


def test_text_tuples_ids_and_callables_name_the_same_scores():
    out = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    names = ["cat", "dog, wild", "x", "y"]
    context = TargetContext(
        torch.tensor([0, 3, 2]), lambda text: names.index(text) if text in names else None
    )

    def score(target):
        return resolve_target(target, context)(out)

    assert torch.equal(score("predicted"), out.max(1).values)
    assert torch.equal(score("label"), out[torch.arange(3), context.labels])
    assert torch.equal(score("class:dog, wild"), out[:, 1])
    assert torch.equal(score(("class", 1)), out[:, 1])
    assert torch.equal(score("contrast:dog, wild,x"), out[:, 1] - out[:, 2])
    assert torch.equal(score(("contrast", "cat", 3)), out[:, 0] - out[:, 3])
    assert torch.equal(score("negated:class:x"), -out[:, 2])
    assert torch.equal(score(torch.tensor([[0, 1]] * 3)), out[:, :2])
    assert torch.equal(score(np.array([1, 1, 2])), out[torch.arange(3), [1, 1, 2]])
    assert torch.equal(score(lambda o: o.sum(1)), out.sum(1))
    wrongs = {
        "clas:1": "no target 'clas'",
        "class:zebra": "no class 'zebra'",
        "contrast:cat": "two classes",
        "class": "needs class name",
    }
    for wrong, message in wrongs.items():
        with pytest.raises(TargetError, match=message):
            score(wrong)
    with pytest.raises(InputError, match="whole numbers"):
        score(torch.tensor([0.5]))


def test_pinned_scores_keep_their_class_and_rows():
    out = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]])
    other = torch.tensor([[9.0, 1.0, 5.0]] * 4)
    context = TargetContext()
    for target, column in [("predicted", 0), ("negated:predicted", 0), (torch.tensor([2, 1]), 1)]:
        pinned = resolve_target(target, context).fixed(out).row(1)
        expected = other[:, column] * (-1 if "negated" in str(target) else 1)
        assert torch.equal(pinned(other), expected)


class Segmenter(nn.Module):
    """Maps of classes at half size; its class 1 follows the red channel."""

    def __init__(self):
        super().__init__()
        self.features, self.head = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 3, 1)

    def forward(self, x):
        return {"out": self.head(torch.relu(self.features(x)))}


def test_segmentation_score_over_a_mask():
    net, x = double(Segmenter, 3), images(2, 16).double()
    region = torch.zeros(2, 16, 16)
    region[0, :8, :8] = 1
    region[1, 8:, 4:] = 1
    found = explain(Classifier(net, "features", output="out"), x, ("mask", 1, region), "hirescam")
    with torch.no_grad():
        maps = net(x)["out"][:, 1]
    half = torch.nn.functional.avg_pool2d(region[:, None], 2)[:, 0]
    torch.testing.assert_close(found.score, ((maps * half).sum((1, 2)) / half.sum((1, 2))).float())
    assert (
        (found.raw != 0) <= (half > 0)
    ).all()  # a pointwise head: only positions of the mask can matter
    chunked = explain(
        Classifier(net, "features", output="out"), x, ("mask", 1, region), "hirescam", chunk=1
    )
    torch.testing.assert_close(chunked.raw, found.raw)
    predicted = explain(Classifier(net, "features", output="out"), x, ("mask", 1))
    assert predicted.raw.shape == (2, 8, 8)
    with pytest.raises(TargetError, match="1 of 2 masks are empty"):
        explain(
            Classifier(net, "features", output="out"),
            x,
            ("mask", 1, region * torch.tensor([1.0, 0.0])[:, None, None]),
        )


def test_similarity_to_a_reference_embedding():
    net, x = seeded(GapNet), images(3)
    with torch.no_grad():
        references = net(images(3, seed=8))
    found = explain(Classifier(net, "conv2"), x, ("similarity", references), chunk=2)
    expected = torch.nn.functional.cosine_similarity(net(x), references).detach()
    torch.testing.assert_close(found.score, expected)
    one = explain(Classifier(net, "conv2"), x, ("similarity", references[0]), "scorecam")
    torch.testing.assert_close(
        one.score, torch.nn.functional.cosine_similarity(net(x), references[:1]).detach()
    )


class Boxes(nn.Module):
    """A detector with two fixed boxes an image; the score of each is the mean of a feature inside it."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 2, 4, 4)
        self.nms_thresh, self.score_thresh = 0.5, 0.9

    def forward(self, pictures):
        found = []
        for f in torch.sigmoid(self.features(torch.stack(list(pictures)))):
            scores = torch.stack([f[0, :2, :2].mean(), f[1, 2:, 2:].mean()])
            keep = scores >= self.score_thresh
            boxes = torch.tensor([[0.0, 0, 8, 8], [8.0, 8, 16, 16]])
            found.append(
                {"boxes": boxes[keep], "labels": torch.tensor([1, 2])[keep], "scores": scores[keep]}
            )
        return found


def test_detection_score_before_suppression():
    net, x = seeded(Boxes), images(2, 16)
    clf = Classifier(AllDetections(net), "detector.features")
    found = explain(
        clf, x, ("box", 2, torch.tensor([[8.0, 8, 16, 16], [9.0, 9, 16, 16]])), "hirescam"
    )
    assert found.raw.shape == (2, 4, 4)
    assert found.raw[:, :2].abs().max() == 0
    assert found.raw[:, 2:, 2:].abs().min() > 0
    assert (net.nms_thresh, net.score_thresh) == (0.5, 0.9)
    assert found.outputs.shape == (2, 0)
    with pytest.raises(TargetError, match="Image 0 has no detection of class 1"):
        explain(clf, x, ("box", 1, torch.tensor([8.0, 8, 16, 16])))


def test_token_of_a_sequence():
    class Captioner(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.rnn, self.words = (
                GapNet(6),
                nn.LSTM(6, 6, batch_first=True),
                nn.Linear(6, 9),
            )

        def forward(self, picture, words):
            start = self.net(picture)[:, None]
            states, _ = self.rnn(
                torch.cat([start, torch.nn.functional.one_hot(words, 6).to(start)], 1)
            )
            return self.words(states)

    net, x, words = seeded(Captioner), images(2), torch.tensor([[0, 4], [2, 5]])
    clf = Classifier(net, "net.conv2")
    found = explain(clf, (x, words), ("token", 1, 7))
    with torch.no_grad():
        torch.testing.assert_close(found.score, net(x, words)[:, 1, 7])
    predicted = explain(clf, (x, words), "token:2")
    with torch.no_grad():
        torch.testing.assert_close(predicted.score, net(x, words)[:, 2].max(1).values)
    assert predicted.raw.shape == (2, 8, 8)
    with pytest.raises(TargetError, match="step 5"):
        explain(clf, (x, words), "token:5")


def test_the_same_number_for_frozen_and_training_modules():
    x = images(2, 16)
    for method in METHODS:
        if method in ("cam", "rise"):
            continue
        net = seeded(Rectified)
        plain = explain(Classifier(net, "body"), x, 1, method).raw
        net.train().requires_grad_(False)
        flags = [m.training for m in net.modules()]
        buffers = {n: b.clone() for n, b in net.named_buffers()}
        assert torch.equal(explain(Classifier(net, "body"), x, 1, method).raw, plain), method
        assert flags == [m.training for m in net.modules()]
        assert all(torch.equal(b, buffers[n]) for n, b in net.named_buffers())
        assert not any(m._forward_hooks or "forward" in m.__dict__ for m in net.modules())


@pytest.mark.parametrize(("build", "layer"), [(GapNet, "conv2"), (DeepHead, "body")])
@pytest.mark.parametrize("name", [m for m in METHODS if m not in ("cam", *MANY_PASSES)])
def test_a_network_that_rectifies_in_place_has_the_maps_of_its_twin(build, layer, name):
    plain, in_place = (
        explain(Classifier.wrap(seeded(build, inplace=how), layer), images(2), method=name).raw
        for how in (False, True)
    )
    assert torch.equal(plain, in_place)
