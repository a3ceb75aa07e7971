"""Effect sizes, intervals of a mean and shrinkage in closed form."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from gradaudit.stats import (
    effect_sizes,
)


def test_effect_sizes_by_hand():
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, 5, 30).astype(float), rng.integers(0, 5, 20).astype(float)
    assert effect_sizes.cliffs_delta(a, b) == pytest.approx(
        np.mean(np.sign(a[:, None] - b[None, :]))
    )
    assert np.isnan(effect_sizes.cliffs_delta(a, b[:0]))
    ratio, low, high = effect_sizes.ratio_of_means(
        np.array([0.3, 0.2]), np.diag([0.0004, 0.0001]), 2.0
    )
    half = 2 * np.sqrt(0.0004 / 0.09 + 0.0001 / 0.04)
    assert (ratio, low, high) == pytest.approx((1.5, 1.5 * np.exp(-half), 1.5 * np.exp(half)))
    assert np.isnan(effect_sizes.ratio_of_means(np.array([0.3, 0.0]), np.eye(2), 2.0)).all()
    mean, low, high = effect_sizes.mean_interval(a)
    theirs = scipy_stats.t.interval(0.95, 29, a.mean(), scipy_stats.sem(a))
    assert (mean, low, high) == pytest.approx((a.mean(), *theirs))


def test_shrinkage_pulls_uncertain_cells_further_and_keeps_two():
    d, se = np.array([0.2, 0.0, -0.1, np.nan]), np.array([0.2, 0.02, 0.02, 0.1])
    pulled = effect_sizes.shrunken(d, se)
    assert abs(pulled[0]) < 0.1 * abs(d[0]) + 0.05
    assert abs(pulled[2] - d[2]) < 0.02
    assert np.isnan(pulled[3])
    np.testing.assert_array_equal(effect_sizes.shrunken(d[:2], se[:2]), d[:2])


def test_shrinkage_in_closed_form():
    """DerSimonian-Laird by hand: weights 100, 100, 25; mean 0.2; Q = 1 + 0 + 4; tau² = (5 − 2) / (225 − 20625/225) = 0.0225."""
    pulled = effect_sizes.shrunken(np.array([0.1, 0.2, 0.6]), np.array([0.1, 0.1, 0.2]))
    np.testing.assert_allclose(
        pulled, [0.2 - 0.1 * 0.0225 / 0.0325, 0.2, 0.2 + 0.4 * 0.0225 / 0.0625]
    )
    np.testing.assert_allclose(
        effect_sizes.shrunken(np.array([0.19, 0.2, 0.22]), np.array([0.1, 0.1, 0.2])),
        (19 + 20 + 5.5) / 225,
    )  # Q < 2: all alike


def test_a_ratio_known_within_a_large_factor_keeps_its_interval():
    for half, known in ((1.0, True), (49.0, True), (51.0, False)):
        ratio, low, high = effect_sizes.ratio_of_means(
            np.array([0.3, 0.2]), np.diag([(half / 2 * 0.3) ** 2, 0.0]), 2.0
        )
        assert ratio == pytest.approx(1.5)
        assert (low, high) == (
            pytest.approx((1.5 * np.exp(-half), 1.5 * np.exp(half)))
            if known
            else pytest.approx((np.nan, np.nan), nan_ok=True)
        )
    assert np.isnan(effect_sizes.ratio_of_means(np.array([0.3, 0.2]), np.eye(2), np.inf)).all()


def test_mode_share():
    assert effect_sizes.mode_share(np.array([0, 0, 0, 1.0])) == 0.75
    assert effect_sizes.mode_share(np.array([0.1 + 0.2, 0.3])) == 1.0
    assert effect_sizes.mode_share(np.array([0.1234, 0.1235, 0.1236, 0.12341])) == 0.25
    assert effect_sizes.mode_share(np.array([1e-11, 2e-11, 0.0])) == pytest.approx(1 / 3)
    assert np.isnan(effect_sizes.mode_share(np.empty(0)))
