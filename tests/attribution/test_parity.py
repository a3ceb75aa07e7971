"""Parity with captum, torchcam, grad-cam and MONAI, and the four places where a reference departs from its paper, pinned."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import pytest
import torch
from tiny_models import images, seeded
from torch import nn
from torch.nn import functional

from gradaudit.attribution.capture import capture, capture_scores
from gradaudit.attribution.explanation import explain
from gradaudit.attribution.methods import gradcam_plus_plus
from gradaudit.attribution.perturbation_methods import occluded
from gradaudit.attribution.pixel_methods import input_gradients
from gradaudit.attribution.scores import ClassScore
from gradaudit.models.classifier import Classifier
from gradaudit.models.torchvision_compat import import_torchvision

cv2 = pytest.importorskip("cv2", reason="the parity extra is not installed")
captum = pytest.importorskip("captum.attr")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torchcam = pytest.importorskip("torchcam.methods")
    import_torchvision()
    grad_cam = pytest.importorskip("pytorch_grad_cam")
    monai = pytest.importorskip("monai.visualize")

pytestmark = pytest.mark.filterwarnings("ignore")
SEEDS = range(10)


class Plain(nn.Module):
    """VGG-like: two stages, pooling, a hidden layer in the head."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5)
        )

    def forward(self, x):
        return self.head(self.layer(x))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.layer, self.fc = nn.Conv2d(3, 8, 3, 2, 1), _Residue(8), nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.layer(torch.relu(self.stem(x))).mean((2, 3)))


class _Residue(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.norm, self.relu = (
            nn.Conv2d(width, width, 3, 2, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)) + functional.avg_pool2d(x, 2))


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.layer = (
            nn.Conv2d(3, 6, 3, 2, 1),
            nn.Conv2d(6, 6, 3, 1, 1),
            nn.Conv2d(12, 10, 3, 2, 1),
        )
        self.act, self.head = nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Linear(10 * 64, 5))

    def forward(self, x):
        a = self.act(self.one(x))
        return self.head(torch.relu(self.layer(torch.cat([a, torch.relu(self.two(a))], 1))))


class Mobile(nn.Module):
    """Depthwise convolution, hard-swish, squeeze and excitation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Hardswish())
        self.deep, self.gate, self.layer = (
            nn.Conv2d(8, 8, 3, 2, 1, groups=8),
            nn.Conv2d(8, 8, 1),
            nn.Sequential(nn.Conv2d(8, 10, 1), nn.ReLU()),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(10, 12),
            nn.Hardswish(),
            nn.Linear(12, 5),
        )

    def forward(self, x):
        x = self.deep(self.stem(x))
        return self.head(self.layer(x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))))


class Modern(nn.Module):
    """ConvNeXt-like: patch stem, large depthwise kernel, layer norm, GELU."""

    def __init__(self):
        super().__init__()
        self.stem, self.deep, self.norm = (
            nn.Conv2d(3, 8, 4, 4),
            nn.Conv2d(8, 8, 7, 1, 3, groups=8),
            nn.GroupNorm(1, 8),
        )
        self.layer, self.head = (
            nn.Conv2d(8, 10, 1),
            nn.Sequential(
                nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(10), nn.Linear(10, 5)
            ),
        )

    def forward(self, x):
        return self.head(self.layer(functional.gelu(self.norm(self.deep(self.stem(x))))))


ARCHITECTURES = (Plain, Residual, Dense, Mobile, Modern)
each = pytest.mark.parametrize("build", ARCHITECTURES)


def close(a, b, tolerance):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-30))


def cases(build):
    for seed in SEEDS:
        net, x = seeded(build, seed), images(3, 32, seed=100 + seed)
        yield net, x, torch.tensor([seed % 5, (seed + 1) % 5, (seed + 3) % 5])


@each
def test_captum_layer_gradcam_and_hirescam(build):
    for net, x, ids in cases(build):
        clf = Classifier(net, "layer")
        reference = captum.LayerGradCam(net, net.layer)
        close(explain(clf, x, ids).raw, reference.attribute(x, target=ids)[:, 0].detach(), 1e-6)
        close(
            explain(clf, x, ids).heat(),
            reference.attribute(x, target=ids, relu_attributions=True)[:, 0].detach(),
            1e-6,
        )
        product = (
            captum.LayerGradientXActivation(net, net.layer).attribute(x, target=ids).sum(1).detach()
        )
        close(explain(clf, x, ids, "hirescam").raw, product, 2e-6)


@each
@pytest.mark.slow
def test_captum_pixel_methods(build):
    for net, x, ids in cases(build):
        score = ClassScore(ids[:, None])
        close(
            input_gradients(net, x, score).gradients[:, 0].abs(),
            captum.Saliency(net).attribute(x, target=ids).detach(),
            1e-6,
        )
        reference = captum.Occlusion(net).attribute(
            x, target=ids, sliding_window_shapes=(3, 5, 5), strides=(3, 3, 3)
        )
        close(
            occluded(capture_scores(net, x, score), (5, 5), (3, 3))[:, 0],
            reference[:, 0].detach(),
            2e-6 * max(1, 1 / float(reference.abs().max())),
        )


@pytest.mark.parametrize("build", [Plain, Residual])
def test_captum_relu_rules_where_every_relu_is_a_module_used_once(build):
    for net, x, ids in cases(build):
        twin = ModuleRelu(net) if build is Residual else net
        for rule, method in (
            ("guided", captum.GuidedBackprop),
            ("deconvnet", captum.Deconvolution),
        ):
            ours = input_gradients(twin, x, ClassScore(ids[:, None]), rule=rule).gradients[:, 0]
            close(ours, method(twin).attribute(x, target=ids).detach(), 1e-6)


class ModuleRelu(nn.Module):
    """Residual with its functional ReLU as a module, which is all that captum sees."""

    def __init__(self, net):
        super().__init__()
        self.net, self.act = net, nn.ReLU()

    def forward(self, x):
        return self.net.fc(self.net.layer(self.act(self.net.stem(x))).mean((2, 3)))


@each
@pytest.mark.parametrize(
    ("theirs", "ours"), [("GradCAM", "gradcam"), ("LayerCAM", "layercam"), ("XGradCAM", "xgradcam")]
)
def test_torchcam_unnormalised(build, theirs, ours):
    for net, x, ids in cases(build):
        with getattr(torchcam, theirs)(net, "layer") as extractor:
            (reference,) = extractor(ids.tolist(), net(x), normalized=False)
        tolerance = 1e-6 if ours != "xgradcam" else 2e-5  # their eps of 1e-8 beside sums near zero
        close(explain(Classifier(net, "layer"), x, ids, ours).heat(), reference.detach(), tolerance)


def unit(maps):
    """grad-cam's own post-processing: (m - min) / (max + 1e-7), image by image."""
    out = [m - m.min() for m in np.asarray(maps, np.float32)]
    return np.stack([m / (1e-7 + m.max()) for m in out])


