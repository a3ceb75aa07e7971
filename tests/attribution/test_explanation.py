"""Explaining batches and measuring them: invariants of the maps, statuses, memory, and the rows of an audit."""

from __future__ import annotations

import captum.attr
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import (
    ChannelsLastNet,
    DeepHead,
    GapNet,
    PlantedPatch,
    TinyViT,
    VolumeNet,
    images,
    seeded,
)
from torch import nn

from gradaudit.attribution.explanation import explain, fuse
from gradaudit.errors import ImageError, InputError, LayerError, TargetError
from gradaudit.measurement import batch_rows
from gradaudit.measurement.batch_rows import measure_batch, region_metrics
from gradaudit.measurement.batches import ImageBatch
from gradaudit.metrics.mass import METRICS, relevance_mass_accuracy
from gradaudit.metrics.upsampling import project, upsample
from gradaudit.models.classifier import Classifier
from gradaudit.models.inputs_outputs import probabilities
from gradaudit.models.torchvision_compat import import_torchvision
from gradaudit.plan import Plan
from gradaudit.records import HEAT_STATUSES, REASONS, TABLE_COLUMNS, Sample


def wrapped(build, layer="auto", seed=0, **arguments) -> Classifier:
    return Classifier.wrap(seeded(build, seed, **arguments), layer)


def same(a, b, tolerance=1e-6):
    scale = max(float(b.abs().max()), 1e-30)
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance * scale)


# ── equality with captum on real architectures ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "layer", "side"),
    [
        ("resnet18", "layer4", 96),
        ("densenet121", "features", 96),
        ("mobilenet_v3_small", "features", 96),
        ("convnext_tiny", "features", 64),
    ],
)
def test_maps_equal_captum(name, layer, side):
    net = seeded(getattr(import_torchvision().models, name), weights=None)
    x = images(2, side)
    found = explain(Classifier.wrap(net), x)
    with torch.no_grad():
        out = net(x)
    assert torch.equal(found.outputs, out) or torch.allclose(
        found.outputs, out, rtol=1e-6, atol=1e-7
    )
    reference = captum.attr.LayerGradCam(net, dict(net.named_modules())[found.layer])
    expected = reference.attribute(x, target=out.argmax(1))[:, 0].detach()
    assert found.layer == layer
    assert found.raw.shape == expected.shape
    same(found.raw, expected)
    same(found.heat(), expected.clamp_min(0))


# ── invariants ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_on_a_gap_head_gradcam_is_cam_and_sums_to_the_logit():
    clf, x = wrapped(GapNet, "relu2"), images()
    ids = torch.tensor([0, 3, 4])
    found = explain(clf, x, ids)
    net = clf.module
    with torch.no_grad():
        features = net.relu2(net.conv2(net.relu1(net.conv1(x))))
        cam = torch.einsum("nc,nchw->nhw", net.fc.weight[ids], features)
        logits = net(x)[torch.arange(3), ids]
    same(found.raw, cam / 64)
    torch.testing.assert_close(
        found.raw.sum((1, 2)), logits - net.fc.bias[ids], rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(found.score, logits)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(2, 5))
def test_a_batch_equals_its_images_one_by_one(seed, count):
    clf, x = wrapped(DeepHead, "body", seed), images(count, seed=seed)
    together = explain(clf, x)
    for n in range(count):
        alone = explain(clf, x[n : n + 1])
        same(alone.raw[0], together.raw[n], 1e-5)
        assert alone.status[0] == together.status[n]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999))
def test_classes_at_once_equal_classes_one_by_one(seed):
    clf, x = wrapped(DeepHead, "body", seed), images(3, seed=seed)
    ids = torch.tensor([[0, 1, 2, 3, 4]] * 3)
    together = explain(clf, x, ids)
    assert together.raw.shape == (3, 5, 8, 8)
    assert together.score.shape == (3, 5)
    assert len(together.status) == 3
    assert len(together.status[0]) == 5
    for k in range(5):
        alone = explain(clf, x, ids[:, k])
        same(together.raw[:, k], alone.raw, 1e-5)
        assert tuple(row[k] for row in together.status) == alone.status
    assert explain(clf, x, ids[:, :1]).raw.shape == (
        3,
        1,
        8,
        8,
    )  # the shape follows the shape of the ids, not their number


