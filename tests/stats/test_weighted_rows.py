"""Rows weighted by their precision: against statsmodels, dense matrices and refitted permutations."""

import numpy as np
import pytest
from dense_models import a_design, dense, dense_contrast
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS, WLS

from gradaudit.stats import linear_model, permutation, standard_errors

FEW, MANY = 3, 25
"""Levels that are columns of the permuted model, and that are centered by sums over rows."""


def a_weighted_design(levels, seed=0, n=120):
    codes, covariates, y = a_design(seed, n=n, levels=levels)
    weights = np.random.default_rng(seed + 1).uniform(0.2, 5.0, n)
    return codes, covariates, y, weights


def contrasts_of(levels):
    first = np.r_[1.0, -1.0, np.zeros(levels - 2)]
    against_rest = np.r_[1.0, np.full(levels - 1, -1 / (levels - 1))]
    return (
        (first, np.zeros(4)),
        (against_rest, np.zeros(4)),
        (np.zeros(levels), np.array([0.0, 2.0, 0.0, -1.0])),
    )


@pytest.mark.parametrize("levels", [FEW, MANY])
def test_estimate_and_hc2_equal_weighted_least_squares(levels):
    codes, covariates, y, weights = a_weighted_design(levels)
    fit = linear_model.design(codes, covariates, weights=weights)
    theirs = WLS(y, dense(codes, covariates), weights=weights).fit(cov_type="HC2")
    for on_levels, on_slopes in contrasts_of(levels):
        w = fit.row_weights(on_levels, on_slopes)[:, None]
        test = theirs.t_test(np.r_[on_levels, on_slopes])
        assert w[:, 0] @ fit.whitened(y) == pytest.approx(test.effect.item(), rel=1e-10)
        se = np.sqrt(standard_errors.hc2(fit, fit.residuals(y), w)[0, 0])
        assert se == pytest.approx(test.sd.item(), rel=1e-10)
    np.testing.assert_allclose(fit.slopes(y), theirs.params[levels:], rtol=1e-9)
    np.testing.assert_allclose(fit.residuals(y), theirs.wresid, atol=1e-11)