def after_grad_cam(raw, size):
    coarse = unit(np.maximum(raw, 0))
    return unit(np.maximum(np.stack([cv2.resize(m, size) for m in coarse]), 0))


GRAD_CAM_NAMES = {
    "GradCAM": "gradcam", "HiResCAM": "hirescam", "LayerCAM": "layercam", "GradCAMElementWise": "elementwise", "XGradCAM": "xgradcam",
    "EigenGradCAM": "eigengradcam",
}  # fmt: skip


@each
@pytest.mark.parametrize(("theirs", "ours"), list(GRAD_CAM_NAMES.items()))
def test_grad_cam_after_its_own_post_processing(build, theirs, ours):
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    for net, x, ids in cases(build):
        with getattr(grad_cam, theirs)(model=net, target_layers=[net.layer]) as method:
            reference = method(
                input_tensor=x, targets=[ClassifierOutputTarget(int(k)) for k in ids]
            )
        raw = explain(Classifier(net, "layer"), x, ids, ours).raw.numpy()
        scale = np.abs(raw).max((1, 2))
        for n in range(len(x)):
            options = [after_grad_cam(raw[n : n + 1], (32, 32))[0]]
            if ours == "eigengradcam":  # the sign of a principal component is arbitrary in theirs
                options.append(after_grad_cam(-raw[n : n + 1], (32, 32))[0])
            error = min(np.abs(option - reference[n]).max() for option in options)
            # min-max scaling divides rounding by the range of the positive part, and their eps of 1e-7 counts where that is small
            positive = max(np.maximum(raw[n], 0).max(), 1e-30)
            assert error < 1e-5 + 4e-7 * scale[n] / positive + 3e-7 / positive, (
                build.__name__,
                ours,
                n,
                error,
            )


# ── four deviations of the references, pinned: if one of these fails, the reference changed ──────────────────────────


def case_with_small_gradients(factor):
    net = seeded(Plain, 3)
    with torch.no_grad():
        net.head[-1].weight.mul_(factor)
    return net, images(2, 32, seed=7), torch.tensor([1, 3])


def paper_plus_plus(net, x, ids):
    return gradcam_plus_plus(capture(net, "layer", x.double(), ClassScore(ids[:, None])))[:, 0]


