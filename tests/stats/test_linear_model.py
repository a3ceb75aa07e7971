"""Rows, spline and design: against Harrell's equation, least squares and dense matrices."""

import numpy as np
import pytest
from dense_models import a_design, dense

from gradaudit.stats import (
    linear_model,
)


def test_columns_that_others_determine_are_left_out_and_change_nothing():
    codes, covariates, y = a_design(3)
    double = np.column_stack(
        [
            covariates[:, 0],
            covariates[:, 0] * 2 + 1,
            np.full(len(y), 7.0),
            covariates[:, 1:],
            (codes == 1) * 3.0,
        ]
    )
    plain, fit = linear_model.design(codes, covariates), linear_model.design(codes, double)
    assert fit.kept == (0, 3, 4, 5)
    np.testing.assert_allclose(fit.residuals(y), plain.residuals(y), atol=1e-11)
    np.testing.assert_allclose(
        plain.slopes(y), np.linalg.lstsq(dense(codes, covariates), y, rcond=None)[0][3:], rtol=1e-9
    )


def test_spline_is_straight_outside_and_smooth_inside():
    x = np.linspace(-3, 3, 2001)
    knots = np.array([-2.0, -0.5, 0.5, 2.0])
    bend = linear_model.spline_basis(x, knots)
    assert bend.shape == (2001, 3)
    second = np.diff(bend, 2, axis=0) / (x[1] - x[0]) ** 2
    outside = (x[1:-1] < -2.01) | (x[1:-1] > 2.01)
    assert np.abs(second[outside]).max() < 1e-6
    assert np.abs(np.diff(second, axis=0)).max() < 0.01  # the second derivative has no jump


def harrell(x, knots):
    """Equation 2.25 of Harrell 2015, value by value."""

    def third_power(v, t):
        return (v - t) ** 3 if v > t else 0.0

    first, before, last = knots[0], knots[-2], knots[-1]

    def bend(v, t):
        tails = third_power(v, before) * (last - t) / (last - before)
        tails -= third_power(v, last) * (before - t) / (last - before)
        return (third_power(v, t) - tails) / (last - first) ** 2

    return [[v, *(bend(v, t) for t in knots[:-2])] for v in x]


@pytest.mark.parametrize("knots", [(1, 2, 7), (1, 2, 7, 9.5), (0.5, 1, 3, 7, 9.5)])
def test_spline_with_any_number_of_knots_is_harrells_equation(knots):
    x = np.linspace(0, 11, 45)
    np.testing.assert_allclose(
        linear_model.spline_basis(x, np.array(knots, float)),
        harrell(x, knots),
        rtol=1e-10,
        atol=1e-12,
    )


def test_spline_bends_at_the_5_35_65_and_95_percent_points():
    """Points that lie between two values are interpolated between them."""
    x = np.array([0.0, 1.0, 2.5, 4.0, 7.0, 7.5, 9.0, 12.0, 20.0, 33.0])

    def point(share):
        place = share * (len(x) - 1)
        below = int(place)
        return x[below] + (place - below) * (x[below + 1] - x[below])

    knots = [point(share) for share in (0.05, 0.35, 0.65, 0.95)]
    np.testing.assert_allclose(linear_model.spline_basis(x), harrell(x, knots), rtol=1e-12)


def test_logit_moves_only_what_has_none():
    np.testing.assert_allclose(
        linear_model.logit(np.array([0.0, 1e-5, 0.25, 1.0])),
        [-np.log(1e6 - 1), -np.log(1e5 - 1), -np.log(3), np.log(1e6 - 1)],
    )


def test_spline_of_few_values_is_a_line_and_of_a_constant_nothing():
    assert linear_model.spline_basis(np.array([0.0, 1.0] * 20)).shape == (40, 1)
    assert linear_model.spline_basis(np.ones(5)).shape == (5, 0)
    assert linear_model.spline_basis(np.empty(0)).shape == (0, 0)
    assert np.isfinite(linear_model.logit(np.array([0.0, 0.5, 1.0]))).all()


def test_cluster_means_of_vector_and_matrix():
    codes = np.array([0, 1, 0, 1, 1])
    np.testing.assert_allclose(linear_model.cluster_means(np.arange(5.0), codes, 2), [1.0, 8 / 3])
    np.testing.assert_allclose(
        linear_model.cluster_means(np.arange(10.0).reshape(5, 2), codes, 2),
        [[2, 3], [16 / 3, 19 / 3]],
    )
