"""Region metrics: replicas from the definitions, laws, and the upsampling operator with its adjoint."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from replicas import METRIC_REPLICAS

from gradaudit.attribution.layer_layout import enlarged
from gradaudit.errors import InputError
from gradaudit.metrics.mass import METRICS, area_share, reasons, relevance_mass_accuracy
from gradaudit.metrics.ranking import rank_pixels, ranked_metrics
from gradaudit.metrics.upsampling import project, upsample, upsampling_matrix
from gradaudit.records import REASONS

SHAPE = (2, 5, 6)
levels = st.sampled_from([0.0, 0.0, 0.25, 0.5, 0.5, 1.0, 3.0])
heats = hnp.arrays(np.float32, SHAPE, elements=levels)
hard = hnp.arrays(np.float32, (2, 3, 5, 6), elements=st.sampled_from([0.0, 1.0]))
soft = hnp.arrays(np.float32, (2, 3, 5, 6), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))


def close(a, b, tolerance=1e-9):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


def test_every_metric_has_a_replica_and_a_full_card():
    assert set(METRIC_REPLICAS) == set(METRICS)
    for card in METRICS.cards():
        assert all((card.label, card.summary, card.formula, card.range, card.source)), card.name


@pytest.mark.parametrize("name", list(METRICS))
@settings(max_examples=25, deadline=None)
@given(heat=heats, masks=soft)
def test_metric_equals_its_definition(name, heat, masks):
    expected = [
        [METRIC_REPLICAS[name](h, m) for m in regions]
        for h, regions in zip(heat, masks, strict=True)
    ]
    close(METRICS.get(name)(heat, masks), expected)


@pytest.mark.parametrize("name", list(METRICS))
@settings(max_examples=25, deadline=None)
@given(heat=heats, masks=soft, factor=st.sampled_from([2.0**-20, 0.5, 4.0, 2.0**30]))
def test_scale_and_flips_and_order_change_nothing(name, heat, masks, factor):
    metric = METRICS.get(name)
    value = metric(heat, masks)
    close(metric(heat * np.float32(factor), masks), value)
    close(metric(heat[:, :, ::-1].copy(), masks[..., ::-1].copy()), value)
    close(metric(heat[:, ::-1].copy(), masks[:, :, ::-1].copy()), value)
    close(metric(heat[::-1].copy(), masks[::-1].copy()), value[::-1])
    close(
        np.concatenate([metric(heat[n : n + 1], masks[n : n + 1]) for n in range(len(heat))]), value
    )


@pytest.mark.parametrize("name", list(METRICS))
@settings(max_examples=25, deadline=None)
@given(heat=heats, masks=soft, dtype=st.sampled_from([np.float32, np.float64]))
def test_numpy_equals_torch(name, heat, masks, dtype):
    heat = heat.astype(dtype)
    result = METRICS.get(name)(torch.from_numpy(heat), torch.from_numpy(masks))
    assert isinstance(result, torch.Tensor)
    close(result.numpy(), METRICS.get(name)(heat, masks))


@settings(max_examples=25, deadline=None)
@given(heat=heats, mask=hnp.arrays(np.float32, (2, 1, 5, 6), elements=st.floats(0, 1, width=32)))
def test_parts_of_an_image_share_all_of_its_heat(heat, mask):
    share = relevance_mass_accuracy(heat, np.concatenate([mask, 1 - mask], 1))
    whole = heat.sum((1, 2)) > 0
    both = (mask.sum((1, 2, 3)) > 0) & ((1 - mask).sum((1, 2, 3)) > 0)
    close(share.sum(1)[whole & both], 1, 1e-6)
    assert np.isnan(share[~whole]).all()


@settings(max_examples=25, deadline=None)
@given(heat=heats, masks=hard)
def test_auc_of_the_complement_is_one_minus_auc(heat, masks):
    close(METRICS.get("auc")(heat, 1 - masks), 1 - METRICS.get("auc")(heat, masks))


@settings(max_examples=30, deadline=None)
@given(masks=hard, level=st.sampled_from([0.5, 1.0, 7.0]))
def test_flat_heat_gives_the_chance_value(masks, level):
    heat = np.full(SHAPE, level, np.float32)
    area = area_share(masks)
    partly = (area > 0) & (area < 1)
    chance = {
        "relevance_mass_accuracy": area,
        "mass_lift": np.ones_like(area),
        "pointing_game": area,
        "relevance_rank_accuracy": area,
    }
    chance["auc"] = np.full_like(area, 0.5)
    assert set(chance) == set(METRICS)
    for name, expected in chance.items():
        close(METRICS.get(name)(heat, masks)[partly], expected[partly])


@settings(max_examples=25, deadline=None)
@given(heat=heats, masks=soft)
def test_values_stay_in_the_declared_range(heat, masks):
    for name in METRICS:
        values = METRICS.get(name)(heat, masks)
        assert values.shape == masks.shape[:2]
        assert values.dtype == np.float64
        known = values[np.isfinite(values)]
        assert (known >= -1e-12).all()
        if name != "mass_lift":
            assert (known <= 1 + 1e-12).all()


def test_ties_give_the_expected_value_and_not_the_order_of_the_pixels():
    heat = np.zeros((1, 10, 10), np.float32)
    heat[0, 0, :4] = 1.0  # four hottest pixels, the rest tied at zero
    mask = np.zeros((1, 1, 10, 10), np.float32)
    mask[0, 0, 0, 2:] = 1  # eight pixels, two of them hot
    assert METRICS.get("pointing_game")(heat, mask)[0, 0] == 0.5
    close(METRICS.get("relevance_rank_accuracy")(heat, mask)[0, 0], (2 + 4 * 6 / 96) / 8)
    close(METRICS.get("auc")(heat, mask)[0, 0], (2 * 90 + 2 * 2 * 0.5 + 6 * 90 * 0.5) / (8 * 92))


def test_heat_that_is_not_finite_or_zero_is_undefined_with_a_reason():
    heat = np.ones((3, 4, 4), np.float32)
    heat[0, 1, 1] = np.nan
    heat[1] = 0
    masks = np.zeros((3, 3, 4, 4), np.float32)
    masks[:, 0, :2] = 1
    masks[:, 1] = 1
    for name in METRICS:
        assert np.isnan(METRICS.get(name)(heat, masks)[:2]).all(), name
    assert reasons(heat, masks) == [
        ["non_finite"] * 3,
        ["zero_heat"] * 3,
        ["", "full_mask", "empty_mask"],
    ]
    assert reasons(heat, masks, cell_area=9)[2] == ["mask_below_cell", "full_mask", "empty_mask"]
    assert {code for row in reasons(heat, masks, 9) for code in row} <= set(REASONS)


def test_a_region_of_one_cell_and_a_pixel_half_covered_count():
    heat, masks = np.ones((1, 4, 4), np.float32), np.zeros((1, 4, 4, 4), np.float32)
    masks[0, 0, 0, :] = 1  # four whole pixels
    masks[0, 1, 0, :] = 0.999
    masks[0, 2, 0, 0] = 0.5  # one pixel, half of it
    masks[0, 3] = 0.5  # every pixel, half of each
    assert reasons(heat, masks, cell_area=4.0) == [
        ["", "mask_below_cell", "mask_below_cell", "full_mask"]
    ]
    assert reasons(heat, masks) == [["", "", "", "full_mask"]]
    masks[0, 2, 0, 0] = 0.499
    assert (
        reasons(heat, masks)[0][2] == "mask_below_cell"
    )  # no pixel is inside, so nothing can be ranked


def test_metrics_ranked_together_equal_each_alone():
    rng = np.random.default_rng(4)
    heat, masks = rng.random((2, 6, 7), np.float32), rng.random((2, 3, 6, 7)).astype(np.float32)
    together = ranked_metrics(heat, masks)
    assert set(together) == {"relevance_rank_accuracy", "pointing_game", "auc"}
    for name, values in together.items():
        np.testing.assert_array_equal(values, METRICS.get(name)(heat, masks))


def test_zero_and_negative_zero_are_one_value():
    heat = np.array([[[-0.0, 0.0], [0.0, 1.0]]], np.float32)
    mask = np.array([[[[1, 0], [0, 0]]]], np.float32)
    close(METRICS.get("auc")(heat, mask)[0, 0], (0.5 + 0.5 + 0) / 3)
    close(METRICS.get("relevance_rank_accuracy")(heat, 1 - mask)[0, 0], (1 + 2 * 2 / 3) / 3)


def test_small_and_negative_zero_values_rank_as_they_are():
    heat = np.array([[[1e-42, -0.0], [0.0, 3e-42]]], np.float32)
    mask = np.array([[[[1, 0], [0, 1]]]], np.float32)
    assert METRICS.get("auc")(heat, mask)[0, 0] == 1.0
    assert METRICS.get("pointing_game")(heat, mask)[0, 0] == 1.0


def test_more_regions_than_one_sort_holds():
    rng = np.random.default_rng(0)
    heat, masks = (
        rng.random((2, 6, 7), np.float32),
        (rng.random((2, 40, 6, 7)) > 0.6).astype(np.float32),
    )
    for name in METRICS:
        singly = np.concatenate(
            [METRICS.get(name)(heat, masks[:, r : r + 1]) for r in range(40)], 1
        )
        close(METRICS.get(name)(heat, masks), singly)
    with pytest.raises(InputError, match="at most 31 regions"):
        rank_pixels(heat.reshape(2, -1), masks.reshape(2, 40, -1))


# ── upsampling ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("grid", "size"), [((7, 7), (224, 224)), ((14, 10), (225, 161)), ((7, 5), (97, 64)), ((1, 3), (8, 9)), ((2, 2), (9, 16)), ((8, 8), (8, 8)), ((9, 9), (5, 4)),
                     ((2, 7), (64, 64)), ((7, 2), (33, 40)), ((2, 2), (32, 32)), ((1, 2), (6, 7)), ((2, 1), (9, 9))],
)  # fmt: skip
def test_upsampling_equals_torch_and_opencv(grid, size):
    cam = np.random.default_rng(0).standard_normal((2, *grid)).astype(np.float32)
    ours = upsample(cam, size)
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(cam)[:, None], size, mode="bilinear", align_corners=False
    )[:, 0]
    close(ours, reference.numpy(), 1e-5 * np.abs(cam).max() / 10)
    close(upsample(torch.from_numpy(cam), size).numpy(), ours, 1e-12)
    if min(size[0] - grid[0], size[1] - grid[1]) >= 0:
        close(
            ours,
            np.stack([cv2.resize(c, size[::-1], interpolation=cv2.INTER_LINEAR) for c in cam]),
            2e-6,
        )


@pytest.mark.parametrize(
    ("grid", "size"), [((7, 7), (224, 224)), ((14, 10), (225, 161)), ((1, 3), (8, 9)), ((9, 9), (5, 4))]
)  # fmt: skip
def test_the_kernel_of_the_methods_agrees_with_the_one_that_measures(grid, size):
    """`enlarged` stays beside `upsample` for the device's speed and for volumes; they are one rule."""
    maps = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 3, *grid)))
    close(enlarged(maps, size).numpy(), upsample(maps, size).numpy(), 1e-12)
    volume = maps[:, :, None].expand(-1, -1, 4, -1, -1)
    close(enlarged(volume, (6, *size))[:, :, 2].numpy(), upsample(maps, size).numpy(), 1e-12)


