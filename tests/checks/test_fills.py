"""What takes a region's place: by hand on small pictures, each constant by its value."""

import numpy as np
import pytest

from gradaudit.checks.fills import FILLS, filled, part, surroundings, widened


def picture(height=40, width=40, seed=0):
    return np.random.default_rng(seed).random((3, height, width)).astype(np.float32)


def box(top, bottom, left, right, shape=(40, 40)):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def test_a_region_is_widened_by_one_pixel_even_where_it_covers_a_little():
    coverage = np.zeros((9, 9), np.float32)
    coverage[4, 4] = 0.01
    assert widened(coverage).sum() == 9
    assert widened(coverage)[3:6, 3:6].all()


def test_a_fill_is_taken_from_at_most_eight_pixels_away():
    goes = box(15, 25, 15, 25)
    near = surroundings(goes, ~goes)
    rows, columns = np.nonzero(near)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 32, 7, 32)
    assert not (near & goes).any()


@pytest.mark.parametrize(("free_near", "reach"), [(30, 8), (29, 16)])
def test_a_ring_with_fewer_than_thirty_free_pixels_is_widened(free_near, reach):
    goes = box(18, 22, 18, 22)
    ring = surroundings(goes, ~goes)
    free = ~goes & ~ring
    free[tuple(np.argwhere(ring)[:free_near].T)] = True
    found = surroundings(goes, free)
    distance = np.abs(np.argwhere(found) - 19.5).max()
    assert distance <= 1.5 + reach
    assert (found.sum() == free_near) == (reach == 8)


def test_where_nothing_is_free_everything_but_the_region_is():
    goes = box(0, 40, 0, 39)
    assert np.array_equal(surroundings(goes, np.zeros_like(goes)), ~goes)
    assert surroundings(np.ones_like(goes), np.zeros_like(goes)) is None


@pytest.mark.parametrize("fill", FILLS)
def test_a_fill_touches_the_region_alone_and_leaves_the_picture_as_it_was(fill):
    image, goes = picture(), box(10, 20, 5, 30)
    before = image.copy()
    out = filled(image, goes, surroundings(goes, ~goes), fill, np.random.default_rng(0))
    assert np.array_equal(image, before)
    assert np.array_equal(out[:, ~goes], image[:, ~goes])
    assert not np.array_equal(out[:, goes], image[:, goes])


def test_the_ring_gives_whole_pixels_and_the_mean_one_color():
    image, goes = picture(), box(10, 20, 5, 30)
    source = surroundings(goes, ~goes)
    drawn = filled(image, goes, source, "ring", np.random.default_rng(0))[:, goes].T
    known = {tuple(pixel) for pixel in image[:, source].T}
    assert {tuple(pixel) for pixel in drawn} <= known
    assert len({tuple(pixel) for pixel in drawn}) > 100
    smooth = filled(image, goes, source, "mean", np.random.default_rng(0))[:, goes]
    assert np.allclose(smooth, image[:, source].mean(1)[:, None], atol=1e-6)


@pytest.mark.parametrize("dose", [0.25, 0.5, 0.75, 1.0])
def test_a_dose_is_a_contiguous_end_of_the_longer_axis(dose):
    goes = box(10, 14, 4, 36)
    some = part(goes, dose)
    columns = np.flatnonzero(some.any(axis=0))
    assert some.sum() == dose * goes.sum()
    assert not (some & ~goes).any()
    assert np.array_equal(columns, np.arange(columns[0], columns[-1] + 1))
    assert len(columns) == dose * 32
