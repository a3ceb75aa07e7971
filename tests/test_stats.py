"""The statistics against slow replicas: dense matrices, refitted permutations, other libraries."""

import itertools

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


def test_a_row_of_high_leverage_keeps_its_share_in_the_error():
    np.testing.assert_allclose(stats.leverage_factor(np.array([0.0, 0.5, 0.95, 0.999, 1.0])), [1.0, 2.0, 20.0, 1000.0, 0.0])


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


def test_an_error_that_is_small_beside_one_outlier_is_no_zero():
    """Where the outlier is permuted into the third level, the other two differ by a t like any other."""
    codes, covariates, y = a_design(8, n=30, z=0)
    residual = stats.design(codes, covariates).residuals(y)
    residual[0] += 1e5
    fit, on = stats.design(codes, covariates), np.array([1.0, -1.0, 0.0])
    found, _ = stats.reference_t(fit, residual, fit.row_weights(on)[:, None], 25, seed=1)
    draws = np.concatenate(list(stats._draws(30, 25, 1, False, 25)))
    expected = [scipy_stats.ttest_ind(residual[order][codes == 0], residual[order][codes == 1], equal_var=False).statistic for order in draws]
    np.testing.assert_allclose(found[:, 0], np.abs(expected), rtol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_every_permutation_and_every_pattern_of_signs_is_as_likely(flip):
    """|t*| over many draws against the distribution over all of them: 720 orders of six rows, 64 patterns of their signs."""
    residual = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 33.0])
    residual -= residual.mean()
    codes = np.zeros(6, dtype=int) if flip else np.array([0, 0, 0, 1, 1, 1])
    fit = stats.design(codes, np.empty((6, 0)))
    all_draws = [residual * s for s in itertools.product((1, -1), repeat=6)] if flip else [residual[list(o)] for o in itertools.permutations(range(6))]
    if flip:
        every = [abs(np.mean(e)) / (np.std(e, ddof=1) / np.sqrt(6)) for e in all_draws]
    else:
        every = [abs(np.mean(e[:3]) - np.mean(e[3:])) / np.sqrt((np.var(e[:3], ddof=1) + np.var(e[3:], ddof=1)) / 3) for e in all_draws]
    found, _ = stats.reference_t(fit, residual, fit.row_weights(np.ones(1) if flip else np.array([1.0, -1.0]))[:, None], 40_000, seed=3, flip=flip)
    levels = np.unique(np.round(every, 9))
    expected, seen = (np.array([np.mean(np.abs(np.asarray(t) - level) < 1e-6) for level in levels]) for t in (every, found[:, 0]))
    assert expected.sum() == pytest.approx(1)
    error = np.sqrt(expected * (1 - expected) / 40_000)
    assert np.abs(seen - expected).max() < 4 * error.max(), (seen, expected)


def test_joint_statistic_of_correlated_differences_in_closed_form():
    """Two differences of 1 with unit variance and correlation r: W = 2 / (1 + r); with r = 1 there is no W."""
    correlated = np.array([[[1.0, r], [r, 1.0]] for r in (0.0, 0.5, 0.999, 1.0)])
    found = stats.wald(np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 2.0]]), correlated)
    np.testing.assert_allclose(found, [2.0, 2 / 1.5, 2 / 1.999, np.inf], rtol=1e-9)


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


@pytest.mark.parametrize(
    ("t", "p"), [(0.0, 1.0), (2.5, 3 / 5), (3.0, 3 / 5), (-3.0, 3 / 5), (3.0 * (1 + 1e-12), 3 / 5), (3.0 * (1 + 1e-6), 2 / 5), (4.5, 1 / 5)]
)
def test_p_counts_the_statistic_itself_and_every_tie(t, p):
    assert stats.p_value(t, np.array([4.0, 1.0, 3.0, 2.0])) == pytest.approx(p)


@pytest.mark.parametrize(
    ("permutations", "alpha", "q"),
    [(19, 0.05, 19.0), (18, 0.05, np.inf), (99, 0.05, 95.0), (99, 0.29, 71.0), (99, 0.07, 93.0), (199, 0.05, 190.0), (198, 0.05, 190.0)],
)
def test_critical_value_is_the_alpha_b_plus_one_th_largest(permutations, alpha, q):
    """Of |t*| = 1, 2 … B; 0.29 times 100 is 28.999999999999996 in floating point and 29 here."""
    assert stats.critical_value(np.random.default_rng(0).permutation(permutations) + 1.0, alpha) == q