def test_evidence_against_is_the_negative_map_of_the_same_score():
    clf, x = wrapped(DeepHead, "body"), images()
    plus, minus = explain(clf, x), explain(clf, x, sign=-1)
    assert torch.equal(minus.raw, -plus.raw)
    assert torch.equal(minus.score, plus.score)
    assert torch.equal(explain(clf, x, "negated:predicted").raw, -plus.raw)
    with pytest.raises(InputError, match="expected 1"):
        explain(clf, x, sign=0)


@settings(max_examples=8, deadline=None)
@given(factor=st.floats(0.1, 50), shift=st.floats(-5, 5), seed=st.integers(0, 99))
def test_scaling_a_score_scales_the_map_and_a_constant_changes_nothing(factor, shift, seed):
    clf, x = wrapped(DeepHead, "body", seed), images()
    plain = explain(clf, x, lambda out: out[:, 0])
    moved = explain(clf, x, lambda out: factor * out[:, 0] + shift)
    same(moved.raw, plain.raw * factor, 2e-6)
    assert moved.status == plain.status
    masks = (torch.rand(3, 2, 32, 32, generator=torch.Generator().manual_seed(seed)) > 0.5).float()
    shares = [
        region_metrics(f.heat().double().numpy(), project_masks(masks)).relevance_mass_accuracy
        for f in (plain, moved)
    ]
    np.testing.assert_allclose(shares[0], shares[1], rtol=1e-5)


def project_masks(masks):
    return torch.nn.functional.avg_pool2d(masks, 4)


def test_frozen_inference_and_in_place_twins_are_equal():
    x = images()
    plain = explain(wrapped(DeepHead, "body"), x).raw
    assert torch.equal(explain(wrapped(DeepHead, "body", inplace=True), x).raw, plain)
    frozen = wrapped(DeepHead, "body")
    frozen.module.requires_grad_(False)
    with torch.inference_mode():
        assert torch.equal(explain(frozen, x).raw, plain)


def test_a_planted_patch_holds_the_heat():
    x = images(4, 64) * 0.05
    for n, (i, j) in enumerate([(0, 0), (16, 32), (40, 8), (48, 48)]):
        x[n, 0, i : i + 8, j : j + 8] += 2.0
    masks = torch.zeros(4, 1, 64, 64)
    for n, (i, j) in enumerate([(0, 0), (16, 32), (40, 8), (48, 48)]):
        masks[n, 0, i : i + 8, j : j + 8] = 1
    found = explain(Classifier.wrap(seeded(PlantedPatch)), x, 1)
    share = relevance_mass_accuracy(
        found.heat().numpy(), torch.nn.functional.avg_pool2d(masks, 8).numpy()
    )
    assert (share > 0.9).all(), share


def test_memory_stays_flat_over_200_calls():
    import gc
    import tracemalloc

    clf, x = wrapped(GapNet, "conv2"), images(2, 16)
    explain(clf, x)
    gc.collect()
    alive = sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())
    tracemalloc.start()
    for _ in range(200):
        explain(clf, x)
    gc.collect()
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()) <= alive
    assert current < 300_000


# ── other shapes of models ──────────────────────────────────────────────────────────────────────────────────────────


def test_single_logit_classes_are_minus_and_plus_z():
    clf, x = wrapped(GapNet, "conv2", classes=1), images()
    zero, one = explain(clf, x, 0), explain(clf, x, 1)
    assert torch.equal(zero.raw, -one.raw)
    torch.testing.assert_close(one.score, clf.module(x)[:, 0].detach())
    torch.testing.assert_close(zero.score, -one.score)
    predicted = explain(clf, x)
    torch.testing.assert_close(predicted.score, one.score.abs())

    class Squeezed(GapNet):
        def forward(self, x):
            return super().forward(x)[:, 0]

    assert torch.equal(
        explain(Classifier.wrap(seeded(Squeezed, classes=1), "conv2"), x, 1).raw, one.raw
    )


