"""The statistics against slow replicas: dense matrices, refitted permutations, other libraries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests

from gradaudit import stats
from gradaudit.records import Verdict


def a_design(seed=0, n=60, levels=3, z=4):
    rng = np.random.default_rng(seed)
    codes = np.r_[np.arange(levels), rng.integers(0, levels, n - levels)]
    covariates = rng.normal(size=(n, z)) + codes[:, None]
    y = rng.normal(size=n) + covariates @ rng.normal(size=z)
    return codes, covariates, y


def dense(codes, covariates):
    return np.hstack([np.eye(codes.max() + 1)[codes], covariates])


def dense_contrast(x, c, y):
    """Estimate, HC2 SE and Bell-McCaffrey df with n x n matrices, as the papers write them."""
    inverse = np.linalg.inv(x.T @ x)
    hat = x @ inverse @ x.T
    residual = y - hat @ y
    w = x @ inverse @ c
    left = np.eye(len(y)) - hat
    se = np.sqrt(np.sum(w**2 * residual**2 / np.diag(left)))
    g = left * (w / np.sqrt(np.diag(left)))  # column i: (I - H)_i w_i / sqrt(1 - h_i)
    values = np.linalg.eigvalsh(g.T @ g)
    return w @ y, se, values.sum() ** 2 / (values**2).sum()


def test_estimate_hc2_and_degrees_of_freedom_equal_the_dense_formulas():
    codes, covariates, y = a_design()
    fit = stats.design(codes, covariates)
    x = dense(codes, covariates)
    for on_levels, on_slopes in (((1.0, -0.25, -0.75), None), ((0.0, 1.0, -1.0), None), ((0.0, 0.0, 0.0), (0.0, 2.0, 0.0, 0.0))):
        w = fit.row_weights(np.array(on_levels), None if on_slopes is None else np.array(on_slopes))[:, None]
        expected = dense_contrast(x, np.r_[on_levels, on_slopes or np.zeros(4)], y)
        found = w[:, 0] @ y, np.sqrt(stats.hc2(fit, fit.residuals(y), w)[0, 0]), stats.bell_mccaffrey(fit, w)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_hc2_equals_statsmodels_with_covariates_and_welch_without():
    codes, covariates, y = a_design(1, levels=2)
    contrast = np.array([-1.0, 1.0])
    fit = stats.design(codes, covariates)
    theirs = OLS(y, dense(codes, covariates)).fit(cov_type="HC2").t_test(np.r_[contrast, np.zeros(4)])
    w = fit.row_weights(contrast)[:, None]
    assert np.sqrt(stats.hc2(fit, fit.residuals(y), w)[0, 0]) == pytest.approx(theirs.sd.item(), rel=1e-10)
    plain = stats.design(codes, np.empty((len(y), 0)))
    w = plain.row_weights(contrast)[:, None]
    welch = scipy_stats.ttest_ind(y[codes == 1], y[codes == 0], equal_var=False)
    assert (w[:, 0] @ y) / np.sqrt(stats.hc2(plain, plain.residuals(y), w)[0, 0]) == pytest.approx(welch.statistic, rel=1e-12)


def test_cr2_equals_the_dense_formula():
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(12), rng.integers(1, 5, 12))
    n = len(clusters)
    x = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    y, c = rng.normal(size=n), np.array([0.0, 1.0, 0.0])
    hat = x @ np.linalg.inv(x.T @ x) @ x.T
    w, left = x @ np.linalg.inv(x.T @ x) @ c, np.eye(n) - hat
    columns, variance = [], 0.0
    for k in range(12):
        own = clusters == k
        value, vector = np.linalg.eigh(left[np.ix_(own, own)])
        u = vector @ np.diag(value**-0.5) @ vector.T @ w[own]
        columns.append(left[:, own] @ u)
        variance += (u @ (left @ y)[own]) ** 2
    values = np.linalg.eigvalsh(np.column_stack(columns).T @ np.column_stack(columns))
    q, _ = np.linalg.qr(x)
    np.testing.assert_allclose(stats.cr2(q, left @ y, w, clusters), (np.sqrt(variance), values.sum() ** 2 / (values**2).sum()), rtol=1e-10)


def test_columns_that_others_determine_are_left_out_and_change_nothing():
    codes, covariates, y = a_design(3)
    double = np.column_stack([covariates[:, 0], covariates[:, 0] * 2 + 1, np.full(len(y), 7.0), covariates[:, 1:], (codes == 1) * 3.0])
    plain, fit = stats.design(codes, covariates), stats.design(codes, double)
    assert fit.kept == (0, 3, 4, 5)
    np.testing.assert_allclose(fit.residuals(y), plain.residuals(y), atol=1e-11)
    np.testing.assert_allclose(plain.slopes(y), np.linalg.lstsq(dense(codes, covariates), y, rcond=None)[0][3:], rtol=1e-9)


def test_a_row_fitted_exactly_has_no_share_in_the_error():
    codes = np.r_[np.zeros(20, dtype=int), 1]
    fit = stats.design(codes, np.empty((21, 0)))
    assert stats.leverage_factor(fit.leverage)[-1] == 0.0
    assert np.isfinite(stats.hc2(fit, fit.residuals(np.arange(21.0)), fit.row_weights(np.array([-1.0, 1.0]))[:, None])).all()


@pytest.mark.parametrize("flip", [False, True])
def test_permuted_t_equals_refitting_every_permutation(flip):
    codes, covariates, y = a_design(4, n=40, levels=2, z=2)
    if flip:
        codes = np.zeros(40, dtype=int)
    fit, x = stats.design(codes, covariates), dense(codes, covariates)
    on = np.ones(1) if flip else np.array([-1.0, 1.0])
    residual = fit.residuals(y)
    found, _ = stats.reference_t(fit, residual, fit.row_weights(on)[:, None], 25, seed=9, flip=flip)
    draws = np.concatenate(list(stats._draws(40, 25, 9, flip, 25)))
    estimate = fit.row_weights(on) @ y
    for b in range(25):
        drawn = residual * draws[b] if flip else residual[draws[b]]
        again = dense_contrast(x, np.r_[on, 0.0, 0.0], y - residual + drawn)
        assert found[b, 0] == pytest.approx(abs(again[0] - estimate) / again[1], rel=1e-9)


def test_joint_statistic_equals_the_dense_wald_statistic():
    codes, covariates, y = a_design(5, n=50)
    fit = stats.design(codes, covariates)
    on = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    w = np.column_stack([fit.row_weights(row) for row in on])
    residual = fit.residuals(y)
    _, (walds,) = stats.reference_t(fit, residual, w, 20, seed=3, joint=[[0, 1]])
    draws = np.concatenate(list(stats._draws(50, 20, 3, False, 20)))
    for b in range(20):
        again = residual[draws[b]]
        estimate = w.T @ again
        assert walds[b] == pytest.approx(estimate @ np.linalg.solve(stats.hc2(fit, fit.residuals(again), w), estimate), rel=1e-8)


@pytest.mark.parametrize("flip", [False, True])
def test_chunks_and_cache_do_not_change_the_draws(monkeypatch, flip):
    whole = np.concatenate(list(stats._draws(30, 64, 1, flip, 64)))
    np.testing.assert_array_equal(np.concatenate(list(stats._draws(30, 64, 1, flip, 7))), whole)
    monkeypatch.setattr(stats, "_CACHED_BYTES", 0)
    np.testing.assert_array_equal(np.concatenate(list(stats._draws(30, 64, 1, flip, 7))), whole)
    if not flip:
        np.testing.assert_array_equal(np.sort(whole, axis=1), np.broadcast_to(np.arange(30), (64, 30)))


def test_compact_and_wide_index_matrices_are_the_same(monkeypatch):
    wide = stats._draw_matrix.__wrapped__(50, 40, 2, False)
    monkeypatch.setattr(stats, "_CACHED_BYTES", 4 * 50 * 40)
    compact = stats._draw_matrix.__wrapped__(50, 40, 2, False)
    assert (wide.dtype, compact.dtype) == (np.intp, np.uint16)
    np.testing.assert_array_equal(wide, compact)


def test_zero_over_zero_is_zero_and_something_over_zero_is_infinite():
    found = stats._ratio(np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 0.0, 4.0]]), np.full(3, 1e-12))
    np.testing.assert_array_equal(found, [[0.0, np.inf, 1.0]])


@given(st.lists(st.floats(0, 5), min_size=99, max_size=199), st.floats(0, 6), st.sampled_from([0.01, 0.05, 0.1]))
@settings(max_examples=200, deadline=None)
def test_p_and_interval_never_disagree(reference, t, alpha):
    draws = np.array(reference)
    q = stats.critical_value(draws, alpha)
    inside = abs(t) <= q or abs(t - q) <= 1e-8 * q
    assert (stats.p_value(t, draws) <= alpha) == (not inside) or abs(t - q) <= 1e-8 * q


def test_too_few_permutations_for_alpha_give_an_endless_interval():
    assert stats.critical_value(np.arange(10.0), 0.05) == np.inf


@settings(max_examples=25)  # statsmodels takes some tenths of a second each
@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=30))
def test_corrections_equal_statsmodels(p):
    np.testing.assert_allclose(stats.holm(p), multipletests(p, method="holm")[1], rtol=1e-12)
    np.testing.assert_allclose(stats.benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], rtol=1e-12)


def test_corrections_do_not_count_what_is_unknown():
    np.testing.assert_allclose(stats.holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
    assert np.isnan(stats.benjamini_hochberg([np.nan, np.nan])).all()


@pytest.mark.parametrize(
    ("p", "near", "low", "high", "margin", "verdict"),
    [
        (0.01, 1.0, 0.06, 0.12, 0.05, Verdict.MATERIAL),
        (0.01, 1.0, -0.12, -0.06, 0.05, Verdict.MATERIAL),
        (0.01, 0.30, 0.01, 0.12, 0.05, Verdict.SIZE_UNCERTAIN),
        (0.01, 0.01, 0.01, 0.04, 0.05, Verdict.WITHIN_MARGIN),
        (0.30, 0.01, -0.02, 0.04, 0.05, Verdict.EQUIVALENT),
        (0.30, 0.30, -0.02, 0.09, 0.05, Verdict.INCONCLUSIVE),
        (np.nan, np.nan, np.nan, np.nan, 0.05, Verdict.NOT_ASSESSED),
        (0.01, np.nan, 0.06, 0.12, None, Verdict.SHOWN),
        (0.30, np.nan, -0.02, 0.12, None, Verdict.NOT_SHOWN),
    ],
)
def test_verdicts(p, near, low, high, margin, verdict):
    assert stats.verdict(p, near, low, high, margin) is verdict


def test_spline_is_straight_outside_and_smooth_inside():
    x = np.linspace(-3, 3, 2001)
    knots = np.array([-2.0, -0.5, 0.5, 2.0])
    bend = stats.spline_basis(x, knots)
    assert bend.shape == (2001, 3)
    second = np.diff(bend, 2, axis=0) / (x[1] - x[0]) ** 2
    outside = (x[1:-1] < -2.01) | (x[1:-1] > 2.01)
    assert np.abs(second[outside]).max() < 1e-6
    assert np.abs(np.diff(second, axis=0)).max() < 0.01  # the second derivative has no jump


def test_spline_of_few_values_is_a_line_and_of_a_constant_nothing():
    assert stats.spline_basis(np.array([0.0, 1.0] * 20)).shape == (40, 1)
    assert stats.spline_basis(np.ones(5)).shape == (5, 0)
    assert np.isfinite(stats.logit(np.array([0.0, 0.5, 1.0]))).all()


def test_cluster_means_of_vector_and_matrix():
    codes = np.array([0, 1, 0, 1, 1])
    np.testing.assert_allclose(stats.cluster_means(np.arange(5.0), codes, 2), [1.0, 8 / 3])
    np.testing.assert_allclose(stats.cluster_means(np.arange(10.0).reshape(5, 2), codes, 2), [[2, 3], [16 / 3, 19 / 3]])


def test_effect_sizes_by_hand():
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, 5, 30).astype(float), rng.integers(0, 5, 20).astype(float)
    assert stats.cliffs_delta(a, b) == pytest.approx(np.mean(np.sign(a[:, None] - b[None, :])))
    assert np.isnan(stats.cliffs_delta(a, b[:0]))
    ratio, low, high = stats.ratio_of_means(np.array([0.3, 0.2]), np.diag([0.0004, 0.0001]), 2.0)
    half = 2 * np.sqrt(0.0004 / 0.09 + 0.0001 / 0.04)
    assert (ratio, low, high) == pytest.approx((1.5, 1.5 * np.exp(-half), 1.5 * np.exp(half)))
    assert np.isnan(stats.ratio_of_means(np.array([0.3, 0.0]), np.eye(2), 2.0)).all()
    mean, low, high = stats.mean_interval(a)
    theirs = scipy_stats.t.interval(0.95, 29, a.mean(), scipy_stats.sem(a))
    assert (mean, low, high) == pytest.approx((a.mean(), *theirs))


def test_shrinkage_pulls_uncertain_cells_further_and_keeps_two():
    d, se = np.array([0.2, 0.0, -0.1, np.nan]), np.array([0.2, 0.02, 0.02, 0.1])
    pulled = stats.shrunken(d, se)
    assert abs(pulled[0]) < 0.1 * abs(d[0]) + 0.05
    assert abs(pulled[2] - d[2]) < 0.02
    assert np.isnan(pulled[3])
    np.testing.assert_array_equal(stats.shrunken(d[:2], se[:2]), d[:2])


def test_max_t_is_never_below_the_single_p():
    rng = np.random.default_rng(7)
    reference = np.abs(rng.normal(size=(499, 4)))
    t = np.array([1.0, 2.0, 2.5, 3.0])
    single = np.array([stats.p_value(v, reference[:, k]) for k, v in enumerate(t)])
    assert (stats.max_t(t, reference) >= single).all()
    adjusted = stats.max_t(t, reference)
    assert adjusted[3] == stats.p_value(3.0, reference.max(axis=1))
    assert adjusted[2] == max(adjusted[3], stats.p_value(2.5, reference[:, :3].max(axis=1)))
    assert (np.diff(adjusted) <= 0).all()


def test_detectable_difference_has_eighty_percent_power():
    mde = stats.detectable_difference(1.0, 30.0)
    power = scipy_stats.nct.sf(scipy_stats.t.ppf(0.975, 30), 30, mde)
    assert power == pytest.approx(0.80, abs=0.01)


def test_mode_share():
    assert stats.mode_share(np.array([0, 0, 0, 1.0])) == 0.75
    assert stats.mode_share(np.array([0.1 + 0.2, 0.3])) == 1.0
    assert np.isnan(stats.mode_share(np.empty(0)))


def test_every_statistic_names_its_source():
    assert all(card.summary and card.source and card.formula for card in stats.STATISTICS.cards())
