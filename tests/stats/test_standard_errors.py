"""HC2, CR2 and their degrees of freedom against n x n matrices, statsmodels and Welch."""

import numpy as np
import pytest
from dense_models import a_design, dense, dense_contrast
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS

from gradaudit.stats import (
    linear_model,
    standard_errors,
)


def test_estimate_hc2_and_degrees_of_freedom_equal_the_dense_formulas():
    codes, covariates, y = a_design()
    fit = linear_model.design(codes, covariates)
    x = dense(codes, covariates)
    for on_levels, on_slopes in (
        ((1.0, -0.25, -0.75), None),
        ((0.0, 1.0, -1.0), None),
        ((0.0, 0.0, 0.0), (0.0, 2.0, 0.0, 0.0)),
    ):
        w = fit.row_weights(
            np.array(on_levels), None if on_slopes is None else np.array(on_slopes)
        )[:, None]
        expected = dense_contrast(x, np.r_[on_levels, on_slopes or np.zeros(4)], y)
        found = (
            w[:, 0] @ y,
            np.sqrt(standard_errors.hc2(fit, fit.residuals(y), w)[0, 0]),
            standard_errors.bell_mccaffrey(fit, w)[0],
        )
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_hc2_equals_statsmodels_with_covariates_and_welch_without():
    codes, covariates, y = a_design(1, levels=2)
    contrast = np.array([-1.0, 1.0])
    fit = linear_model.design(codes, covariates)
    theirs = (
        OLS(y, dense(codes, covariates)).fit(cov_type="HC2").t_test(np.r_[contrast, np.zeros(4)])
    )
    w = fit.row_weights(contrast)[:, None]
    assert np.sqrt(standard_errors.hc2(fit, fit.residuals(y), w)[0, 0]) == pytest.approx(
        theirs.sd.item(), rel=1e-10
    )
    plain = linear_model.design(codes, np.empty((len(y), 0)))
    w = plain.row_weights(contrast)[:, None]
    welch = scipy_stats.ttest_ind(y[codes == 1], y[codes == 0], equal_var=False)
    assert (w[:, 0] @ y) / np.sqrt(
        standard_errors.hc2(plain, plain.residuals(y), w)[0, 0]
    ) == pytest.approx(welch.statistic, rel=1e-12)


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
    np.testing.assert_allclose(
        standard_errors.cr2(q, left @ y, w, clusters),
        (np.sqrt(variance), values.sum() ** 2 / (values**2).sum()),
        rtol=1e-10,
    )


def test_a_row_fitted_exactly_has_no_share_in_the_error():
    codes = np.r_[np.zeros(20, dtype=int), 1]
    fit = linear_model.design(codes, np.empty((21, 0)))
    assert standard_errors.leverage_factor(fit.leverage)[-1] == 0.0
    assert np.isfinite(
        standard_errors.hc2(
            fit, fit.residuals(np.arange(21.0)), fit.row_weights(np.array([-1.0, 1.0]))[:, None]
        )
    ).all()


def test_a_row_of_high_leverage_keeps_its_share_in_the_error():
    np.testing.assert_allclose(
        standard_errors.leverage_factor(np.array([0.0, 0.5, 0.95, 0.999, 1.0])),
        [1.0, 2.0, 20.0, 1000.0, 0.0],
    )