@pytest.mark.parametrize("levels", [FEW, MANY])
def test_degrees_of_freedom_equal_the_dense_formula_of_whitened_rows(levels):
    codes, covariates, y, weights = a_weighted_design(levels, seed=3)
    fit = linear_model.design(codes, covariates, weights=weights)
    root = np.sqrt(weights)
    x = root[:, None] * dense(codes, covariates)
    for on_levels, on_slopes in contrasts_of(levels):
        w = fit.row_weights(on_levels, on_slopes)[:, None]
        expected = dense_contrast(x, np.r_[on_levels, on_slopes], root * y)[2]
        assert standard_errors.bell_mccaffrey(fit, w)[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("levels", [FEW, MANY])
def test_permuted_t_equals_refitting_every_permutation_of_whitened_residuals(levels):
    codes, covariates, y, weights = a_weighted_design(levels, seed=5)
    together = np.argsort(codes, kind="stable")  # many levels are permuted in this order
    codes, covariates, y, weights = (v[together] for v in (codes, covariates, y, weights))
    fit = linear_model.design(codes, covariates, weights=weights)
    x = np.sqrt(weights)[:, None] * dense(codes, covariates)
    residual = fit.residuals(y)
    for on_levels, on_slopes in contrasts_of(levels):
        w = fit.row_weights(on_levels, on_slopes)[:, None]
        found, _ = permutation.reference_t(fit, residual, w, 20, seed=9)
        draws = np.concatenate(list(permutation.draws(len(y), 20, 9, False, 20)))
        for b in range(20):
            again = dense_contrast(x, np.r_[on_levels, on_slopes], residual[draws[b]])
            assert found[b, 0] == pytest.approx(again[0] / again[1], rel=1e-9)


def test_the_scale_of_weights_says_nothing_and_equal_weights_are_none():
    codes, covariates, y, weights = a_weighted_design(FEW, seed=7)
    on = np.array([1.0, -1.0, 0.0])

    def numbers(w):
        fit = linear_model.design(codes, covariates, weights=w)
        row = fit.row_weights(on)
        se = standard_errors.hc2(fit, fit.residuals(y), row[:, None])[0, 0] ** 0.5
        return row @ fit.whitened(y), se, standard_errors.bell_mccaffrey(fit, row[:, None])[0]

    assert numbers(weights) == pytest.approx(numbers(7.3 * weights), rel=1e-12)
    assert numbers(np.full(len(y), 2.0)) == pytest.approx(numbers(None), rel=1e-12)
    assert numbers(weights) != pytest.approx(numbers(None), rel=1e-3)


@pytest.mark.parametrize("levels", [FEW, MANY])
def test_without_weights_every_number_is_bitwise_what_it_was(levels):
    """The formulas as they stood before rows could have weights, written out."""
    codes, covariates, y, _ = a_weighted_design(levels, seed=11)
    fit = linear_model.design(codes, covariates)
    counts = np.bincount(codes)
    assert fit.mass is fit.counts
    assert fit.whitened(y) is y
    assert np.array_equal(fit.leverage, 1 / counts[codes] + np.einsum("ij,ij->i", fit.q, fit.q))
    centered = y - linear_model.cluster_means(y, codes, levels)[codes]
    assert np.array_equal(fit.residuals(y), centered - fit.q @ (fit.q.T @ centered))
    assert np.array_equal(fit.slopes(y), np.linalg.solve(fit.r, fit.q.T @ y))
    on = contrasts_of(levels)[1][0]
    plain = (on / counts)[codes]
    expected = plain + fit.q @ np.linalg.solve(fit.r.T, -(on @ fit.means))
    assert np.array_equal(fit.row_weights(on), expected)
    indicator = np.zeros((len(y), levels))
    indicator[np.arange(len(y)), codes] = 1 / np.sqrt(counts[codes])
    assert np.array_equal(fit.basis(), np.hstack([indicator, fit.q]))
    d = np.random.default_rng(0).random(len(y))
    own = np.bincount(codes, weights=d, minlength=levels) / counts
    total = float(own @ own)
    for column in fit.q.T:
        mixed = np.bincount(codes, weights=d * column, minlength=levels)
        total += 2 * float(np.sum(mixed**2 / counts)) + float(np.sum((fit.q.T @ (d * column)) ** 2))
    assert fit.gram_square(d) == total


# ── variances, weights, and whether sizes say something ───────────────────────────────────────────


def images(rng, count=60, levels=2, tau=0.5, sigma=2.0):
    sizes = rng.integers(1, 9, count)
    clusters = np.repeat(np.arange(count), sizes)
    groups = np.arange(count) % levels
    level = tau * rng.standard_normal(count) + 10.0 * groups
    return level[clusters] + sigma * rng.standard_normal(len(clusters)), clusters, groups, sizes


def test_variance_components_equal_the_sums_of_squares_by_hand():
    """Two groups: patients with images (1, 3), (6); (0, 0, 6), (4, 8)."""
    y = np.array([1.0, 3.0, 6.0, 0.0, 0.0, 6.0, 4.0, 8.0])
    clusters = np.array([0, 0, 1, 2, 2, 2, 3, 3])
    found = linear_model.variance_components(y, clusters, np.array([0, 0, 1, 1]), 4)
    inside = (1 + 1 + 4 + 4 + 16 + 4 + 4) / (8 - 4)
    first, second = 10 / 3, 18 / 5
    between = 2 * (2 - first) ** 2 + (6 - first) ** 2
    between += 3 * (2 - second) ** 2 + 2 * (6 - second) ** 2
    spread = 8 - (4 + 1) / 3 - (9 + 4) / 5
    expected = max(0.0, (between - 2 * inside) / spread), inside
    assert found == pytest.approx(expected, rel=1e-12)
    shifted = y + 100.0 * (clusters >= 2)
    assert linear_model.variance_components(
        shifted, clusters, np.array([0, 0, 1, 1]), 4
    ) == pytest.approx(expected, rel=1e-9)


def test_variance_components_are_right_on_average():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(400):
        y, clusters, groups, _ = images(rng)
        found.append(linear_model.variance_components(y, clusters, groups, len(groups)))
    assert np.mean(found, axis=0) == pytest.approx([0.25, 4.0], rel=0.12)


@pytest.mark.parametrize("clusters", [np.arange(6), np.zeros(6, dtype=int)])
def test_one_image_per_patient_and_one_patient_have_no_components(clusters):
    groups = np.zeros(int(clusters.max()) + 1, dtype=int)
    y = np.arange(6.0)
    assert linear_model.variance_components(y, clusters, groups, len(groups)) == (0.0, 0.0)


def test_weights_are_inverse_variances_of_means():
    sizes = np.array([1, 2, 4, 40])
    raw = 1 / (0.5 + 3.0 / sizes)
    found = linear_model.precision_weights(sizes, 0.5, 3.0)
    np.testing.assert_allclose(found, raw / raw.mean(), rtol=1e-12)
    assert linear_model.precision_weights(np.full(4, 7), 0.5, 3.0) is None
    assert linear_model.precision_weights(sizes, 0.5, 0.0) is None


def test_p_of_sizes_is_that_of_a_correlation_inside_levels():
    rng = np.random.default_rng(4)
    sizes, means = rng.integers(1, 30, 50), rng.normal(size=50)
    one = np.zeros(50, dtype=int)
    expected = scipy_stats.pearsonr(np.log(sizes), means).pvalue
    assert linear_model.p_of_sizes(sizes, means, one) == pytest.approx(expected, rel=1e-9)
    codes = 2 * rng.integers(0, 3, 50)  # gaps between codes are no levels
    x = np.column_stack([np.log(sizes), *(codes == k for k in (0, 2, 4))]).astype(float)
    expected = OLS(means, x).fit().pvalues[0]
    assert linear_model.p_of_sizes(sizes, means, codes) == pytest.approx(expected, rel=1e-9)


def test_levels_that_differ_in_size_and_mean_are_no_relation():
    rng = np.random.default_rng(5)
    codes = np.repeat([0, 1], 40)
    sizes = np.where(codes == 1, 12, 3) + rng.integers(0, 3, 80)
    means = codes + 0.01 * rng.normal(size=80)
    assert scipy_stats.pearsonr(np.log(sizes), means).pvalue < 1e-30
    assert linear_model.p_of_sizes(sizes, means, codes) > 0.05


@pytest.mark.parametrize(
    ("sizes", "means"),
    [([3, 3, 3, 3], [0.1, 0.2, 0.3, 0.5]), ([1, 2, 3, 4], [0.1] * 4), ([1, 9], [0.0, 1.0])],
)
def test_nothing_to_correlate_is_no_relation(sizes, means):
    none = np.zeros(len(sizes), dtype=int)
    assert linear_model.p_of_sizes(np.array(sizes), np.array(means), none) == 1.0


def test_a_perfect_relation_is_one():
    sizes = np.array([1, 2, 4, 8, 16])
    none = np.zeros(5, dtype=int)
    assert linear_model.p_of_sizes(sizes, np.log2(sizes) * 0.1, none) < 1e-6