@pytest.mark.parametrize(
    ("estimate", "se", "statistic"),
    [(0.03, 0.01, 2.0), (-0.03, 0.01, 2.0), (0.0, 0.02, 2.5), (0.05, 0.01, None), (0.07, 0.01, None), (-0.07, 0.01, None), (0.03, 0.0, None)],
)
def test_only_an_estimate_inside_the_margin_can_be_equivalent(estimate, se, statistic):
    found = stats.equivalence_statistic(estimate, se, 0.05)
    assert found is None if statistic is None else found == pytest.approx(statistic)


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
        # on the boundaries: alpha itself is a verdict, the margin itself is not beyond it
        (0.05, 1.0, 0.06, 0.12, 0.05, Verdict.MATERIAL),
        (0.0501, 1.0, 0.06, 0.12, 0.05, Verdict.INCONCLUSIVE),
        (0.01, 1.0, 0.05, 0.12, 0.05, Verdict.SIZE_UNCERTAIN),
        (0.01, 1.0, -0.12, -0.05, 0.05, Verdict.SIZE_UNCERTAIN),
        (0.30, 0.05, -0.02, 0.04, 0.05, Verdict.EQUIVALENT),
        (0.30, 0.0501, -0.02, 0.04, 0.05, Verdict.INCONCLUSIVE),
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


def test_spline_is_harrells_equation_at_the_5_35_65_and_95_percent_points():
    """Equation 2.25 written out, with points that lie between two values (linear interpolation)."""
    x = np.array([0.0, 1.0, 2.5, 4.0, 7.0, 7.5, 9.0, 12.0, 20.0, 33.0])

    def point(share):
        place = share * (len(x) - 1)
        below = int(place)
        return x[below] + (place - below) * (x[below + 1] - x[below])

    t1, t2, t3, t4 = (point(share) for share in (0.05, 0.35, 0.65, 0.95))

    def third_power(v, t):
        return (v - t) ** 3 if v > t else 0.0

    expected = [
        [v, *(
            (third_power(v, t) - third_power(v, t3) * (t4 - t) / (t4 - t3) + third_power(v, t4) * (t3 - t) / (t4 - t3)) / (t4 - t1) ** 2
            for t in (t1, t2)
        )]
        for v in x
    ]  # fmt: skip
    np.testing.assert_allclose(stats.spline_basis(x), expected, rtol=1e-12)


def test_logit_moves_only_what_has_none():
    np.testing.assert_allclose(stats.logit(np.array([0.0, 1e-5, 0.25, 1.0])), [-np.log(1e6 - 1), -np.log(1e5 - 1), -np.log(3), np.log(1e6 - 1)])


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


def test_shrinkage_in_closed_form():
    """DerSimonian-Laird by hand: weights 100, 100, 25; mean 0.2; Q = 1 + 0 + 4; tau² = (5 − 2) / (225 − 20625/225) = 0.0225."""
    pulled = stats.shrunken(np.array([0.1, 0.2, 0.6]), np.array([0.1, 0.1, 0.2]))
    np.testing.assert_allclose(pulled, [0.2 - 0.1 * 0.0225 / 0.0325, 0.2, 0.2 + 0.4 * 0.0225 / 0.0625])
    np.testing.assert_allclose(stats.shrunken(np.array([0.19, 0.2, 0.22]), np.array([0.1, 0.1, 0.2])), (19 + 20 + 5.5) / 225)  # Q < 2: all alike


def test_a_ratio_known_within_a_large_factor_keeps_its_interval():
    for half, known in ((1.0, True), (49.0, True), (51.0, False)):
        ratio, low, high = stats.ratio_of_means(np.array([0.3, 0.2]), np.diag([(half / 2 * 0.3) ** 2, 0.0]), 2.0)
        assert ratio == pytest.approx(1.5)
        assert (low, high) == (pytest.approx((1.5 * np.exp(-half), 1.5 * np.exp(half))) if known else pytest.approx((np.nan, np.nan), nan_ok=True))
    assert np.isnan(stats.ratio_of_means(np.array([0.3, 0.2]), np.eye(2), np.inf)).all()


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


def test_detectable_difference_in_closed_form():
    t = scipy_stats.t.ppf
    assert stats.detectable_difference(0.02, 30.0) == pytest.approx(0.02 * (t(0.975, 30) + t(0.8, 30)))
    assert stats.detectable_difference(0.02, 30.0, alpha=0.1) == pytest.approx(0.02 * (t(0.95, 30) + t(0.8, 30)))
    assert stats.detectable_difference(0.02, 0.3) == pytest.approx(0.02 * (t(0.975, 1) + t(0.8, 1)))  # never fewer than one degree of freedom


def test_mode_share():
    assert stats.mode_share(np.array([0, 0, 0, 1.0])) == 0.75
    assert stats.mode_share(np.array([0.1 + 0.2, 0.3])) == 1.0
    assert stats.mode_share(np.array([0.1234, 0.1235, 0.1236, 0.12341])) == 0.25
    assert stats.mode_share(np.array([1e-11, 2e-11, 0.0])) == pytest.approx(1 / 3)
    assert np.isnan(stats.mode_share(np.empty(0)))


def test_every_statistic_names_its_source():
    assert all(card.summary and card.source and card.formula for card in stats.STATISTICS.cards())