def test_tuple_and_mapping_outputs():
    class Mapped(GapNet):
        def forward(self, x):
            out = super().forward(x)
            return {"aux": -out, "logits": out}

    class Pair(GapNet):
        def forward(self, x):
            out = super().forward(x)
            return -out, out

    x, plain = images(), explain(wrapped(GapNet, "conv2"), images(), 2)
    assert torch.equal(explain(Classifier.wrap(seeded(Mapped), "conv2"), x, 2).raw, plain.raw)
    assert torch.equal(
        explain(Classifier.wrap(seeded(Mapped), "conv2", output="aux"), x, 2).raw, -plain.raw
    )
    assert torch.equal(
        explain(Classifier.wrap(seeded(Pair), "conv2", output=1), x, 2).raw, plain.raw
    )
    assert torch.equal(
        explain(Classifier.wrap(seeded(Pair), "conv2", output=1), x, lambda out: out[:, 2]).raw,
        plain.raw,
    )
    with pytest.raises(TargetError, match="no entry 'none'"):
        explain(Classifier.wrap(seeded(Mapped), "conv2", output="none"), x)


@pytest.mark.parametrize(
    ("build", "x", "shape"),
    [
        (TinyViT, images(2), (2, 4, 4)), (ChannelsLastNet, images(2, 64), (2, 8, 8)), (VolumeNet, torch.randn(2, 1, 16, 16, 16), (2, 4, 4, 4)),
        (ChannelsLastNet, images(2, 64, width=40), (2, 8, 5)),
    ],
)  # fmt: skip
def test_tokens_channels_last_and_volumes(build, x, shape):
    net = seeded(build)
    found = explain(net, x)  # a bare module: its layer is chosen
    assert found.raw.shape == shape
    assert found.layer
    assert set(found.status) <= set(HEAT_STATUSES)
    kept = {}
    layer = dict(net.named_modules())[found.layer]
    handle = layer.register_forward_hook(lambda m, a, o: kept.update(out=o) or o.retain_grad())
    net(x.clone().requires_grad_()).max(1).values.sum().backward()
    handle.remove()
    a, g = kept["out"].detach(), kept["out"].grad
    cells = shape[1] * shape[2] * (shape[3] if len(shape) > 3 else 1)
    if build is TinyViT:
        expected = (a[:, 1:] * g[:, 1:].mean(1, keepdim=True)).sum(2)
    elif build is ChannelsLastNet:
        expected = (a * g.mean((1, 2), keepdim=True)).sum(3)
    else:
        expected = (a * g.mean((2, 3, 4), keepdim=True)).sum(1)
    same(found.raw.reshape(2, cells), expected.reshape(2, cells))


