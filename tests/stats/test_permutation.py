"""The reference distribution against refitted permutations; p and critical value by hand."""

import itertools

import numpy as np
import pytest
from dense_models import a_design, dense, dense_contrast
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from gradaudit.stats import (
    linear_model,
    permutation,
    standard_errors,
)


@pytest.mark.parametrize("flip", [False, True])
def test_permuted_t_equals_refitting_every_permutation(flip):
    codes, covariates, y = a_design(4, n=40, levels=2, z=2)
    if flip:
        codes = np.zeros(40, dtype=int)
    fit, x = linear_model.design(codes, covariates), dense(codes, covariates)
    on = np.ones(1) if flip else np.array([-1.0, 1.0])
    residual = fit.residuals(y)
    found, _ = permutation.reference_t(
        fit, residual, fit.row_weights(on)[:, None], 25, seed=9, flip=flip
    )
    draws = np.concatenate(list(permutation.draws(40, 25, 9, flip, 25)))
    estimate = fit.row_weights(on) @ y
    for b in range(25):
        drawn = residual * draws[b] if flip else residual[draws[b]]
        again = dense_contrast(x, np.r_[on, 0.0, 0.0], y - residual + drawn)
        assert found[b, 0] == pytest.approx((again[0] - estimate) / again[1], rel=1e-9)


def test_an_error_that_is_small_beside_one_outlier_is_no_zero():
    """Where the outlier is permuted into the third level, the other two differ by a t like any other."""
    codes, covariates, y = a_design(8, n=30, z=0)
    residual = linear_model.design(codes, covariates).residuals(y)
    residual[0] += 1e5
    fit, on = linear_model.design(codes, covariates), np.array([1.0, -1.0, 0.0])
    found, _ = permutation.reference_t(fit, residual, fit.row_weights(on)[:, None], 25, seed=1)
    draws = np.concatenate(list(permutation.draws(30, 25, 1, False, 25)))
    expected = [
        scipy_stats.ttest_ind(
            residual[order][codes == 0], residual[order][codes == 1], equal_var=False
        ).statistic
        for order in draws
    ]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_every_permutation_and_every_pattern_of_signs_is_as_likely(flip):
    """t* over many draws against the distribution over all of them: 720 orders of six rows, 64 patterns of their signs."""
    residual = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 33.0])
    residual -= residual.mean()
    codes = np.zeros(6, dtype=int) if flip else np.array([0, 0, 0, 1, 1, 1])
    fit = linear_model.design(codes, np.empty((6, 0)))
    all_draws = (
        [residual * s for s in itertools.product((1, -1), repeat=6)]
        if flip
        else [residual[list(o)] for o in itertools.permutations(range(6))]
    )
    if flip:
        every = [np.mean(e) / (np.std(e, ddof=1) / np.sqrt(6)) for e in all_draws]
    else:
        every = [
            (np.mean(e[:3]) - np.mean(e[3:]))
            / np.sqrt((np.var(e[:3], ddof=1) + np.var(e[3:], ddof=1)) / 3)
            for e in all_draws
        ]
    found, _ = permutation.reference_t(
        fit,
        residual,
        fit.row_weights(np.ones(1) if flip else np.array([1.0, -1.0]))[:, None],
        40_000,
        seed=3,
        flip=flip,
    )
    levels = np.unique(np.round(every, 9))
    expected, seen = (
        np.array([np.mean(np.abs(np.asarray(t) - level) < 1e-6) for level in levels])
        for t in (every, found[:, 0])
    )
    assert expected.sum() == pytest.approx(1)
    error = np.sqrt(expected * (1 - expected) / 40_000)
    assert np.abs(seen - expected).max() < 4 * error.max(), (seen, expected)


def test_joint_statistic_of_correlated_differences_in_closed_form():
    """Two differences of 1 with unit variance and correlation r: W = 2 / (1 + r); with r = 1 there is no W."""
    correlated = np.array([[[1.0, r], [r, 1.0]] for r in (0.0, 0.5, 0.999, 1.0)])
    found = permutation.wald(np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 2.0]]), correlated)
    np.testing.assert_allclose(found, [2.0, 2 / 1.5, 2 / 1.999, np.inf], rtol=1e-9)