def test_torchcam_grad_cam_plus_plus_loses_its_division():
    """torchcam 0.5.0: ``alpha[idx][mask].div_(...)`` divides a copy made by the mask, so alpha stays g squared and nothing is divided."""
    net, x, ids = case_with_small_gradients(1.0)
    with torchcam.GradCAMpp(net, "layer") as extractor:
        extractor(ids.tolist(), net(x))
        (theirs,) = extractor._get_weights(ids.tolist(), net(x))
    captured = capture(net, "layer", x, ClassScore(ids[:, None]))
    g = captured.gradients[:, 0]
    close(theirs.detach(), (g**2 * g.clamp_min(0)).sum(-1), 1e-5)
    ours = paper_plus_plus(net.double(), x, ids)
    cosine = functional.cosine_similarity(theirs.double().detach(), ours, dim=1)
    assert (cosine < 0.99).all()  # it is not even proportional to the paper's weights


def test_torchcam_smooth_grad_cam_plus_plus_adds_an_absolute_eps():
    """torchcam 0.5.0: 1e-8 beside g squared, so small gradients lose their weights."""
    net, x, ids = case_with_small_gradients(1.0)
    with torchcam.SmoothGradCAMpp(net, "layer", num_samples=1, std=1e-9) as extractor:
        extractor(int(ids[0]), net(x[:1]), normalized=False)
        weights = extractor._get_weights(int(ids[0]), net(x[:1]))[0]
    ours = paper_plus_plus(net.double(), x[:1], ids[:1])
    assert (
        functional.cosine_similarity(weights.double().detach().reshape(1, -1), ours, dim=1) > 0.99
    )  # at this scale nearly the paper's
    net, x, ids = case_with_small_gradients(1e-5)
    with torchcam.SmoothGradCAMpp(net, "layer", num_samples=1, std=1e-9) as extractor:
        extractor(int(ids[0]), net(x[:1]), normalized=False)
        weights = extractor._get_weights(int(ids[0]), net(x[:1]))[0]
    ours = paper_plus_plus(net.double(), x[:1], ids[:1])
    assert weights.abs().max() < 1e-2 * ours.abs().max()


def test_grad_cam_grad_cam_plus_plus_adds_an_absolute_eps():
    """grad-cam 1.5: ``eps = 1e-6`` beside g squared; where gradients are below 1e-3 the weights become g cubed over eps."""
    net, x, ids = case_with_small_gradients(1e-3)
    captured = capture(net, "layer", x, ClassScore(ids[:, None]))
    a, g = (
        captured.on_grid(captured.activations).numpy(),
        captured.on_grid(captured.gradients)[:, 0].numpy(),
    )
    with grad_cam.GradCAMPlusPlus(model=net, target_layers=[net.layer]) as method:
        theirs = method.get_cam_weights(x, [net.layer], None, a, g)
    close(theirs, (np.maximum(g, 0) * g**2 / 1e-6).sum((2, 3)), 0.2)
    ours = paper_plus_plus(net.double(), x, ids)
    normal = paper_plus_plus(case_with_small_gradients(1.0)[0].double(), x, ids)
    assert np.abs(theirs).max() < 1e-2 * float(ours.abs().max())
    assert (
        functional.cosine_similarity(ours, normal, dim=1).min() > 0.7
    )  # the paper's weights do not collapse with the scale


def test_monai_mixes_the_classes_of_a_batch():
    """MONAI 1.6: with batch > 1 and class_idx=None the score is the sum over all pairs of images and predicted classes."""
    x = images(6, 32, seed=2) * torch.tensor([0.2, 1, 2, 4, 6, 8])[:, None, None, None]
    net = next(
        net
        for net in (seeded(Plain, seed) for seed in range(200))
        if len(set(net(x).argmax(1).tolist())) > 1
    )
    cam = monai.GradCAM(nn_module=net, target_layers="layer", register_backward=True)
    with contextlib.redirect_stdout(io.StringIO()):
        batch = cam.compute_map(x)[:, 0].detach()
        singly = torch.cat([cam.compute_map(x[n : n + 1])[:, 0].detach() for n in range(6)])
    ours = explain(Classifier(net, "layer"), x).heat()
    close(ours, singly, 1e-5)  # alone, MONAI is Grad-CAM
    classes = net(x).argmax(1)
    mixed = explain(Classifier(net, "layer"), x, lambda out: out[:, classes].sum(1)).heat()
    close(batch, mixed, 1e-5)
    assert (batch - singly).abs().max() > 0.05 * singly.abs().max()