def test_several_input_tensors():
    class Asked(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.question = GapNet(6), nn.Embedding(4, 6)

        def forward(self, picture, question):
            return self.net(picture) * self.question(question)

    net, x, q = seeded(Asked), images(), torch.tensor([0, 1, 3])
    found = explain(Classifier.wrap(net, "net.conv2"), (x, q))
    named = explain(Classifier.wrap(net, "net.conv2"), {"picture": x, "question": q}, chunk=2)
    same(named.raw, found.raw)
    assert (
        len(
            {
                tuple(m.flatten().tolist())
                for m in explain(
                    Classifier.wrap(net, "net.conv2"), (x[:1].expand(3, -1, -1, -1), q)
                ).raw
            }
        )
        == 3
    )


def test_bfloat16_trunk_is_recorded_and_close():
    clf, x = wrapped(GapNet, "conv2"), images()
    half, full = explain(clf, x, 0, dtype=torch.bfloat16), explain(clf, x, 0)
    assert (half.dtype, full.dtype) == ("bfloat16", "float32")
    assert half.raw.dtype == torch.float32
    same(half.raw, full.raw, 0.05)


# ── statuses and memory ─────────────────────────────────────────────────────────────────────────────────────────────


def test_status_of_every_kind():
    class Known(nn.Module):
        """raw is the input's first channel itself, over the number of cells."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 1)
            nn.init.ones_(self.layer.weight)
            nn.init.zeros_(self.layer.bias)

        def forward(self, x):
            return self.layer(x).mean((2, 3)).repeat(1, 2)

    x = torch.zeros(8, 1, 4, 4)
    x[0, 0, 1, 1] = 1  # ok
    x[1, 0, 1, 1] = -1  # no positive evidence
    x[2] = 3.0  # flat, positive
    x[4, 0, 0, 0] = float("nan")
    x[5] = -2.0
    x[6:] = 3.0
    x[6, 0, 1, 1] *= 1 + 5e-6  # small as it is, it varies
    x[7, 0, 1, 1] *= 1 + 5e-7  # as much as rounding makes of a constant
    found = explain(Classifier.wrap(Known(), "layer"), x, 1)
    assert found.status == (
        "ok",
        "no_positive_evidence",
        "flat",
        "flat",
        "non_finite",
        "flat",
        "ok",
        "flat",
    )
    torch.testing.assert_close(found.raw[:4], x[:4, 0] / 16)


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_out_of_memory_halves_the_chunk_and_changes_no_number(limit):
    class Limited(DeepHead):
        def forward(self, x):
            if len(x) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return super().forward(x)

    x, ids = images(7), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    found = explain(Classifier.wrap(seeded(Limited), "body"), x, ids)
    expected = explain(wrapped(DeepHead, "body"), x, ids)
    same(found.raw, expected.raw, 1e-5)
    assert found.status == expected.status
    for chunk in (1, 2, 3, 100):
        same(explain(wrapped(DeepHead, "body"), x, ids, chunk=chunk).raw, expected.raw, 1e-5)


def test_one_image_too_large_is_an_error_with_its_reason():
    class Huge(DeepHead):
        def forward(self, x):
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )

    with pytest.raises(ImageError, match="One image alone") as caught:
        explain(Classifier.wrap(seeded(Huge), "body"), images())
    assert caught.value.reason == "out_of_memory"


def test_wrong_inputs_say_what_was_expected():
    clf = wrapped(GapNet, "conv2")
    with pytest.raises(InputError, match=r"expected a float tensor \(N, C, H, W\).*uint8"):
        explain(clf, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="no member 'gradcamm'"):
        explain(clf, images(), method="gradcamm")
    with pytest.raises(InputError, match="2 rows of class ids for 3 images"):
        explain(clf, images(), torch.tensor([1, 2]))
    with pytest.raises(TargetError, match="1 class ids lie outside the model's 5 classes"):
        explain(clf, images(), torch.tensor([1, 2, 5]))
    with pytest.raises(TargetError, match="needs a label"):
        explain(clf, images(), "label")
    with pytest.raises(LayerError, match="no layer"):
        explain(Classifier(clf.module, "conv9"), images())


def test_upsampled_maps_equal_interpolation():
    found = explain(wrapped(GapNet, "conv2"), images())
    expected = torch.nn.functional.interpolate(
        found.raw[:, None], (32, 32), mode="bilinear", align_corners=False
    )[:, 0]
    same(found.upsample(), expected)
    assert found.upsample((20, 10)).shape == (3, 20, 10)
    assert found.upsample().dtype == torch.float32
    with pytest.raises(InputError, match=r"size: expected \(H, W\); got \(20,\)"):
        found.upsample((20,))


def test_upsampled_maps_of_several_classes_equal_each_ones_own():
    clf, x = wrapped(GapNet, "conv2"), images()
    ids = torch.tensor([[0, 3], [2, 1], [4, 0]])
    together = explain(clf, x, ids).upsample((20, 10))
    assert together.shape == (3, 2, 20, 10)
    for k in range(2):
        same(together[:, k], explain(clf, x, ids[:, k]).upsample((20, 10)))


@pytest.mark.parametrize("target", ["predicted", torch.tensor([[0, 1], [2, 1]])])
def test_maps_of_volumes_are_not_upsampled_as_stacks_of_pictures(target):
    """(N, d, h, w) looks like N pictures with d targets each; its depth would stay 4 beside planes of 16 x 16."""
    found = explain(
        seeded(VolumeNet),
        torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)),
        target,
    )
    assert found.raw.shape[-3:] == (4, 4, 4)
    for size in (None, (8, 8)):
        with pytest.raises(
            InputError,
            match=r"2 maps of volumes, each of 4x4x4 cells for an input of 16x16x16.*trilinear",
        ):
            found.upsample(size)
    with pytest.raises(InputError, match=r"fuse: .*volumes"):
        fuse([found, found])


# ── region metrics ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_region_metrics_has_a_row_per_image_and_region():
    rng = np.random.default_rng(0)
    heat, masks = rng.random((3, 6, 7)), (rng.random((3, 2, 6, 7)) > 0.5).astype(np.float32)
    masks[1, 1] = 0
    table = region_metrics(heat, masks)
    assert list(table.columns) == ["n", "r", "area_share", *METRICS, "reason"]
    assert table[["n", "r"]].to_numpy().tolist() == [[n, r] for n in range(3) for r in range(2)]
    assert table.reason.tolist() == ["", "", "", "empty_mask", "", ""]
    assert np.isnan(table.loc[3, list(METRICS)].astype(float)).all()
    assert table.relevance_mass_accuracy[0] == pytest.approx(
        (heat[0] * masks[0, 0]).sum() / heat[0].sum()
    )
    pd.testing.assert_frame_equal(
        region_metrics(torch.from_numpy(heat), torch.from_numpy(masks)), table
    )
    whole = np.arange(16).reshape(1, 4, 4) % 5
    inside = whole[:, None] > 2
    pd.testing.assert_frame_equal(
        region_metrics(whole, inside), region_metrics(whole.astype(float), inside.astype(float))
    )


def test_region_metrics_refuses_what_does_not_fit():
    with pytest.raises(InputError, match="same N, H, W"):
        region_metrics(np.ones((2, 4, 4)), np.ones((2, 1, 4, 5)))
    with pytest.raises(InputError, match=r"1 of 2 images hold negative.*image 1"):
        region_metrics(np.stack([np.ones((4, 4)), -np.ones((4, 4))]), np.ones((2, 1, 4, 4)))
    with pytest.raises(InputError, match=r"values in \[0, 1\]; got 0 to 255"):
        region_metrics(np.ones((1, 2, 2)), np.array([[[[0, 255], [0, 0]]]]))
    assert len(region_metrics(np.ones((2, 4, 4)), np.ones((2, 0, 4, 4)))) == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), h=st.integers(2, 9), w=st.integers(2, 9))
def test_share_through_the_adjoint_equals_upsample_then_mask(seed, h, w):
    rng = np.random.default_rng(seed)
    heat = np.maximum(rng.standard_normal((2, h, w)), 0).astype(np.float32)
    masks = rng.random((2, 3, 48, 40)).astype(np.float32) * (rng.random((2, 3, 48, 40)) > 0.7)
    coarse = batch_rows.projected_shares(heat, project(masks, (h, w)), (48, 40))
    full = relevance_mass_accuracy(upsample(heat, (48, 40)), masks)
    np.testing.assert_allclose(coarse, full, rtol=1e-9)
    torch_full = torch.nn.functional.interpolate(
        torch.from_numpy(heat)[:, None], (48, 40), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(
        coarse, relevance_mass_accuracy(torch_full[:, 0].numpy(), masks), rtol=1e-6
    )


# ── a batch of an audit ─────────────────────────────────────────────────────────────────────────────────────────────


def batch_of(x, labels=None, failures=None, regions=("whole", "half"), reasons=None) -> ImageBatch:
    count, (height, width) = len(x), x.shape[2:]
    masks = torch.zeros(count, len(regions), height, width)
    masks[:, 0] = 1
    masks[:, 1, : height // 2] = 1
    samples = tuple(
        Sample(
            n,
            f"image-{n}",
            f"{n}.png",
            (labels or ["0"] * count)[n],
            f"patient-{n}",
            {"tone": "I"},
            dict.fromkeys(regions, "mask.png"),
        )
        for n in range(count)
    )
    reasons = reasons or tuple(("",) * len(regions) for _ in range(count))
    return ImageBatch(
        x,
        masks,
        reasons,
        failures or (("", ""),) * count,
        samples,
        regions,
        ((height, width),) * count,
    )


CLASSES = ("a", "b", "c", "d", "e")


@pytest.fixture
def clf() -> Classifier:
    return Classifier.wrap(seeded(DeepHead), "body", classes=CLASSES)


def test_measured_rows_equal_the_slow_way(clf):
    x, plan = images(4), Plan(regions={"half": {"role": "attend"}})
    rows = measure_batch(batch_of(x, ["a", "b", "zebra", "c"]), clf, plan)
    found = explain(clf, x)
    full = torch.nn.functional.interpolate(
        found.heat()[:, None], (32, 32), mode="bilinear", align_corners=False
    )[:, 0]
    expected = region_metrics(full.numpy(), batch_of(x).masks.numpy())
    table = pd.DataFrame(rows.regions)
    assert list(table.columns[: len(TABLE_COLUMNS)]) == list(TABLE_COLUMNS)
    assert table.role.tolist() == ["neutral", "attend"] * 4
    np.testing.assert_allclose(table.heat_share, expected.relevance_mass_accuracy, rtol=1e-6)
    for name in ("area_share", "mass_lift", "pointing_game"):
        np.testing.assert_allclose(table[name], expected[name], rtol=1e-6)
    for name in ("relevance_rank_accuracy", "auc"):
        np.testing.assert_allclose(
            table[name], expected[name], rtol=2e-3
        )  # rounding decides near-ties of the upsampled map
    assert table.reason.tolist() == ["full_mask", ""] * 4
    assert (table.heat_share[table.region == "whole"] - 1).abs().max() < 1e-12
    frame = pd.DataFrame(rows.images)
    with torch.no_grad():
        p = clf.module(x).softmax(1)
    assert frame.predicted.tolist() == [CLASSES[k] for k in p.argmax(1)]
    np.testing.assert_allclose(frame.probability, p.max(1).values, rtol=1e-5)
    np.testing.assert_allclose(frame[[f"probability.{c}" for c in CLASSES]], p, rtol=1e-4)
    assert frame.correct.tolist() == [
        frame.predicted[0] == "a",
        frame.predicted[1] == "b",
        None,
        frame.predicted[3] == "c",
    ]
    np.testing.assert_allclose(frame.score, found.score, rtol=1e-6)
    assert set(frame.heat_status) == {"ok"}


def test_failures_become_rows_and_move_no_neighbour(clf):
    x = images(4)
    plain = measure_batch(batch_of(x), clf, Plan())
    x2 = x.clone()
    x2[1] = 0
    rows = measure_batch(
        batch_of(x2, failures=(("", ""), ("unreadable", "cannot be read"), ("", ""), ("", ""))),
        clf,
        Plan(),
    )
    broken = rows.images[1]
    assert (broken["status"], broken["reason"], broken["message"], broken["heat_status"]) == (
        "failed",
        "unreadable",
        "cannot be read",
        "not_measured",
    )
    assert np.isnan(broken["score"])
    assert len(rows.images) == 4
    assert len(rows.regions) == 8
    assert [r["reason"] for r in rows.regions[2:4]] == ["unreadable"] * 2
    assert [r["status"] for r in rows.regions[2:4]] == ["not_measured"] * 2
    for n in (0, 2, 3):
        for a, b in zip(
            plain.regions[2 * n : 2 * n + 2], rows.regions[2 * n : 2 * n + 2], strict=True
        ):
            assert a["heat_share"] == pytest.approx(b["heat_share"], rel=1e-5)
    assert {row["image_id"] for row in rows.maps} == {"image-0", "image-2", "image-3"}
    nothing = measure_batch(batch_of(x, failures=(("unreadable", "x"),) * 4), clf, Plan())
    assert [row["status"] for row in nothing.images] == ["failed"] * 4
    assert nothing.maps == []


def test_labels_that_are_no_class_fail_only_where_the_target_needs_them(clf):
    plan = Plan(explain={"target": "label"})
    rows = measure_batch(batch_of(images(3), ["a", "zebra", None]), clf, plan)
    assert [row["reason"] for row in rows.images] == ["", "label_unknown", "label_unknown"]
    found = explain(clf, images(3)[:1], 0)
    assert rows.images[0]["score"] == pytest.approx(float(found.score[0]), rel=1e-5)


def test_one_image_out_of_memory_fails_alone():
    class Picky(DeepHead):
        def forward(self, x):
            if (x[:, 0, 0, 0] > 100).any():
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(x)

    x = images(3)
    x[1, 0, 0, 0] = 1000
    rows = measure_batch(batch_of(x), Classifier.wrap(seeded(Picky), "body"), Plan())
    assert [row["reason"] for row in rows.images] == ["", "out_of_memory", ""]


def test_reasons_of_regions_and_heat(clf):
    x = images(2)
    batch = batch_of(
        x, regions=("whole", "half", "dot"), reasons=(("", "not_annotated", ""), ("", "", ""))
    )
    batch.masks[0, 2, 4, 4] = 1
    rows = pd.DataFrame(measure_batch(batch, clf, Plan()).regions)
    assert rows.reason.tolist() == [
        "full_mask",
        "not_annotated",
        "mask_below_cell",
        "full_mask",
        "",
        "empty_mask",
    ]
    dot = rows.iloc[2]
    assert 0 <= dot.heat_share <= 1  # the number stays, with its reason
    assert np.isnan(rows.heat_share[1])
    assert np.isnan(rows.area_share[1])
    assert set(rows.reason) <= set(REASONS)
    blank = pd.DataFrame(
        measure_batch(
            batch_of(x, regions=("whole", "half")),
            Classifier.wrap(Blank(), "relu2"),
            Plan(explain={"target": "class:0"}),
        ).regions
    )
    assert blank.status.tolist() == ["no_positive_evidence"] * 4
    assert blank.reason.tolist() == ["zero_heat"] * 4
    assert blank.heat_share.isna().all()
    assert blank.area_share.tolist() == [1, 0.5, 1, 0.5]


class Blank(GapNet):
    """Its class 0 has evidence against only."""

    def forward(self, x):
        return -self.relu2(self.conv2(self.relu1(self.conv1(x)))).mean((2, 3))


def test_stored_maps_hold_the_heat_and_the_coverage(clf):
    x = images(2)
    rows = measure_batch(batch_of(x), clf, Plan())
    heat = next(row for row in rows.maps if row["kind"] == "heat")
    values = np.frombuffer(heat["values"], np.float32).reshape(heat["height"], heat["width"])
    np.testing.assert_allclose(values, explain(clf, x).heat()[0], rtol=1e-5, atol=1e-9)
    named = {(row["kind"], row["name"]) for row in rows.maps if row["kind"] != "heat"}
    assert named == {("region", name) for name in batch_of(x).region_names}
    half = next(row for row in rows.maps if row["name"] == "half")
    cover = np.frombuffer(half["values"], np.uint8).reshape(8, 8)
    assert cover[:3].min() == 255
    assert cover[5:].max() == 0
    covered = project(batch_of(x).masks[0, 1].numpy(), (8, 8)) / project(np.ones((32, 32)), (8, 8))
    np.testing.assert_array_equal(cover, np.rint(255 * covered))
    assert 0 < cover[3, 0] < 255


def test_negated_target_is_written_into_the_rows(clf):
    rows = measure_batch(batch_of(images(1)), clf, Plan(explain={"sign": -1, "target": "class:b"}))
    assert {row["target"] for row in rows.regions} == {"negated:class:b"}


def test_probabilities_of_logits_and_of_one_logit():
    z = torch.tensor([[2.0], [-1.0]])
    torch.testing.assert_close(probabilities(z)[:, 1], torch.sigmoid(z[:, 0]).double())
    assert torch.equal(probabilities(z[:, 0]), probabilities(z))
    rows_that_sum_to_one = torch.tensor(
        [[0.2, 0.8], [0.5, 0.5]]
    )  # logits as any others: what a batch holds decides nothing
    torch.testing.assert_close(
        probabilities(rows_that_sum_to_one), rows_that_sum_to_one.double().softmax(1)
    )
    torch.testing.assert_close(
        probabilities(torch.tensor([[1.0, 3.0]])).sum(1), torch.ones(1, dtype=torch.float64)
    )