def test_joint_statistic_equals_the_dense_wald_statistic():
    codes, covariates, y = a_design(5, n=50)
    fit = linear_model.design(codes, covariates)
    on = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    w = np.column_stack([fit.row_weights(row) for row in on])
    residual = fit.residuals(y)
    _, (walds,) = permutation.reference_t(fit, residual, w, 20, seed=3, joint=[[0, 1]])
    draws = np.concatenate(list(permutation.draws(50, 20, 3, False, 20)))
    for b in range(20):
        again = residual[draws[b]]
        estimate = w.T @ again
        assert walds[b] == pytest.approx(
            estimate @ np.linalg.solve(standard_errors.hc2(fit, fit.residuals(again), w), estimate),
            rel=1e-8,
        )


@pytest.mark.parametrize("flip", [False, True])
def test_chunks_and_cache_do_not_change_the_draws(monkeypatch, flip):
    whole = np.concatenate(list(permutation.draws(30, 64, 1, flip, 64)))
    np.testing.assert_array_equal(
        np.concatenate(list(permutation.draws(30, 64, 1, flip, 7))), whole
    )
    monkeypatch.setattr(permutation, "CACHED_BYTES", 0)
    np.testing.assert_array_equal(
        np.concatenate(list(permutation.draws(30, 64, 1, flip, 7))), whole
    )
    if not flip:
        np.testing.assert_array_equal(
            np.sort(whole, axis=1), np.broadcast_to(np.arange(30), (64, 30))
        )


def test_compact_and_wide_index_matrices_are_the_same(monkeypatch):
    wide = permutation.draw_matrix.__wrapped__(50, 40, 2, False)
    monkeypatch.setattr(permutation, "CACHED_BYTES", 4 * 50 * 40)
    compact = permutation.draw_matrix.__wrapped__(50, 40, 2, False)
    assert (wide.dtype, compact.dtype) == (np.intp, np.uint16)
    np.testing.assert_array_equal(wide, compact)


def test_zero_over_zero_is_zero_and_something_over_zero_is_infinite():
    found = permutation.studentized(
        np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 0.0, 4.0]]), np.full(3, 1e-12)
    )
    np.testing.assert_array_equal(found, [[0.0, np.inf, 1.0]])


@given(
    st.lists(st.floats(0, 5), min_size=99, max_size=199),
    st.floats(0, 6),
    st.sampled_from([0.01, 0.05, 0.1]),
)
@settings(max_examples=200, deadline=None)
def test_p_and_interval_never_disagree(reference, t, alpha):
    draws = np.array(reference)
    q = permutation.critical_value(draws, alpha)
    inside = abs(t) <= q or abs(t - q) <= 1e-8 * q
    assert (permutation.p_value(t, draws) <= alpha) == (not inside) or abs(t - q) <= 1e-8 * q


@pytest.mark.parametrize(
    ("t", "p"),
    [
        (0.0, 1.0),
        (2.5, 3 / 5),
        (3.0, 3 / 5),
        (-3.0, 3 / 5),
        (3.0 * (1 + 1e-12), 3 / 5),
        (3.0 * (1 + 1e-6), 2 / 5),
        (4.5, 1 / 5),
    ],
)
def test_p_counts_the_statistic_itself_and_every_tie(t, p):
    assert permutation.p_value(t, np.array([4.0, 1.0, 3.0, 2.0])) == pytest.approx(p)


@pytest.mark.parametrize(
    ("permutations", "alpha", "q"),
    [
        (19, 0.05, 19.0),
        (18, 0.05, np.inf),
        (99, 0.05, 95.0),
        (99, 0.29, 71.0),
        (99, 0.07, 93.0),
        (199, 0.05, 190.0),
        (198, 0.05, 190.0),
    ],
)
def test_critical_value_is_the_alpha_b_plus_one_th_largest(permutations, alpha, q):
    """Of |t*| = 1, 2 … B; 0.29 times 100 is 28.999999999999996 in floating point and 29 here."""
    assert (
        permutation.critical_value(np.random.default_rng(0).permutation(permutations) + 1.0, alpha)
        == q
    )


def test_too_few_permutations_for_alpha_give_an_endless_interval():
    assert permutation.critical_value(np.arange(10.0), 0.05) == np.inf