def test_upsampling_of_two_cells_in_closed_form():
    """Centres of four pixels lie at −1/4, 1/4, 3/4 and 5/4 of the way between the centres of two cells; the border is continued."""
    np.testing.assert_array_equal(
        upsampling_matrix(4, 2), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    )
    np.testing.assert_array_equal(upsampling_matrix(2, 2), np.eye(2))
    np.testing.assert_allclose(
        upsample(np.array([[0.0, 1.0], [2.0, 3.0]]), (4, 4))[1], [0.5, 0.75, 1.25, 1.5]
    )


def test_two_cells_blend_between_their_centres_by_hand():
    """Cells of four pixels have their centres between pixels 1 and 2, and 5 and 6; a pixel between them takes from both, by distance."""
    blend = np.array([1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0])
    np.testing.assert_array_equal(upsampling_matrix(8, 2), np.stack([blend, 1 - blend], 1))
    np.testing.assert_array_equal(
        upsample(np.array([[0.0, 8.0]]), (1, 8)), [[0, 0, 1, 3, 5, 7, 8, 8]]
    )
    np.testing.assert_array_equal(
        upsample(np.array([[0.0], [8.0]]), (8, 1))[:, 0], [0, 0, 1, 3, 5, 7, 8, 8]
    )


@settings(max_examples=25, deadline=None)
@given(
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    big=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 99),
)
def test_projection_is_the_adjoint_of_upsampling(h, w, big, seed):
    rng = np.random.default_rng(seed)
    cam, mask = rng.standard_normal((2, h, w)), rng.random((2, *big))
    close((mask * upsample(cam, big)).sum((1, 2)), (project(mask, (h, w)) * cam).sum((1, 2)), 1e-9)
    close(
        project(mask, (h, w)).sum((1, 2)), mask.sum((1, 2)), 1e-9
    )  # rows of the operator sum to one, so area is kept
    close(upsampling_matrix(big[0], h).sum(1), 1)


def test_shared_matrices_cannot_be_changed_by_a_caller():
    with pytest.raises(ValueError, match="read-only"):
        upsampling_matrix(8, 2)[0, 0] = 5
